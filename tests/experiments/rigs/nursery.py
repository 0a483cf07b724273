"""Gateways that are born in a tenth of a second: forked from a process that has imported it all.

What is forked is the command line as it would be, with its own arguments, environment and streams;
only the half second of importing is saved. Kills by the thousand would take twice as long without.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ANSWER_S = 20.0


class Born:
    """A child of the nursery, as far as a ward uses a Popen."""

    def __init__(self, nursery: Nursery, pid: int, out: int) -> None:
        self._nursery = nursery
        self._end = os.pidfd_open(pid)
        self.pid = pid
        self.stdout = os.fdopen(out, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """None while it lives."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("gateway", timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], timeout)[0]:
            os.close(self._end)
            self.stdout.close()
            self.returncode = self._nursery.reap(self.pid)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """One process; :meth:`bear` as often as needed."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.settimeout(_ANSWER_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__)), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
            )

    def bear(self, words: list[str], *, environment: Mapping[str, str], log: Path) -> Born:
        """``words``: of the command line, after the path of a script, or nothing, to run it by."""
        out, theirs = os.pipe()
        with log.open("ab") as errors:
            order = {"words": words, "environment": dict(environment)}
            socket.send_fds(self._line, [json.dumps(order).encode()], [theirs, errors.fileno()])
        os.close(theirs)
        return Born(self, self._answer(), out)

    def reap(self, pid: int) -> int:
        """The exit code, as a Popen has it."""
        self._line.send(json.dumps({"reap": pid}).encode())
        return self._answer()

    def _answer(self) -> int:
        return int(self._line.recv(64))

    def close(self) -> None:
        self._line.close()
        self._process.wait(_ANSWER_S)


@contextlib.contextmanager
def a_nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    try:
        yield nursery
    finally:
        nursery.close()


def _serve(line: socket.socket) -> None:
    while True:
        data, descriptors, *_ = socket.recv_fds(line, 1 << 16, 2)
        if not data:
            return
        order = json.loads(data)
        if "reap" in order:
            _, status = os.waitpid(order["reap"], 0)
            line.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if not pid:
            line.close()
            _live(order, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        line.send(str(pid).encode())


def _live(order: dict[str, Any], out: int, errors: int) -> NoReturn:
    code: Any = 1
    try:
        os.dup2(out, 1)
        os.dup2(errors, 2)
        os.environ.clear()
        os.environ.update(order["environment"])
        script, *sys.argv[1:] = order["words"]
        if script:
            runpy.run_path(script, run_name="__main__")
        else:
            sys.exit(main())
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    import gateway.app
    import gateway.workers.supervisor  # noqa: F401  so that it is here when it is wanted
    from gateway.cli import main
    from gateway.cli import service as service

    _serve(socket.socket(fileno=int(sys.argv[1])))
