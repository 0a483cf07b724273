"""Who the gateway is: name, key, certificate and authority, or what is wrong with them."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from gateway import identity, provision
from gateway.config import loading
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    folder = tmp_path / "ward"
    provision.make_ward(folder, ward="W", cloud_url=None, port_base=None, wall=time.time())
    return folder


def load(ward: Path, **environment: str) -> identity.Identity:
    return identity.load(loading.load(ward / "gateway.toml", environment))


def test_a_new_ward_has_one_that_fits(ward: Path) -> None:
    found = load(ward)
    assert found.certificate.public_key() == found.key.public_key()
    found.certificate.verify_directly_issued_by(found.authority)


def test_a_key_of_another_certificate_is_told(ward: Path) -> None:
    shutil.copy(ward / "keys" / "cloud.key", ward / "keys" / "gateway.key")
    with pytest.raises(ConfigError, match=r"gateway\.pem: is not the certificate of"):
        load(ward)


def test_a_name_that_is_not_in_the_certificate_is_told(ward: Path) -> None:
    with pytest.raises(ConfigError, match="'other' is not the name in"):
        load(ward, WARD_GATEWAY_GATEWAY__NAME="other")


def test_an_authority_that_is_missing_is_told(ward: Path) -> None:
    (ward / "ca" / "ca.pem").unlink()
    with pytest.raises(ConfigError, match=r"ca\.pem: cannot be read"):
        load(ward)
