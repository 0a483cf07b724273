"""The outbox in a process of its own that is killed, or whose disk is full."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from gateway.lane import Lane
from gateway.outbox.store import Store

if TYPE_CHECKING:
    from pathlib import Path

CHILD = textwrap.dedent(
    """
    import asyncio, os, sys
    from pathlib import Path
    from gateway.clock import SystemClock
    from gateway.lane import Lane
    from gateway.outbox.entry import Entry
    from gateway.outbox.store import Store
    from gateway.outbox.config import Config
    from gateway.outbox.writer import Writer

    path, first, size, settle = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

    async def main():
        failed = asyncio.get_running_loop().create_future()
        writer = Writer(lambda: Store(path), Config(), SystemClock())
        def committed(tokens):
            # What a node would see: one write a commit, only what is acknowledged.
            os.write(1, "".join(f"{t}\\n" for token in tokens for t in token).encode())
        def refused(tokens, error):
            if not failed.done():
                failed.set_result(error)
        await writer.start(on_committed=committed, on_refused=refused, on_failure=failed.set_result)
        n = first
        while not failed.done():
            for _ in range(5):
                burst = []
                for _ in range(7):
                    lane = Lane.EMERGENCY if n % 10 == 0 else Lane.ROUTINE
                    burst.append(Entry(n.to_bytes(16, "big"), lane, b"p" * 16, n, b"e" * 16,
                                       os.urandom(size), None))
                    n += 1
                try:
                    writer.submit(burst, [], [int.from_bytes(e.id, "big") for e in burst])
                except Exception:
                    break
            await asyncio.sleep(0)
            if settle == "settle" and not failed.done():
                try:
                    leased = await writer.lease(Lane.ROUTINE, 20, 1 << 20, now=0.0)
                except Exception:
                    break
                ids = [int.from_bytes(item.entry.id, "big") for item in leased]
                os.write(2, "".join(f"{id_}\\n" for id_ in ids).encode())
                writer.settle(Lane.ROUTINE, done=[l.number for l in leased])
        sys.exit(f"failed: {await failed!r}")

    asyncio.run(main())
    """
)


def child(
    path: Path,
    out: Path,
    err: Path,
    *,
    first: int,
    size: int = 300,
    settle: str = "",
    limit: int = 0,
) -> subprocess.Popen[bytes]:
    def small_disk() -> None:
        if limit:
            # A file that may not grow: what SQLite meets on a full partition.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with out.open("ab") as stdout, err.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(first), str(size), settle],
            stdout=stdout,
            stderr=stderr,
            preexec_fn=small_disk,
        )


def numbers(file: Path) -> set[int]:
    """Whole lines only: the last may be cut by the kill."""
    lines = file.read_bytes().split(b"\n")[:-1]
    return {int(line) for line in lines if line.isdigit()}


def stored(path: Path) -> set[int]:
    store = Store(path)
    assert store.lost == 0
    found: set[int] = set()
    for lane in Lane:
        entries, damaged = store.read(lane, 0, 1 << 62, 1 << 30, 1 << 40)
        assert damaged == []
        found |= {int.from_bytes(entry.id, "big") for _, entry in entries}
    store.close()
    return found


@pytest.mark.parametrize("settle", ["", "settle"])
def test_nothing_acknowledged_is_missing_after_kill_9(tmp_path: Path, settle: str) -> None:
    """The outbox is kept over the kills. What was handed out may be delivered or not."""
    path, out, err = tmp_path / "outbox.db", tmp_path / "out", tmp_path / "err"
    source = random.Random(7)
    for round_ in range(8):
        process = child(path, out, err, first=round_ * 10_000_000 + 1, settle=settle)
        seen = len(numbers(out)) if out.exists() else 0
        deadline = time.monotonic() + 20
        while len(numbers(out)) < seen + 200 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(source.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        acknowledged, handed_out = numbers(out), numbers(err)
        assert len(acknowledged) >= seen + 200, err.read_text()[-2000:]
        assert acknowledged - stored(path) - handed_out == set()
        if not settle:
            assert acknowledged <= stored(path)


def test_a_full_disk_acknowledges_nothing_that_is_not_there(tmp_path: Path) -> None:
    path, out, err = tmp_path / "outbox.db", tmp_path / "out", tmp_path / "err"
    process = child(path, out, err, first=1, limit=2 << 20)
    assert process.wait(60) == 1, "the child ends with the first that is refused"
    assert b"failed: " in err.read_bytes()
    acknowledged = numbers(out)
    assert len(acknowledged) > 100
    assert acknowledged <= stored(path), "room or not, it opens again"
