"""A recipient's folder."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from gateway.cose.keys import thumbprint
from gateway.errors import ConfigError
from gateway.reader.profile import Profile, load, locate, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Ward

GOOD = '[profile]\nversion = 1\nname = "anna"\nrole = "doctor"\ncloud = "https://cloud:9443/"\n'


def test_what_was_written_is_read_back(ward: Ward) -> None:
    """And the folder is for its owner alone."""
    reader = ward.reader('Dr. "A" \\ Ä', "doctor", cloud="https://[::1]:9443")
    profile = load(reader.folder)
    assert profile == Profile(
        folder=reader.folder, name='Dr. "A" \\ Ä', role="doctor", cloud="https://[::1]:9443"
    )
    assert stat.S_IMODE(reader.folder.stat().st_mode) == 0o700
    for name in ("tls.key", "seal.key"):
        assert stat.S_IMODE((reader.folder / name).stat().st_mode) == 0o600
    assert profile.load_authority() == ward.authority.certificate
    assert thumbprint(profile.load_sealing_key().public_key()) == reader.kid


def test_a_profile_is_never_written_over(ward: Ward) -> None:
    """Its keys may be the only ones that open a year of records."""
    reader = ward.reader("anna", "doctor")
    with pytest.raises(ConfigError, match="cannot be made"):
        write(
            reader.folder,
            name="anna",
            role="doctor",
            cloud="https://c",
            authority=ward.authority.certificate,
            certificate=reader.party.certificate,
            tls_key=reader.party.key,
            seal_key=reader.seal_key,
        )


def test_the_address_is_kept_without_its_last_slash(tmp_path: Path) -> None:
    """Paths are put behind it."""
    (tmp_path / "profile.toml").write_text(GOOD)
    assert load(tmp_path).cloud == "https://cloud:9443"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 1", "version = 2", "profile.version"),
        ('name = "anna"', "name = 7", "profile.name"),
        ('role = "doctor"\n', "", "profile.role"),
        ("https://", "http://", "profile.cloud"),
        ("https://cloud:9443/", "https://cloud:99999", "profile.cloud"),
        ("https://cloud:9443/", "https://cloud/path", "profile.cloud"),
        ("[profile]", "[profile]\nsurprise = 1", "profile.surprise: unknown"),
        ("[profile]", "[other]", "[profile]"),
        ("[profile]", "[profile", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    """File and key."""
    (tmp_path / "profile.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert said in str(caught.value)
    assert "profile.toml" in str(caught.value)


def test_a_folder_that_is_no_profile_is_named(tmp_path: Path) -> None:
    """With the command that makes one."""
    with pytest.raises(ConfigError, match="recipient add"):
        load(tmp_path)


def test_a_recipient_is_found_beside_the_configuration(ward: Ward) -> None:
    """By name; an unknown one is told who there is."""
    reader = ward.reader("anna", "doctor")
    ward.reader("bert", "patient")
    config = ward.folder / "gateway.toml"
    assert locate(config, "anna") == reader.folder
    for name in ("carla", "", ".", "..", "../recipients/anna", "/etc"):
        with pytest.raises(ConfigError, match="there are: anna, bert"):
            locate(config, name)


def test_without_a_configuration_the_current_folder_is_looked_at(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then /etc; then it is said what to say."""
    ward.reader("anna", "doctor")
    monkeypatch.chdir(ward.folder)
    with pytest.raises(ConfigError, match="--profile"):
        locate(None, "anna")
    (ward.folder / "gateway.toml").touch()
    assert locate(None, "anna").resolve() == (ward.folder / "recipients" / "anna").resolve()
