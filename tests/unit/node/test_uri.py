"""Addresses of CoAP resources (RFC 7252 section 6.4)."""

from __future__ import annotations

import pytest

from gateway.errors import UsageError
from gateway.node.link import Target, parse_uri


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("coaps://gateway", Target("gateway", 5684, (), ())),
        ("coaps://gateway/", Target("gateway", 5684, (), ())),
        ("coaps://127.0.0.1:20000/v", Target("127.0.0.1", 20_000, ("v",), ())),
        ("coaps://[::1]:5685/s/a", Target("::1", 5685, ("s", "a"), ())),
        ("COAPS://Gateway/V", Target("gateway", 5684, ("V",), ())),
        (
            "coaps://h/.well-known/core?rt=a&if=b",
            Target("h", 5684, (".well-known", "core"), ("rt=a", "if=b")),
        ),
        ("coaps://h?a", Target("h", 5684, (), ("a",))),
        ("coaps://h/a%2Fb/%C3%A4?x=%26", Target("h", 5684, ("a/b", "ä"), ("x=&",))),
        ("coaps://h/a//b/", Target("h", 5684, ("a", "", "b", ""), ())),
    ],
)
def test_an_address_is_taken_apart(uri: str, target: Target) -> None:
    assert parse_uri(uri) == target


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "v",
        "gateway:5684/v",
        "coap://h/v",
        "https://h/v",
        "coaps:///v",
        "coaps://:5684/v",
        "coaps://h:0/v",
        "coaps://h:65536/v",
        "coaps://h:x/v",
        "coaps://[::1/v",
        "coaps://h/v#part",
        "coaps://user@h/v",
        "coaps://h/%FF",
    ],
)
def test_what_is_no_address_of_a_gateway_is_refused(uri: str) -> None:
    with pytest.raises(UsageError):
        parse_uri(uri)
