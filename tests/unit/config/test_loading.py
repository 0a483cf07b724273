"""Reading a configuration: file, environment, defaults, and a list of all that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.config.loading import ENVIRONMENT, find, load
from gateway.config.sections import Configuration
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

Problems = "Callable[..., list[str]]"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


@pytest.fixture
def problems(file: Path) -> Callable[..., list[str]]:
    """What is said of a text and an environment that cannot be used."""

    def found(text: str, **environment: str) -> list[str]:
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(file, environment)
        return caught.value.problems

    return found


def test_an_empty_file_means_every_default(file: Path) -> None:
    """Paths are the only values that differ: they start at the file."""
    file.write_text("")
    loaded = load(file, {})
    usual = Configuration()
    assert loaded.path == file
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.configuration.coap == usual.coap
    assert loaded.configuration.outbox == usual.outbox
    assert loaded.configuration.limits == usual.limits
    assert loaded.configuration.gateway.state == file.parent / usual.gateway.state
    assert loaded.configuration.gateway.key == file.parent / usual.gateway.key


def test_what_the_file_says_is_in_force(file: Path) -> None:
    file.write_text(
        '[gateway]\nward = "Ward 7 Ä"\nstate = "/var/lib/ward"\nkey = "keys/other.key"\n'
        '[coap]\nlisten = ["127.0.0.1:1", "[::1]:0", "[fe80::1%eth0]:5684", "localhost:65535"]\n'
        '[cloud]\nurl = "https://cloud.example:8443"\n'
        "[limits]\ndevice_messages_per_s = 0\nassociations = 1\n"
        '[outbox]\nmax_bytes = "2GiB"\nreserve_bytes = "1 MiB"\n[epochs]\nminutes = 2.5\n'
    )
    loaded = load(file, {})
    configuration = loaded.configuration
    assert configuration.gateway.ward == "Ward 7 Ä"
    assert configuration.gateway.state == Path("/var/lib/ward")
    assert configuration.gateway.key == file.parent / "keys/other.key"
    assert configuration.coap.listen == (
        "127.0.0.1:1",
        "[::1]:0",
        "[fe80::1%eth0]:5684",
        "localhost:65535",
    )
    assert configuration.cloud.url == "https://cloud.example:8443"
    assert configuration.limits.device_messages_per_s == 0
    assert (configuration.outbox.max_bytes, configuration.outbox.reserve_bytes) == (
        2 << 30,
        1 << 20,
    )
    assert configuration.epochs.minutes == 2.5
    assert loaded.sources["cloud.url"] == "file"
    assert loaded.sources["epochs.records"] == "default"


def test_paths_start_at_the_file_not_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = tmp_path / "ward"
    ward.mkdir()
    (ward / "gateway.toml").write_text('[gateway]\nstate = "here"\n')
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("ward/gateway.toml"), {})
    assert loaded.path == ward / "gateway.toml"
    assert loaded.configuration.gateway.state == ward / "here"
    assert loaded.configuration.gateway.ca == ward / "ca" / "ca.pem"


def test_all_problems_are_named_at_once(file: Path, problems: Callable[..., list[str]]) -> None:
    """Each with its file, its place and what would be right."""
    found = problems(
        'extra = 1\n[gatway]\n[gateway]\nward = 7\nnmae = "x"\nkey = ""\n[coap]\nlisten = []\n'
        '[cloud]\nurl = "http://cloud"\n[limits]\nassociations = -1\ndevice_messages_per_s = true\n'
        '[outbox]\nmax_bytes = "2 GB"\n[epochs]\nminutes = "long"\nrecords = 1.5\n',
        **{f"{ENVIRONMENT}EPOCHS__HOURS": "1", f"{ENVIRONMENT}OUTBOX__RESERVE_BYTES": "much"},
    )
    for expected in (
        f"{file}: [extra]: no such section",
        f"{file}: [gatway]: no such section; did you mean gateway?",
        f"{file}: [gateway] nmae: no such key; did you mean name?",
        f"{file}: [gateway] ward: 7 is not a text",
        f"{file}: [gateway] key: '' is not a path",
        f"{file}: [coap] listen: [] is not a list of host:port",
        f"{file}: [cloud] url: 'http://cloud' must begin with https://",
        f"{file}: [limits] associations: -1 must be 0 or more",
        f"{file}: [limits] device_messages_per_s: True is not a number",
        f"{file}: [outbox] max_bytes: '2 GB' is not a whole number (or a size such as 64MiB",
        f"{file}: [epochs] minutes: 'long' is not a number",
        f"{file}: [epochs] records: 1.5 is not a whole number",
        "environment: WARD_GATEWAY_EPOCHS__HOURS: no such key",
        "environment: WARD_GATEWAY_OUTBOX__RESERVE_BYTES: 'much' is not a whole number",
    ):
        assert [one for one in found if one.startswith(expected)], (expected, found)
    assert len(found) == 14


def test_a_key_that_is_like_nothing_is_answered_with_all_there_are(
    problems: Callable[..., list[str]],
) -> None:
    (found,) = problems("[epochs]\nzzz = 1\n")
    assert found.endswith("[epochs] zzz: no such key; there are: minutes, records")


@pytest.mark.parametrize(
    "place",
    [
        "5684",
        "host",
        ":5684",
        "[::1]",
        "::1:5684",
        "0.0.0.0:65536",
        "0.0.0.0:-1",
        "a b:1",
        "",
        5684,
    ],
)
def test_an_address_that_cannot_be_bound_is_refused(
    place: object, problems: Callable[..., list[str]]
) -> None:
    text = f'"{place}"' if isinstance(place, str) else str(place)
    (found,) = problems(f"[coap]\nlisten = [{text}]\n")
    assert found.endswith("is not host:port, such as 0.0.0.0:5684 or [::]:5684")


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1"])
def test_a_number_that_is_none_is_refused(value: str, problems: Callable[..., list[str]]) -> None:
    (found,) = problems(f"[epochs]\nminutes = {value}\n")
    assert found.endswith("must be 0 or more")


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ('"1KiB"', 1 << 10), ('"64 MiB"', 64 << 20), ('"3GiB"', 3 << 30)],
)
def test_sizes_are_bytes_or_have_a_binary_unit(file: Path, text: str, size: int) -> None:
    file.write_text(f'[outbox]\nmax_bytes = "1024GiB"\nreserve_bytes = {text}\n')
    assert load(file, {}).configuration.outbox.reserve_bytes == size


@pytest.mark.parametrize("text", ['"1MB"', '"MiB"', '"1.5GiB"', '"1  GiB"', '"-1MiB"', "true"])
def test_other_sizes_are_refused(text: str, problems: Callable[..., list[str]]) -> None:
    (found,) = problems(f"[outbox]\nmax_bytes = {text}\n")
    assert "[outbox] max_bytes" in found


def test_a_reserve_leaves_room_for_routine_data(problems: Callable[..., list[str]]) -> None:
    (found,) = problems('[outbox]\nmax_bytes = "1MiB"\nreserve_bytes = "1MiB"\n')
    assert "reserve_bytes must be below max_bytes" in found


def test_no_size_where_no_bytes_are_meant(problems: Callable[..., list[str]]) -> None:
    (found,) = problems('[epochs]\nrecords = "1KiB"\n')
    assert "[epochs] records: '1KiB' is not a whole number" in found


def test_any_key_can_come_from_the_environment(file: Path) -> None:
    """It goes before the file, and is read as the file's value would be."""
    file.write_text('[cloud]\nurl = "https://file"\n')
    loaded = load(
        file,
        {
            f"{ENVIRONMENT}CLOUD__URL": "https://environment",
            f"{ENVIRONMENT}GATEWAY__WARD": "7",
            f"{ENVIRONMENT}GATEWAY__STATE": "elsewhere",
            f"{ENVIRONMENT}COAP__LISTEN": "127.0.0.1:1, [::1]:2",
            f"{ENVIRONMENT}LIMITS__DEVICE_MESSAGES_PER_S": "2.5",
            f"{ENVIRONMENT}OUTBOX__MAX_BYTES": "2GiB",
            f"{ENVIRONMENT}EPOCHS__RECORDS": "10",
            "PATH": "/usr/bin",
        },
    )
    configuration = loaded.configuration
    assert configuration.cloud.url == "https://environment"
    assert configuration.gateway.ward == "7"
    assert configuration.gateway.state == file.parent / "elsewhere"
    assert configuration.coap.listen == ("127.0.0.1:1", "[::1]:2")
    assert configuration.limits.device_messages_per_s == 2.5
    assert configuration.outbox.max_bytes == 2 << 30
    assert configuration.epochs.records == 10
    assert loaded.sources["cloud.url"] == "WARD_GATEWAY_CLOUD__URL"


