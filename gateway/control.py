"""The control socket: how the command line asks a running gateway.

One JSON object a line each way over a Unix socket in the state folder, which only the gateway's
user may enter. The outbox has a single connection and is locked while the gateway runs, so a
command that wants to know asks here.

A client costs a descriptor, and there are few: at most :data:`CLIENTS` are served at a time, the
rest wait in the kernel, and when nobody gets done the one that has taken longest is hung up on.
Without descriptors nobody is served; that is said once a minute, and ends by itself.

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

from gateway.errors import ConfigError, GatewayError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger("control")

NAME: Final = "control.sock"
_LONGEST_LINE: Final = 1 << 16
_ANSWER_WITHIN_S: Final = 5.0

CLIENTS: Final = 8
"""Served at a time."""

_PATIENCE_S: Final = 0.02
"""How long one more client waits for one of these to be done: an honest one takes milliseconds."""

_BACKLOG: Final = 100
_PAUSE_S: Final = 1.0
_COMPLAIN_EVERY_S: Final = 60.0

Commands = dict[str, "Callable[..., Any]"]
"""Command name -> function that gives, or a coroutine function that returns, what ``json`` can
write. Its arguments come by name."""


class Control:
    """The server side, in the gateway's event loop."""

    def __init__(self, folder: Path, commands: Commands, name: str = NAME) -> None:
        self._folder = folder
        self._name = name
        self._path = folder / name
        self._commands = commands
        self._listening: asyncio.Task[None] | None = None
        self._served: dict[asyncio.Task[None], None] = {}
        """In the order in which they came."""

    async def start(self) -> None:
        """Listen. A socket left behind by a killed gateway is replaced: the outbox is locked, so
        no other gateway can be alive in this folder. Raises ConfigError."""
        try:
            one = self._open()
        except OSError as error:
            raise ConfigError(
                [f"{self._path}: cannot be made ({error.strerror}); see to its folder and disk"]
            ) from None
        self._listening = asyncio.create_task(self._listen(one), name="control")

    def _open(self) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        opened = os.open(self._folder, os.O_PATH | os.O_CLOEXEC)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            one.setblocking(False)
            one.bind(_address(opened, self._name))
            self._path.chmod(0o600)
            one.listen(_BACKLOG)
        except BaseException:
            one.close()
            raise
        finally:
            os.close(opened)
        return one

    async def stop(self) -> None:
        """Stop listening, and hang up on those who are being served."""
        if self._listening is not None:
            tasks = [self._listening, *self._served]
            self._listening = None
            self._path.unlink(missing_ok=True)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, one: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        complain_at = 0.0
        with one:
            while True:
                if len(self._served) >= CLIENTS:
                    await self._make_room()
                try:
                    client, _ = await loop.sock_accept(one)
                except OSError as error:
                    if loop.time() >= complain_at:
                        complain_at = loop.time() + _COMPLAIN_EVERY_S
                        _log.warning("no command can be taken now: %s", error)
                    await asyncio.sleep(_PAUSE_S)
                    continue
                task = asyncio.create_task(self._serve(client), name="control client")
                self._served[task] = None
                task.add_done_callback(self._served.pop)

    async def _make_room(self) -> None:
        await asyncio.wait(self._served, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if len(self._served) >= CLIENTS:
            slowest = next(iter(self._served))
            slowest.cancel()
            await asyncio.wait([slowest])

    async def _serve(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=client, limit=_LONGEST_LINE)
        try:
            answer = await self._answer(reader)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    writer.write(json.dumps(answer).encode() + b"\n")
                    writer.close()
                    await writer.wait_closed()
        finally:
            # Also of one that does not read: what it was not sent yet would wait for ever.
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            line = await asyncio.wait_for(reader.readline(), _ANSWER_WITHIN_S)
            asked = json.loads(line)
            command, arguments = self._commands[asked["command"]], dict(asked.get("arguments", {}))
        except (TimeoutError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            return {"error": f"not understood: {error!r}"}
        try:
            result = command(**arguments)
            answer = {"result": await result if inspect.isawaitable(result) else result}
            json.dumps(answer)
        except GatewayError as error:
            return {"error": str(error)}
        except Exception as error:
            _log.exception("a command has failed because of a bug in the gateway")
            return {"error": f"failed: {error!r}"}
        return answer


def ask(
    folder: Path,
    command: str,
    name: str = NAME,
    **arguments: Any,  # noqa: ANN401 -- what JSON can write
) -> Any:  # noqa: ANN401 -- whatever JSON came
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
            one.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
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
