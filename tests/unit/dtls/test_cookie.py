"""The cookie: no state before proof, and no answer larger than its request."""

from __future__ import annotations

import os

import pytest

from gateway.dtls.client import Client
from gateway.dtls.cookie import (
    SLOT_S,
    Cookies,
    UnsupportedVersionError,
    decode_client_hello_untrusted,
    is_client_hello_untrusted,
)
from gateway.dtls.engines.openssl import OpensslClient
from gateway.errors import DtlsError

HERE = b"192.0.2.1 1000"


def hello() -> bytes:
    client = Client(OpensslClient(b"d", b"k" * 16, ["PSK-AES128-CCM8"]), mtu=1232, now=0.0)
    return client.outgoing[0]


def with_cookie(first: bytes, verify: bytes) -> bytes:
    """The second ClientHello, as a client makes it from a HelloVerifyRequest."""
    cookie = verify[13 + 12 + 3 :]
    body = first[25:]
    at = 34 + 1 + body[34]
    body = body[:at] + bytes((len(cookie),)) + cookie + body[at + 1 :]
    size = len(body).to_bytes(3, "big")
    message = b"\x01" + size + b"\0\1" + b"\0\0\0" + size + body
    return first[:3] + (7).to_bytes(8, "big") + len(message).to_bytes(2, "big") + message


def test_the_answer_is_smaller_than_the_smallest_hello() -> None:
    cookies = Cookies(os.urandom(32), os.urandom)
    first = hello()
    answer = cookies.challenge(decode_client_hello_untrusted(first), HERE, 0.0)
    assert len(answer) == 60
    assert answer[1:3] == b"\xfe\xff"
    assert answer[3:11] == first[3:11]


@pytest.mark.parametrize(
    ("made", "used", "accepted"),
    [(0.0, 0.0, True), (0.0, SLOT_S, True), (29.9, 59.9, True), (0.0, 2 * SLOT_S, False)],
)
def test_a_cookie_lives_for_its_slot_and_the_next(made: float, used: float, accepted: bool) -> None:
    cookies = Cookies(os.urandom(32), os.urandom)
    first = hello()
    answer = cookies.challenge(decode_client_hello_untrusted(first), HERE, made)
    second = decode_client_hello_untrusted(with_cookie(first, answer))
    assert second.record_number == 7
    assert cookies.valid(second, HERE, used) is accepted


def test_a_cookie_fits_one_address_one_hello_and_one_secret() -> None:
    cookies = Cookies(os.urandom(32), os.urandom)
    first = hello()
    answer = cookies.challenge(decode_client_hello_untrusted(first), HERE, 0.0)
    second = with_cookie(first, answer)
    good = decode_client_hello_untrusted(second)
    assert cookies.valid(good, HERE, 0.0)
    assert not cookies.valid(good, b"192.0.2.1 1001", 0.0)
    assert not cookies.valid(good._replace(rest=good.rest + b"x"), HERE, 0.0)
    assert not Cookies(os.urandom(32), os.urandom).valid(good, HERE, 0.0)
    for cookie in (b"", good.cookie[:-1], good.cookie + b"x", bytes(32), good.cookie * 7):
        assert not cookies.valid(good._replace(cookie=cookie), HERE, 0.0)


def test_other_versions_are_told_apart_from_junk() -> None:
    first = hello()
    dtls_1_0 = first[:25] + b"\xfe\xff" + first[27:]
    with pytest.raises(UnsupportedVersionError):
        decode_client_hello_untrusted(dtls_1_0)


def test_cut_or_fragmented_hellos_are_refused() -> None:
    first = hello()
    for end in range(len(first)):
        with pytest.raises(DtlsError):
            decode_client_hello_untrusted(first[:end])
    fragmented = first[: 13 + 9] + b"\0\0\1" + first[13 + 12 :]
    with pytest.raises(DtlsError, match="fragmented"):
        decode_client_hello_untrusted(fragmented)


def test_only_an_epoch_0_client_hello_counts_as_one() -> None:
    first = hello()
    assert is_client_hello_untrusted(first)
    assert not is_client_hello_untrusted(first[:3] + b"\0\1" + first[5:])
    assert not is_client_hello_untrusted(first[:13] + b"\x02" + first[14:])
    assert not is_client_hello_untrusted(b"\x16")