@pytest.mark.parametrize("name", ["CLOUD__URI", "CLOUD_URL", "cloud__url"])
def test_a_variable_that_is_almost_right_is_a_problem(
    name: str, problems: Callable[..., list[str]]
) -> None:
    """A typing error must not leave the gateway with a default."""
    (found,) = problems("", **{f"{ENVIRONMENT}{name}": "https://x"})
    assert found.startswith(f"environment: WARD_GATEWAY_{name}: no such key")
    if name.isupper():
        assert "did you mean WARD_GATEWAY_CLOUD__URL?" in found


def test_a_gateway_that_nobody_can_reach_is_refused(
    problems: Callable[..., list[str]],
) -> None:
    (found,) = problems("[limits]\nassociations = 0\n")
    assert found.endswith("[limits]: associations must be 1 or more: nobody could connect")


def test_a_section_that_is_no_section(problems: Callable[..., list[str]]) -> None:
    (found,) = problems("gateway = 1\n")
    assert found.endswith("gateway: must be a section, [gateway]")


@pytest.mark.parametrize("content", [b"[gateway\n", b"a = 1\na = 2\n", b"[gateway]\nward = \xff\n"])
def test_a_file_that_is_no_toml(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"gateway\.toml: (not valid TOML|cannot be read)"):
        load(file, {})


def test_a_missing_file_is_answered_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file; `ward-gateway init"):
        find(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="no such file"):
        find(tmp_path)  # a folder


def test_a_path_that_cannot_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        find(tmp_path / ("x" * 300))


def test_without_a_name_the_usual_places_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"neither .* nor /etc/ward-gateway"):
        find(None)
    (tmp_path / "gateway.toml").touch()
    assert find(None) == tmp_path / "gateway.toml"
