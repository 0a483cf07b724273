"""The configuration read again: what is taken over, what waits, and that a bad one is refused."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from certs import files
from certs.authority import Authority
from certs.profiles import GATEWAY
from gateway import identity, provision, reloading
from gateway.config import loading
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.config.loading import Loaded
    from gateway.reloading import Fresh


@pytest.fixture
def current(tmp_path: Path) -> Loaded:
    folder = tmp_path / "ward"
    provision.make_ward(
        folder, ward="W", cloud_url="https://127.0.0.1:1", port_base=None, wall=time.time()
    )
    return loading.load(folder / "gateway.toml", {})


def _set(loaded: Loaded, **values: str) -> None:
    text = loaded.path.read_text()
    for key, value in values.items():
        text, found = re.subn(rf"(?m)^#? ?{key} = .*$", f"{key} = {value}", text, count=1)
        assert found == 1, key
    loaded.path.write_text(text)


def _read(loaded: Loaded) -> Fresh:
    return reloading.read(loaded, identity.load(loaded))


def _renew(loaded: Loaded) -> None:
    """A new key and certificate in the old places."""
    section = loaded.configuration.gateway
    key = files.generate()
    authority = Authority.load(loaded.path.parent / "ca")
    certificate = authority.issue(GATEWAY, section.name, key.public_key(), wall=time.time())
    section.key.unlink()
    files.write_private(section.key, key)
    files.write_certificate(section.certificate, certificate)


def test_nothing_has_changed(current: Loaded) -> None:
    assert _read(current).words == "reloaded, changed: nothing"


def test_what_can_be_is_taken_over(current: Loaded) -> None:
    _set(current, associations="7", records="9", url='"https://127.0.0.1:2"', max_bytes='"2 GiB"')
    fresh = _read(current)
    configuration = fresh.loaded.configuration
    assert configuration.limits.associations == 7
    assert configuration.epochs.records == 9
    assert configuration.outbox.max_bytes == 2 << 30
    assert configuration.cloud.url == "https://127.0.0.1:2"
    assert fresh.words == (
        "reloaded, changed: cloud.url, limits.associations, outbox.max_bytes, epochs.records"
    )


def test_what_waits_for_a_restart_stays_and_is_named_every_time(current: Loaded) -> None:
    _set(current, workers="2", state='"elsewhere"', associations="7")
    once = _read(current)
    assert once.loaded.configuration.coap.workers == 1
    assert once.loaded.configuration.gateway.state == current.configuration.gateway.state
    assert once.loaded.configuration.limits.associations == 7
    assert once.words.endswith("; waiting for a restart: gateway.state, coap.workers")
    again = reloading.read(once.loaded, once.identity)
    assert again.words == (
        "reloaded, changed: nothing; waiting for a restart: gateway.state, coap.workers"
    )


def test_renewed_files_are_taken_over(current: Loaded) -> None:
    before = identity.load(current)
    _renew(current)
    fresh = reloading.read(current, before)
    assert fresh.identity.certificate != before.certificate
    assert fresh.words == "reloaded, changed: certificates"


def test_a_bad_one_is_refused_with_all_that_is_wrong(current: Loaded) -> None:
    _set(current, associations="0", url='"http://insecure"')
    with pytest.raises(ConfigError) as caught:
        _read(current)
    assert len(caught.value.problems) == 2


def test_a_key_that_is_not_the_certificates_is_refused(current: Loaded) -> None:
    key = current.configuration.gateway.key
    before = identity.load(current)
    key.unlink()
    files.write_private(key, files.generate())
    with pytest.raises(ConfigError):
        reloading.read(current, before)
