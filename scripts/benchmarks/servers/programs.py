"""Starting the programs of ``peers/``: the peers' own, and the store that they post to."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from servers import ending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PEERS = Path(__file__).parents[1] / "peers"


@contextlib.contextmanager
def program(
    words: Sequence[str], folder: Path | None = None
) -> Iterator[tuple[psutil.Process, str]]:
    """A process that says a line when it listens; yields it and the line. Raises SystemExit.

    folder: its current one, unless it may be this one's.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, cwd=folder)
        with ending(process):
            assert process.stdout is not None
            line = process.stdout.readline().decode().strip()
            if not line:
                log.seek(0)
                raise SystemExit(f"{words} did not start:\n{log.read().decode()}")
            yield psutil.Process(process.pid), line


@contextlib.contextmanager
def python_peer(name: str, *arguments: str) -> Iterator[tuple[psutil.Process, str]]:
    """A program of ``peers/``, by this interpreter."""
    with program([sys.executable, str(PEERS / name), *arguments]) as started:
        yield started


@contextlib.contextmanager
def peers_store() -> Iterator[str]:
    """The store that peers post to, with a file on the disk of the current folder (/tmp may be
    memory). Yields the address to post to."""
    with (
        tempfile.TemporaryDirectory(prefix="ward-gateway-bench-", dir=os.getcwd()) as folder,
        python_peer("store.py", "0", str(Path(folder) / "records")) as (_, port),
    ):
        yield f"http://127.0.0.1:{port}/records"
