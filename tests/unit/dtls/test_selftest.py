"""The start-up self-test passes with this OpenSSL and names a suite that does not work."""

from __future__ import annotations

import os

import pytest

from gateway.dtls import selftest
from gateway.dtls.engines.openssl import psk_suites
from gateway.dtls.records import SUITES
from gateway.errors import DtlsError


def test_every_suite_works() -> None:
    assert selftest.all_suites(os.urandom) == list(SUITES)


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-CCM8", "PSK-AES128-CCM8"])
def test_a_suite_that_the_server_does_not_offer_is_named(suite: str) -> None:
    others = [name for name in psk_suites() if name != suite]
    with pytest.raises(DtlsError, match=f"{suite} does not work"):
        selftest.handshake(suite, others, os.urandom)
