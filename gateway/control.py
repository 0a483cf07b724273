"""The control socket: how the command line asks a running gateway.

One JSON object a line each way over a Unix socket in the state folder, which only the gateway's
user may enter. The outbox has a single connection and is locked while the gateway runs, so a
command that wants to know asks here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME: Final = "control.sock"
_LONGEST_LINE: Final = 1 << 16
_ANSWER_WITHIN_S: Final = 5.0

Commands = dict[str, "Callable[[], Any]"]
"""Command name -> function that gives what ``json`` can write."""


class Control:
    """The server side, in the gateway's event loop."""

    def __init__(self, folder: Path, commands: Commands) -> None:
        self._path = folder / NAME
        self._commands = commands
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A socket left behind by a killed gateway is replaced: the outbox is locked, so
        no other gateway can be alive in this folder."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._server = await asyncio.start_unix_server(
            self._serve, str(self._path), limit=_LONGEST_LINE
        )
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _ANSWER_WITHIN_S)
            command = json.loads(line)["command"]
            answer = {"result": self._commands[command]()}
        except (TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            answer = {"error": f"not understood: {error!r}"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()


def ask(folder: Path, command: str) -> Any:  # noqa: ANN401 -- whatever JSON came
    """What the running gateway answers; None when none is running.

    Raises UsageError when it runs and does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(_ANSWER_WITHIN_S)
        try:
            one.connect(str(folder / NAME))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            one.sendall(json.dumps({"command": command}).encode() + b"\n")
            with one.makefile("rb") as file:
                answer = json.loads(file.readline())
        except (OSError, ValueError) as error:
            raise UsageError(f"the gateway of {folder} runs but does not answer: {error}") from None
    if "error" in answer:
        raise UsageError(f"the running gateway: {answer['error']}")
    return answer["result"]
