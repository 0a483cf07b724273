"""The control socket: both sides, over a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest

from gateway.control import CLIENTS, NAME, Control, ask
from gateway.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


def _fail() -> None:
    raise RuntimeError("planted")


async def _later() -> list[int]:
    await asyncio.sleep(0)
    return [1, 2]


def _refuse() -> None:
    raise UsageError("worker 1 does not answer")


COMMANDS = {
    "status": lambda: {"lanes": [1, 2], "oldest": None},
    "ping": lambda: "here",
    "fail": _fail,
    "raw": lambda: b"not for JSON",
    "later": _later,
    "refuse": _refuse,
}


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    control = Control(tmp_path, COMMANDS)
    await control.start()
    yield control
    await control.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  the other end is behind a socket
            await asyncio.sleep(0)


async def asked(folder: Path, command: str) -> Any:
    return await asyncio.to_thread(ask, folder, command)


async def said(folder: Path, line: bytes) -> dict[str, Any]:
    """The answer to a raw line."""
    opened = os.open(folder, os.O_PATH)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{opened}/{NAME}")
    finally:
        os.close(opened)
    writer.write(line)
    writer.write_eof()
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_running_gateway_answers(control: Control, tmp_path: Path) -> None:
    assert await asked(tmp_path, "status") == {"lanes": [1, 2], "oldest": None}
    assert await asked(tmp_path, "ping") == "here"


async def test_a_command_may_take_its_time(control: Control, tmp_path: Path) -> None:
    assert await asked(tmp_path, "later") == [1, 2]


async def test_a_command_that_cannot_be_carried_out_says_why(
    control: Control, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UsageError, match="the running gateway: worker 1 does not answer"):
        await asked(tmp_path, "refuse")
    assert not caplog.records


async def test_several_processes_have_sockets_of_their_own(
    control: Control, tmp_path: Path
) -> None:
    other = Control(tmp_path, {"ping": lambda: "there"}, "control-1.sock")
    await other.start()
    assert await asyncio.to_thread(ask, tmp_path, "ping", "control-1.sock") == "there"
    assert await asked(tmp_path, "ping") == "here"
    await other.stop()
    assert await asyncio.to_thread(ask, tmp_path, "ping", "control-1.sock") is None


async def test_only_the_owner_may_ask(control: Control, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("length", [100, 107, 108, 109, 250, 1200])
async def test_a_long_folder_makes_no_difference(tmp_path: Path, length: int) -> None:
    """A socket's address holds 107 bytes; people's folders know nothing of it."""
    folder = tmp_path
    while len(str(folder)) < length:
        folder /= "x" * min(100, max(1, length - len(str(folder)) - 1))
    folder.mkdir(parents=True, exist_ok=True)
    control = Control(folder, COMMANDS)
    await control.start()
    assert (folder / NAME).is_socket()
    assert await asked(folder, "ping") == "here"
    await control.stop()
    assert not (folder / NAME).exists()


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    control = Control(tmp_path, COMMANDS)
    await control.start()
    assert await asked(tmp_path, "ping") == "here"
    await control.stop()
    await control.stop()
    assert await asked(tmp_path, "ping") is None
    assert len(os.listdir("/proc/self/fd")) == before


async def test_without_a_gateway_there_is_no_answer(tmp_path: Path) -> None:
    """None: also when a killed one has left its socket, or the folder is not there."""
    assert await asked(tmp_path, "ping") is None
    assert await asked(tmp_path / "nowhere", "ping") is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(tmp_path / NAME))
    assert await asked(tmp_path, "ping") is None


async def test_a_socket_that_a_killed_gateway_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(tmp_path / NAME))
    control = Control(tmp_path, COMMANDS)
    await control.start()
    assert await asked(tmp_path, "ping") == "here"
    await control.stop()


async def test_a_command_that_is_not_there(control: Control, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the running gateway: not understood: KeyError"):
        await asked(tmp_path, "reboot")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{\n",
        b"[]\n",
        b'{"command": []}\n',
        b'{"command": null}\n',
        b"\xff\n",
        b"[" * 60_000 + b"\n",
        b"x" * 70_000 + b"\n",
    ],
    ids=lambda line: line[:20],
)
async def test_what_is_no_command_is_answered_and_harms_nobody(
    control: Control, tmp_path: Path, line: bytes
) -> None:
    assert (await said(tmp_path, line))["error"].startswith("not understood")
    assert await asked(tmp_path, "ping") == "here"


@pytest.mark.parametrize("command", ["fail", "raw"])
async def test_a_command_that_fails_says_so(
    control: Control, tmp_path: Path, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The asker learns of it at once, the log has the traceback, and the next one is answered."""
    with pytest.raises(UsageError, match="the running gateway: failed: "):
        await asked(tmp_path, command)
    (record,) = caplog.records
    assert record.exc_info
    assert await asked(tmp_path, "ping") == "here"


async def test_many_ask_at_once(control: Control, tmp_path: Path) -> None:
    answers = await asyncio.gather(*(asked(tmp_path, "ping") for _ in range(50)))
    assert answers == ["here"] * 50


async def test_one_who_asks_nothing_keeps_nobody_waiting(control: Control, tmp_path: Path) -> None:
    _, silent = await asyncio.open_unix_connection(str(tmp_path / NAME))
    assert await asked(tmp_path, "ping") == "here"
    silent.close()
    await silent.wait_closed()


async def test_many_who_ask_nothing_keep_nobody_waiting(control: Control, tmp_path: Path) -> None:
    """They do not pile up either: the one that has been silent longest is hung up on."""
    before = len(os.listdir("/proc/self/fd"))
    silent = [await asyncio.open_unix_connection(str(tmp_path / NAME)) for _ in range(60)]
    assert await asked(tmp_path, "ping") == "here"
    assert await silent[0][0].read() == b""
    assert len(os.listdir("/proc/self/fd")) <= before + len(silent) + CLIENTS
    for _, writer in silent:
        writer.close()


async def test_one_who_does_not_read_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.control._ANSWER_WITHIN_S", 0.1)
    control = Control(tmp_path, {"much": lambda: "x" * (4 << 20)})
    await control.start()
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.connect(str(tmp_path / NAME))
        deaf.sendall(b'{"command": "much"}\n')
        await until(lambda: bool(control._served))
        await until(lambda: not control._served)
        assert len(os.listdir("/proc/self/fd")) == before + 1
    await control.stop()


async def test_without_descriptors_it_waits_and_says_so_once(
    control: Control, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            client.settimeout(10)
            await asyncio.to_thread(client.connect, f"{tmp_path}/{NAME}")
            await until(lambda: bool(caplog.records))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await asked(tmp_path, "ping") == "here"
    assert [record.message for record in caplog.records] == [
        "no command can be taken now: [Errno 24] Too many open files"
    ]


async def test_a_gateway_that_hangs_up_is_an_error(tmp_path: Path) -> None:
    """And not the same as none: something runs there."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    server = await asyncio.start_unix_server(hang_up, str(tmp_path / NAME))
    with pytest.raises(UsageError, match="runs but does not answer"):
        await asked(tmp_path, "ping")
    server.close()


async def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Not a directory"):
        await asked(tmp_path / "file", "ping")


async def test_what_cannot_be_replaced_is_explained(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(ConfigError, match=f"{NAME}: cannot be made .*directory.*; see to"):
        await Control(tmp_path, COMMANDS).start()
