"""The command line: where options stand, exit codes, and what is printed where."""

from __future__ import annotations

import argparse
import json
import re
import socket
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main, nodes, parser, queue
from gateway.cli.output import table
from gateway.dtls.credentials import Identity
from gateway.node.link import parse_uri
from gateway.provision import make_ward

COMMANDS = [
    ["init", "DIR"],
    ["check"],
    ["run"],
    ["device", "add", "b1"],
    ["device", "list"],
    ["device", "show", "b1"],
    ["device", "revoke", "b1"],
    ["recipient", "add", "anna", "--role", "doctor"],
    ["recipient", "list"],
    ["read", "--as", "doctor"],
    ["outbox", "status"],
    ["outbox", "list"],
    ["outbox", "retry", "2:17"],
    ["outbox", "drop", "17"],
    ["outbox", "export", "FILE"],
    ["alarm", "list"],
    ["simulate", "--gateway", "coaps://h"],
    ["send", "coaps://h/v", "--psk-identity", "i", "--psk-key", "k"],
    ["config", "show"],
    ["config", "schema"],
    ["cloud", "run"],
    ["version"],
    ["demo"],
]


class Shell:
    """Runs commands in this process, in a ward's folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def run(self, *argv: str) -> tuple[int, str, str]:
        code = main(argv)
        out, err = self.capsys.readouterr()
        return code, out, err

    def prints(self, *argv: str) -> str:
        code, out, err = self.run(*argv)
        assert (code, err) == (0, "")
        return out

    def gives(self, *argv: str) -> Any:
        return json.loads(self.prints("--json", *argv))

    def fails(self, *argv: str) -> str:
        code, out, err = self.run(*argv)
        assert (code, out) == (1, "")
        assert err.startswith("ward-gateway: ")
        return err


@pytest.fixture
def shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    make_ward(tmp_path / "ward", ward="Ward 7", cloud_url=None, port_base=20_000, wall=time.time())
    monkeypatch.chdir(tmp_path / "ward")
    monkeypatch.delenv("COLUMNS", raising=False)
    return Shell(tmp_path / "ward", capsys)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_options_stand_before_or_behind_any_command(command: list[str]) -> None:
    parse = parser([]).parse_args
    for given in (
        ["--json", "--config", "x.toml", *command],
        ["--json", *command, "--config", "x.toml"],
        ["--config", "x.toml", *command, "--json"],
        [*command, "--json", "--config", "x.toml"],
        [command[0], "--json", "--config", "x.toml", *command[1:]],
    ):
        args = parse(given)
        assert (args.json, args.config) == (True, Path("x.toml")), given
    args = parse(command)
    assert (args.json, args.config) == (False, None)
    assert callable(args.run)


def test_the_nearest_of_two_options_counts() -> None:
    args = parser([]).parse_args(["--config", "a.toml", "device", "list", "--config", "b.toml"])
    assert args.config == Path("b.toml")


def _documented() -> list[str]:
    """The commands, as they are registered, each with its actions."""
    found = []
    top = parser([])._subparsers  # argparse has no public way to its commands
    assert top is not None
    for action in top._group_actions:
        for name, one in action.choices.items():  # type: ignore[union-attr]
            inner = one._subparsers
            names = inner._group_actions[0].choices if inner is not None else [""]
            found += [f"{name} {action}".strip() for action in names]
    return found


def test_every_command_is_tried_here() -> None:
    tried = {" ".join(command[:2]) for command in COMMANDS} | {command[0] for command in COMMANDS}
    assert set(_documented()) <= tried


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["device"],
        ["device", "add"],
        ["device", "list", "--nonsense"],
        ["recipient", "add", "anna"],
        ["recipient", "add", "anna", "--role", "nurse"],
        ["send", "coaps://h/v"],
        ["demo", "--nodes", "many"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_understood_is_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: ward-gateway")


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "first steps:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        ["device", "list"],
        ["run"],
        ["check"],
        ["config", "show"],
        ["outbox", "status"],
        ["cloud", "run"],
    ],
    ids=" ".join,
)
def test_a_bad_configuration_is_78_and_names_every_problem(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[nonsense]\n[more]\n")
    assert main([*argv, "--config", str(path)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.split("\n") if line]
    assert len(lines) >= 2
    assert all(line.startswith(f"ward-gateway: {path}: ") for line in lines)


def test_no_configuration_is_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["device", "list"]) == 78
    assert "`ward-gateway init DIR` makes one" in capsys.readouterr().err


def test_a_variable_that_is_wrong_is_78(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARD_GATEWAY_CLOUD__URI", "https://x")
    code, _, err = shell.run("device", "list")
    assert code == 78
    assert "did you mean WARD_GATEWAY_CLOUD__URL?" in err


def test_a_device_from_its_entry_to_its_end(shell: Shell) -> None:
    assert "`ward-gateway device add ID`" in shell.prints("device", "list")
    added = shell.gives("device", "add", "b1", "--patient", "P1")
    assert set(added) == {"id", "patient", "identity", "key", "key_hex"}
    assert added["identity"] == "b1"
    assert bytes.fromhex(added["key_hex"]).decode() == added["key"]
    assert len(added["key"]) == 16
    (row,) = shell.gives("device", "list")
    assert (row["id"], row["patient"], row["revoked"], row["lenient_units"]) == (
        "b1",
        "P1",
        None,
        False,
    )
    assert shell.gives("device", "show", "b1") == row
    assert "is there already" in shell.fails("device", "add", "b1")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shell.gives("device", "revoke", "b1")["revoked"]
    )
    assert "no device 'b2'" in shell.fails("device", "show", "b2")
    assert "no device 'b2'" in shell.fails("device", "revoke", "b2")


def test_a_key_of_ones_own(shell: Shell) -> None:
    added = shell.gives("device", "add", "b1", "--psk", "00ff", "--lenient-units")
    assert (added["key_hex"], added["key"], added["patient"]) == ("00ff", None, "b1")
    assert shell.gives("device", "show", "b1")["lenient_units"] is True
    assert "not hexadecimal" in shell.fails("device", "add", "b2", "--psk", "0xzz")
    assert "1 to 64 bytes" in shell.fails("device", "add", "b2", "--psk", "")


def test_a_key_is_shown_once(shell: Shell) -> None:
    out = shell.prints("device", "add", "b1")
    key = re.search(r"^key +(\w{16})$", out, re.MULTILINE)
    assert key is not None
    assert "The key is not shown again." in out
    assert key[1] not in shell.prints("device", "list") + shell.prints("device", "show", "b1")


@pytest.mark.parametrize("roster", ["device", "recipient"])
def test_a_list_fits_into_80_columns_and_shortens_nothing_usual(shell: Shell, roster: str) -> None:
    """Dates without the time of day, which JSON keeps."""
    shell.prints("device", "add", "bracelet-0123456789", "--patient", "patient-0123456789")
    shell.prints("device", "revoke", "bracelet-0123456789")
    lines = shell.prints(roster, "list").split("\n")
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    row = shell.gives(roster, "list")[0]
    assert f" {row['added'][:10]} " in lines[2] + " "
    assert row["added"].endswith("Z")


def test_recipients(shell: Shell) -> None:
    names = [row["name"] for row in shell.gives("recipient", "list")]
    assert names == ["admin", "alarm-centre", "auditor", "doctor", "patient"]
    added = shell.gives("recipient", "add", "anna", "--role", "patient", "--patient", "P1")
    assert (added["patients"], added["lanes"]) == (["P1"], ["emergency", "routine"])
    profile = Path(added["profile"])
    assert profile == shell.folder / "recipients" / "anna"
    assert tomllib.loads((profile / "profile.toml").read_text())["profile"]["role"] == "patient"
    wider = shell.gives("recipient", "add", "anna", "--role", "patient", "--patient", "P2")
    assert wider["patients"] == ["P1", "P2"]
    everybody = shell.gives("recipient", "add", "doctor", "--role", "doctor", "--patient", "P1")
    assert everybody["patients"] == ["*"]
    assert "is there already" in shell.fails("recipient", "add", "anna", "--role", "doctor")
    assert "Move the profile" in shell.prints("recipient", "add", "ben", "--role", "doctor")


def test_a_new_ward_can_be_used_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    assert main(["init", str(folder), "--ward", "Seven", "--port-base", "30000"]) == 0
    assert f"ward-gateway run --config {folder}/gateway.toml" in capsys.readouterr().out
    assert main(["device", "list", "--config", str(folder / "gateway.toml")]) == 0
    assert main(["init", str(folder)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert main(["init", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coaps_port"] == 5684


def test_what_is_in_force(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARD_GATEWAY_EPOCHS__MINUTES", "5")
    rows = {row["key"]: row for row in shell.gives("config", "show")}
    ours = {"gateway.ward", "coap.listen", "console.listen", "cloud.url"}
    assert set(rows) == {*ours, "epochs.minutes"}
    assert rows["epochs.minutes"]["value"] == 5
    every = shell.gives("config", "show", "--effective")
    assert len(every) > len(rows)
    assert max(map(len, shell.prints("config", "show", "--effective").split("\n"))) <= 80
    assert json.loads(shell.prints("config", "schema"))["title"]


def test_versions_of_everything(shell: Shell) -> None:
    found = shell.gives("version")
    assert {"ward-gateway", "python", "openssl", "sqlite", "aiocoap", "cryptography"} <= set(found)
    assert all(found.values())


def test_what_needs_a_running_gateway_says_so(shell: Shell) -> None:
    assert "the gateway is not running" in shell.fails("alarm", "list")
    assert "no outbox yet; `ward-gateway run` makes it" in shell.fails("outbox", "status")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["send", "coap://h/v", "--psk-identity", "i", "--psk-key", "k"], "must be coaps://"),
        (["send", "coaps://h/v", "--psk-identity", "i", "--psk-key", "0xz"], "not hexadecimal"),
        (["send", "coaps://h/v", "@nowhere", "--psk-identity", "i", "--psk-key", "k"], "nowhere"),
        (["simulate", "--gateway", "coaps://h", "--speed", "0"], "--speed above 0"),
        (["simulate", "--gateway", "coaps://h", "--loss", "1"], "--loss from 0"),
        (["simulate", "--gateway", "coaps://h", "--node-file", "nowhere"], "No such file"),
        (["send", "coaps://127.0.0.1:1/v", "--psk-identity", "i", "--psk-key", "k"], "127.0.0.1:1"),
        (["demo", "--nodes", "0"], "--nodes must be 1 to 500"),
        (["device", "add", "a/b"], "device id"),
    ],
)
def test_what_cannot_be_done_is_1(shell: Shell, argv: list[str], words: str) -> None:
    assert words in shell.fails(*argv)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no devices in it"),
        ("{", "not a node file"),
        ('{"id": "b1"}', "each device has id, and key_hex or cert"),
        ("[1]", "each device has id, and key_hex or cert"),
        ('{"id": "b1", "key_hex": "zz"}', "not a node file"),
    ],
)
def test_a_node_file_that_is_none(shell: Shell, content: str, words: str) -> None:
    path = shell.folder / "nodes"
    path.write_text(content)
    argv = ["simulate", "--gateway", "coaps://h", "--node-file", str(path)]
    error = shell.fails(*argv)
    assert words in error
    assert "Error(" not in error


def test_what_device_add_prints_is_a_node_file(shell: Shell) -> None:
    printed = [shell.prints("--json", "device", "add", name) for name in ("b1", "b2")]
    path = shell.folder / "nodes"
    for content in ("".join(printed), "\n".join(json.dumps(json.loads(one)) for one in printed)):
        path.write_text(content)
        found = nodes._from_file(path)
        assert [node.id for node in found] == ["b1", "b2"]
        keys = [bytes.fromhex(json.loads(one)["key_hex"]) for one in printed]
        assert [node.proof for node in found] == keys


def test_what_device_add_prints_of_a_certificate_is_a_node_file(shell: Shell) -> None:
    printed = shell.gives("device", "add", "b1", "--cert")
    path = shell.folder / "nodes"
    path.write_text(json.dumps(printed))
    (node,) = nodes._from_file(path)
    assert node.id == "b1"
    assert isinstance(node.proof, Identity)
    assert node.proof.certificate.public_key() == node.proof.key.public_key()
    # paths may start at the file
    near = {key: str(Path(printed[key]).relative_to(path.parent)) for key in ("cert", "key", "ca")}
    path.write_text(json.dumps(printed | near))
    (again,) = nodes._from_file(path)
    assert isinstance(again.proof, Identity)
    assert again.proof.certificate == node.proof.certificate
    other = shell.gives("device", "add", "b2", "--cert")
    path.write_text(json.dumps(printed | {"key": other["key"]}))
    error = shell.fails("simulate", "--gateway", "coaps://h", "--node-file", str(path))
    assert "is not the certificate of" in error


def test_a_device_with_a_certificate(shell: Shell) -> None:
    added = shell.gives("device", "add", "b1", "--patient", "P1", "--cert")
    assert set(added) == {"id", "patient", "identity", "cert", "key", "ca"}
    for name in ("cert", "key", "ca"):
        assert Path(added[name]).is_absolute()
        assert Path(added[name]).is_file()
    assert Path(added["key"]).stat().st_mode & 0o077 == 0
    shown = shell.gives("device", "show", "b1")
    assert (shown["patient"], shown["revoked"]) == ("P1", None)
    assert re.fullmatch("[0-9a-f]{64}", shown["certificate"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shown["expires"])
    assert "is there already" in shell.fails("device", "add", "b1", "--cert")
    assert "one is its private key" in shell.prints("device", "add", "b2", "--cert")


def test_check_warns_of_certificates_that_end(shell: Shell) -> None:
    def found() -> tuple[str, str]:
        _, out, _ = shell.run("--json", "check")
        (row,) = (row for row in json.loads(out) if row["check"] == "devices")
        return row["result"], row["detail"]

    shell.prints("device", "add", "b1", "--cert")
    assert found() == ("ok", "no certificate ends soon")
    roster = shell.folder / "state" / "devices.json"
    content = json.loads(roster.read_text())
    content["entries"]["b1"]["expires"] = "2026-01-02T03:04:05Z"
    roster.write_text(json.dumps(content))
    result, detail = found()
    assert result == "warning"
    assert "b1 (2026-01-02)" in detail


def test_a_certificate_that_comes_back_is_another(shell: Shell) -> None:
    added = shell.gives("device", "add", "b1", "--cert")
    first = Path(added["cert"]).read_bytes()
    shell.prints("device", "revoke", "b1")
    assert shell.gives("device", "add", "b1", "--cert") == added
    assert Path(added["cert"]).read_bytes() != first


def test_a_key_that_nobody_entered_is_not_overwritten(shell: Shell) -> None:
    """As after a roster from an old backup: the node may still have that key."""
    added = shell.gives("device", "add", "b1", "--cert")
    (shell.folder / "state" / "devices.json").unlink()
    assert "there is a key already" in shell.run("device", "add", "b1", "--cert")[2]
    assert Path(added["key"]).is_file()


def test_a_bracelet_with_a_certificate_is_simulated_by_its_files(shell: Shell) -> None:
    shell.prints("device", "add", "sim-1", "--cert")
    error = shell.fails("simulate", "--gateway", "coaps://127.0.0.1:1", "--nodes", "1")
    assert "'sim-1' has a certificate: name its files by --node-file" in error


def test_a_key_and_a_certificate_are_too_much(shell: Shell) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["device", "add", "b1", "--psk", "00ff", "--cert"])
    assert ended.value.code == 2
    assert "not allowed with" in shell.capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("tlsv1 alert decrypt error", "[::1]:5684 does not know this identity with this key"),
        ("[Errno 111] Connection refused", "[::1]:5684: no gateway listens there"),
        ("no answer", "[::1]:5684: no answer"),
        ("::1:5684: unknown suite", "::1:5684: unknown suite"),
    ],
)
def test_why_there_is_no_connection(reason: str, shown: str) -> None:
    assert nodes._unopened(reason, parse_uri("coaps://[::1]/v")).startswith(shown)


def test_why_nothing_is_delivered_stands_below_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reason = "https://cloud.example:9443: the store cannot be reached, " + "and so on " * 9
    lane = {"rows": 1, "size": 447, "oldest_ms": 0, "delivered": 2, "refused": 0}
    figures = {"size": 447, "max_bytes": 1 << 30, "reserve_bytes": 1 << 26, "dead": 0}
    outbox = figures | {"lanes": {"routine": lane}, "damaged": 0, "lost": 0, "notice": ""}
    delivery = {"routine": {"state": "backing off", "failure": reason}}
    queue._tell(argparse.Namespace(json=False), outbox, delivery)
    lines = capsys.readouterr().out.split("\n")
    assert lines[2].endswith("backing off")
    assert max(len(line) for line in lines if not line.startswith("routine: ")) <= 80
    assert f"routine: {reason}" in lines
    queue._tell(argparse.Namespace(json=True), outbox, delivery)
    assert json.loads(capsys.readouterr().out)[0]["delivery"] == reason


def test_an_alarm_fits_into_80_columns_with_its_time() -> None:
    alarm = {
        "id": "01a1fce8652470008030faa4eb26ad52",
        "patient": "P1",
        "device": "bracelet-1",
        "rule": "declared",
        "priority": "emergency",
        "detail": "no heartbeat for 4.2 s",
        "raised": "2026-11-21T07:00:51Z",
    }
    lines = table([queue._short(alarm)], 80, wrapped="detail").split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith("11-21 07:00:51  P1")
    assert "…" not in "".join(lines)


def test_a_command_that_is_interrupted_is_130(
    monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    """As shells count a SIGINT."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tomllib, "loads", interrupted)
    assert shell.run("device", "list") == (130, "", "")


