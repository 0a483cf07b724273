"""The control socket: how the command line asks a running gateway.

One JSON object a line each way over a Unix socket in the state folder, which only the gateway's
user may enter. The outbox has a single connection and is locked while the gateway runs, so a
command that wants to know asks here.

A socket's address holds 107 bytes of path, and a folder's may be longer: both sides open the folder
and say ``/proc/self/fd/N`` for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import GatewayError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger("control")

NAME: Final = "control.sock"
_LONGEST_LINE: Final = 1 << 16
_ANSWER_WITHIN_S: Final = 5.0

Commands = dict[str, "Callable[[], Any]"]
"""Command name -> function that gives, or a coroutine function that returns, what ``json`` can
write."""


class Control:
    """The server side, in the gateway's event loop."""

    def __init__(self, folder: Path, commands: Commands, name: str = NAME) -> None:
        self._folder = folder
        self._name = name
        self._path = folder / name
        self._commands = commands
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. A socket left behind by a killed gateway is replaced: the outbox is locked, so
        no other gateway can be alive in this folder."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        # Open for as long as the server is: asyncio looks at the address again when it closes.
        self._opened = os.open(self._folder, os.O_PATH | os.O_CLOEXEC)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.bind(_address(self._opened, self._name))
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=one, limit=_LONGEST_LINE
            )
        except BaseException:
            one.close()
            os.close(self._opened)
            raise

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
            os.close(self._opened)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await self._answer(reader)
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            line = await asyncio.wait_for(reader.readline(), _ANSWER_WITHIN_S)
            command = self._commands[json.loads(line)["command"]]
        except (TimeoutError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            return {"error": f"not understood: {error!r}"}
        try:
            result = command()
            answer = {"result": await result if inspect.isawaitable(result) else result}
            json.dumps(answer)
        except GatewayError as error:
            return {"error": str(error)}
        except Exception as error:
            _log.exception("a command has failed because of a bug in the gateway")
            return {"error": f"failed: {error!r}"}
        return answer


def ask(folder: Path, command: str, name: str = NAME) -> Any:  # noqa: ANN401 -- whatever JSON came
    """What the running gateway answers; None when none is running. ``name``: of its socket.

    Raises UsageError when it runs and does not answer, or may not be asked.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(_ANSWER_WITHIN_S)
        try:
            opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            try:
                one.connect(_address(opened, name))
            finally:
                os.close(opened)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise UsageError(f"{folder / name}: {error}; are you the gateway's user?") from None
        try:
            one.sendall(json.dumps({"command": command}).encode() + b"\n")
            with one.makefile("rb") as file:
                answer = json.loads(file.readline())
        except (OSError, ValueError) as error:
            raise UsageError(f"the gateway of {folder} runs but does not answer: {error}") from None
    if "error" in answer:
        raise UsageError(f"the running gateway: {answer['error']}")
    return answer["result"]


def _address(folder: int, name: str) -> str:
    """The socket's path, well below 107 bytes; ``folder``: a descriptor of its folder."""
    return f"/proc/self/fd/{folder}/{name}"
