"""The start-up self-test passes with this OpenSSL and names a suite that does not work."""

from __future__ import annotations

import os

import pytest

from gateway.dtls import selftest
from gateway.dtls.engines.openssl import psk_suites
from gateway.errors import DtlsError


def test_every_suite_works() -> None:
    assert selftest.all_suites(os.urandom) == psk_suites()


def test_a_suite_that_the_server_does_not_offer_is_named() -> None:
    with pytest.raises(DtlsError, match="ECDHE-ECDSA-AES128-CCM8 does not work"):
        selftest.handshake("ECDHE-ECDSA-AES128-CCM8", os.urandom)