def test_a_file_may_be_named_like_a_command() -> None:
    words = ["--config", "demo", "device", "list"]
    assert parser(words).parse_args(words).config == Path("demo")


def test_a_cloud_store_that_is_away_and_a_console_in_the_way_are_no_failures(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway starts without either, so nothing that asks `check` first may keep it from it."""
    monkeypatch.setenv("WARD_GATEWAY_CLOUD__URL", "https://127.0.0.1:1")
    monkeypatch.setenv("WARD_GATEWAY_COAP__LISTEN", "127.0.0.1:0")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("WARD_GATEWAY_CONSOLE__LISTEN", f"127.0.0.1:{other.getsockname()[1]}")
        code, out, _ = shell.run("--json", "check")
    rows = {row["check"]: row for row in json.loads(out)}
    assert rows["cloud store"]["result"] == "warning"
    assert "wait on the disk" in rows["cloud store"]["detail"]
    assert rows["console"]["result"] == "warning"
    assert "another port" in rows["console"]["detail"]
    assert code == 0, rows


def test_check_says_how_the_console_is_reached(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, said in (("127.0.0.1:0", "http on this machine"), ("0.0.0.0:0", "https on 0.0.0.0")):
        monkeypatch.setenv("WARD_GATEWAY_CONSOLE__LISTEN", place)
        _, out, _ = shell.run("--json", "check")
        (row,) = (row for row in json.loads(out) if row["check"] == "console")
        assert row["result"] == "ok"
        assert said in row["detail"]
        assert "console.token" in row["detail"]
