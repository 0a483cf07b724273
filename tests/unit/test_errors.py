"""The tree of errors: blame is a type, the answer is an attribute."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

import pytest

import cloud
import gateway
from gateway import errors
from gateway.coap.numbers import Code, code_class
from gateway.errors import ConfigError, GatewayError, OutboxFull, PeerError

if TYPE_CHECKING:
    from collections.abc import Iterator

BASES = (errors.GatewayError, errors.PeerError, errors.DeliveryError)
MEANINGS = {
    errors.MessageFormatError: Code.BAD_REQUEST,
    errors.BadRequestError: Code.BAD_REQUEST,
    errors.BadOptionError: Code.BAD_OPTION,
    errors.ForbiddenError: Code.FORBIDDEN,
    errors.IncompleteError: Code.REQUEST_ENTITY_INCOMPLETE,
    errors.TooLargeError: Code.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedContentFormatError: Code.UNSUPPORTED_CONTENT_FORMAT,
    errors.TooManyRequestsError: Code.TOO_MANY_REQUESTS,
}


def _tree(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def _all(kind: type[GatewayError]) -> list[type[GatewayError]]:
    """Every one of the product, wherever it is defined."""
    for package in (gateway, cloud):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found = {one for one in _tree(kind) if one.__module__.startswith(("gateway", "cloud"))}
    return sorted(found, key=lambda one: one.__name__)


def test_every_peer_error_has_an_answer_of_coap() -> None:
    """A code of RFC 7252 section 12.1.2 that says error, never one that says success."""
    found = _all(PeerError)
    assert set(MEANINGS) < set(found)
    for kind in found:
        code = Code(kind.response_code)
        assert code_class(code) in (4, 5), kind


@pytest.mark.parametrize(("kind", "code"), MEANINGS.items(), ids=lambda one: str(one))
def test_the_answer_is_the_one_that_the_class_promises(kind: type[PeerError], code: Code) -> None:
    assert kind.response_code == code


def test_a_full_outbox_is_a_server_error() -> None:
    """5.03: it is not the device's fault, and it may come again."""
    assert OutboxFull.response_code == Code.SERVICE_UNAVAILABLE
    assert OutboxFull("full").retry_after_s > 0


def test_no_two_errors_of_one_tree_share_a_kind_but_by_inheritance() -> None:
    """Metrics count by kind."""
    defined = [one for one in _all(GatewayError) if "kind" in vars(one)]
    kinds = [one.kind for one in defined if one.__module__ == "gateway.errors"]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("base", BASES)
def test_a_base_class_cannot_be_raised(base: type[GatewayError]) -> None:
    with pytest.raises(TypeError, match="base class"):
        base("words")


def test_a_configuration_error_keeps_each_problem() -> None:
    error = ConfigError(["one", "two"])
    assert error.problems == ["one", "two"]
    assert str(error) == "one\ntwo"


def test_what_an_answer_needs_is_kept() -> None:
    assert errors.TooLargeError("much", 8192).limit == 8192
    assert errors.TooManyRequestsError("often", 1.5).retry_after_s == 1.5
    assert errors.TransientDeliveryError("away").retry_after_s is None
