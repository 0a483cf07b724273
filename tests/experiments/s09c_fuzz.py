"""Coverage-guided fuzzing of every function that reads a peer's bytes."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.experiments import Experiment, Found, Run, register
from tests.experiments.rigs.fuzz_targets import CORPUS, TARGETS

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 2048
_PROGRAM = "tests.experiments.rigs.fuzz"


def _corpus(folder: Path) -> Path:
    """Seeds and kept inputs of all targets, each behind its target's number."""
    folder.mkdir()
    for place, (name, target) in enumerate(TARGETS.items()):
        kept = [one.read_bytes() for one in (CORPUS / name).glob("*")]
        for data in (*target.seeds, *kept):
            behind = bytes((place,)) + data
            (folder / hashlib.sha256(behind).hexdigest()[:16]).write_bytes(behind)
    return folder


def _run(run: Run) -> Found:
    corpus = _corpus(run.folder / "corpus")
    command = [
        *(sys.executable, "-m", _PROGRAM, "plain" if run.fault is None else "planted"),
        *(f"-runs={run.runs}", f"-seed={run.seed}", f"-max_len={_MAX_BYTES}"),
        *(f"-artifact_prefix={run.folder}/", "-rss_limit_mb=1024", "-timeout=5", str(corpus)),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    said = []
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line.rstrip())
        done = re.match(r"#(\d+)\s", line)
        if done:
            run.progress(min(int(done[1]), run.runs))
    code = process.wait()
    process.stderr.close()
    text = "\n".join(said)
    failures = []
    if code:
        broken = re.search(r"BROKEN (\S+) (\S*)", text)
        words = f"target {broken[1]}, input {broken[2]}" if broken else text[-600:]
        failures.append(f"exit code {code}: {words}")
    coverage = re.findall(r"cov: (\d+)", text)
    inputs = len(list(corpus.iterdir()))
    return Found(
        failures,
        {
            "targets": len(TARGETS),
            "inputs kept": inputs,
            "edges": int(coverage[-1]) if coverage else 0,
        },
    )


def _missing() -> str | None:
    found = importlib.util.find_spec("atheris")
    return None if found else "atheris (`pip install atheris`; x86-64 only)"


register(
    Experiment(
        id="S-09c",
        name="fuzz",
        target="no exception but PeerError, nothing read otherwise than written, <= 5 s and 1 GiB",
        unit="inputs",
        short=2_000,
        long=20_000_000,
        run=_run,
        faults={"not-text": "texts in COSE plaintexts are not checked for UTF-8"},
        fault_runs=20_000,
        needs=_missing,
    )
)
