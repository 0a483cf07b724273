"""The record layer: what it protects it opens once, and nothing else."""

from __future__ import annotations

import random

import pytest

from gateway.dtls.records import (
    ALERT,
    APPLICATION_DATA,
    SUITES,
    WINDOW,
    Opener,
    Protector,
    derive_keys,
    prf,
    split_untrusted,
)
from gateway.errors import DtlsError


def pair(suite: str, number: int = 0) -> tuple[Protector, Opener]:
    key, salt = b"k" * SUITES[suite].key_length, b"s" * SUITES[suite].salt_length
    return Protector(suite, key, salt, number), Opener(suite, key, salt)


@pytest.fixture(params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_prf_gives_the_published_vector() -> None:
    """The P_SHA256 test vector that was published with the TLS 1.2 drafts."""
    secret = bytes.fromhex("9bbe436ba940f017b17652849a71db35")
    seed = bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
    expected = bytes.fromhex(
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a"
        "6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab"
        "4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
        "87347b66"
    )
    assert prf(secret, b"test label", seed, 100) == expected


def test_opens_what_was_protected(suite: str) -> None:
    protector, opener = pair(suite)
    for size in (0, 1, 90, 1200):
        plaintext = bytes(range(256)) * 5
        record = protector.protect(APPLICATION_DATA, plaintext[:size])
        assert opener.open_untrusted(record) == plaintext[:size]


def test_a_record_opens_once(suite: str) -> None:
    protector, opener = pair(suite)
    record = protector.protect(APPLICATION_DATA, b"72")
    opener.open_untrusted(record)
    with pytest.raises(DtlsError, match="replayed"):
        opener.open_untrusted(record)


def test_reordered_records_open_within_the_window_only(suite: str) -> None:
    protector, opener = pair(suite)
    records = [protector.protect(APPLICATION_DATA, b"%d" % n) for n in range(WINDOW + 1)]
    assert opener.open_untrusted(records[WINDOW]) == b"%d" % WINDOW
    for n in range(WINDOW - 1, 0, -1):
        assert opener.open_untrusted(records[n]) == b"%d" % n
        with pytest.raises(DtlsError, match="replayed"):
            opener.open_untrusted(records[n])
    with pytest.raises(DtlsError, match="replayed"):
        opener.open_untrusted(records[0])


def test_any_flipped_bit_is_refused_and_leaves_the_window_alone(suite: str) -> None:
    protector, opener = pair(suite)
    record = protector.protect(APPLICATION_DATA, b"72 beats")
    for at in range(len(record) * 8):
        broken = bytearray(record)
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(DtlsError):
            opener.open_untrusted(bytes(broken))
    assert opener.open_untrusted(record) == b"72 beats"


def test_the_window_is_that_of_the_rfc(suite: str) -> None:
    """Beside a model of section 4.1.2.6 that remembers everything."""
    key, salt = b"k" * SUITES[suite].key_length, b"s" * SUITES[suite].salt_length
    for seed in range(30):
        weather = random.Random(seed)
        opener, accepted, at = Opener(suite, key, salt), set[int](), 0
        for _ in range(100):
            at = max(0, at + weather.choice((1, 1, 1, 2, -1, -62, -63, -64, 62, 63, 64, 65, 1000)))
            record = Protector(suite, key, salt, at).protect(APPLICATION_DATA, b"%d" % at)
            if at in accepted or at <= max(accepted, default=-1) - WINDOW:
                with pytest.raises(DtlsError, match="replayed"):
                    opener.open_untrusted(record)
            else:
                assert opener.open_untrusted(record) == b"%d" % at
                accepted.add(at)


def test_a_record_has_the_layout_of_the_rfc(suite: str) -> None:
    """Put together here by the letter of RFC 5246 section 6.2.3.3, and of RFC 5288 and 7905."""
    _, make, key_length, salt_length, tag_length = SUITES[suite]
    key, salt = bytes(range(key_length)), bytes(range(100, 100 + salt_length))
    number = bytes.fromhex("0001 0a0b0c0d0e0f")
    aad = number + bytes((APPLICATION_DATA, 0xFE, 0xFD, 0, 5))
    if salt_length == 4:
        body = number + make(key).encrypt(salt + number, b"72bpm", aad)
    else:
        nonce = bytes(a ^ b for a, b in zip(bytes(4) + number, salt, strict=True))
        body = make(key).encrypt(nonce, b"72bpm", aad)
    expected = bytes((APPLICATION_DATA, 0xFE, 0xFD)) + number + bytes((0, len(body))) + body
    protector = Protector(suite, key, salt, 0x0A0B0C0D0E0F)
    assert protector.protect(APPLICATION_DATA, b"72bpm") == expected
    assert len(body) == 5 + tag_length + (8 if salt_length == 4 else 0)
    assert Opener(suite, key, salt).open_untrusted(expected) == b"72bpm"


def test_the_explicit_nonce_is_the_senders_choice() -> None:
    """RFC 6655 section 3: need not be the sequence number."""
    number, explicit = bytes.fromhex("0001 000000000007"), b"whatever"
    aad = number + bytes((APPLICATION_DATA, 0xFE, 0xFD, 0, 2))
    aead = SUITES["PSK-AES128-CCM8"].make(b"k" * 16)
    body = explicit + aead.encrypt(b"salt" + explicit, b"72", aad)
    record = bytes((APPLICATION_DATA, 0xFE, 0xFD)) + number + bytes((0, len(body))) + body
    assert Opener("PSK-AES128-CCM8", b"k" * 16, b"salt").open_untrusted(record) == b"72"


def test_a_forged_far_number_does_not_shut_out_the_next_record(suite: str) -> None:
    protector, opener = pair(suite)
    record = protector.protect(APPLICATION_DATA, b"1")
    forged = record[:5] + b"\xff" * 6 + record[11:]
    with pytest.raises(DtlsError, match="authentication"):
        opener.open_untrusted(forged)
    assert opener.open_untrusted(record) == b"1"


def test_a_consumed_number_counts_as_seen(suite: str) -> None:
    protector, opener = pair(suite)
    first, second = (protector.protect(APPLICATION_DATA, b"x") for _ in range(2))
    opener.mark_seen(0)
    with pytest.raises(DtlsError, match="replayed"):
        opener.open_untrusted(first)
    assert opener.open_untrusted(second) == b"x"


def test_the_last_number_is_used_and_then_no_more(suite: str) -> None:
    protector, opener = pair(suite, (1 << 48) - 2)
    assert opener.open_untrusted(protector.protect(APPLICATION_DATA, b"last")) == b"last"
    with pytest.raises(DtlsError, match="used up"):
        protector.protect(APPLICATION_DATA, b"one more")
    assert opener.open_untrusted(protector.protect(ALERT, b"\1\0")) == b"\1\0"
    for content_type in (APPLICATION_DATA, ALERT):
        with pytest.raises(DtlsError, match="used up"):
            protector.protect(content_type, b"")


def test_numbers_never_repeat() -> None:
    protector, _ = pair("PSK-AES128-CCM8", 5)
    numbers = [protector.protect(APPLICATION_DATA, b"")[3:11] for _ in range(1000)]
    assert len(set(numbers)) == 1000
    assert protector.number == 1005


def test_short_records_are_refused(suite: str) -> None:
    _, opener = pair(suite)
    for length in range(22):
        claimed = max(0, length - 13).to_bytes(2, "big")
        record = (b"\x17\xfe\xfd\0\1" + bytes(6) + claimed + bytes(8))[:length]
        with pytest.raises(DtlsError, match="shorter"):
            opener.open_untrusted(record)
        with pytest.raises(DtlsError, match="shorter"):
            opener.authenticate_untrusted(record)


def test_more_or_less_than_one_record_is_refused(suite: str) -> None:
    protector, opener = pair(suite)
    record = protector.protect(APPLICATION_DATA, b"72 beats")
    for other in (record[:-1], record + b"\0", record + record):
        with pytest.raises(DtlsError, match="not one whole record"):
            opener.open_untrusted(other)
    assert opener.open_untrusted(record) == b"72 beats"


def test_key_block_is_cut_in_the_order_of_the_rfc() -> None:
    keys = derive_keys("PSK-AES128-GCM-SHA256", b"m" * 48, b"c" * 32, b"s" * 32)
    block = prf(b"m" * 48, b"key expansion", b"s" * 32 + b"c" * 32, 40)
    assert keys.client_key + keys.server_key + keys.client_salt + keys.server_salt == block


def test_a_datagram_is_cut_until_the_first_short_record() -> None:
    protector, _ = pair("PSK-AES128-CCM8")
    records = [protector.protect(APPLICATION_DATA, b"a" * n) for n in (1, 2)]
    assert list(split_untrusted(b"".join(records))) == records
    assert list(split_untrusted(records[0] + records[1][:-1])) == records[:1]
    assert list(split_untrusted(b"")) == []
