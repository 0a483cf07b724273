"""SenML-JSON (RFC 8428 section 5): bytes to labelled fields, and resolved records to JSON."""

from __future__ import annotations

import binascii
import json
from typing import TYPE_CHECKING, NoReturn

from gateway.errors import BadRequestError
from gateway.senml import labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.senml.labels import Fields
    from gateway.senml.record import Record


def decode_untrusted(payload: bytes) -> list[Fields]:
    """The objects of a pack, in order, by CBOR labels; ``vd`` as bytes.

    Raises:
        BadRequestError: not one JSON array of objects, or more than 256 of them.
    """
    try:
        # A tuple for each object, so that a label used twice is still there to be refused.
        pack = json.loads(
            payload.decode(), object_pairs_hook=tuple, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise BadRequestError("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise BadRequestError("the JSON is not UTF-8") from None
    except ValueError as error:  # malformed, or an integer of thousands of digits
        position = f" at {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadRequestError(f"malformed JSON{position}") from None
    if not isinstance(pack, list):
        raise BadRequestError("a pack is an array")
    if len(pack) > labels.MAX_RECORDS:
        raise BadRequestError(f"{len(pack)} records in a pack, at most {labels.MAX_RECORDS}")
    records: list[Fields] = []
    try:
        for pairs in pack:
            records.append(_record(pairs))  # noqa: PERF401  # its length tells which one failed
    except BadRequestError as error:
        raise BadRequestError(f"record {len(records)}: {error}") from None
    return records


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequestError(f"{name} is not JSON")


def _record(pairs: object) -> Fields:
    if not isinstance(pairs, tuple):
        raise BadRequestError("a record is an object")
    fields: Fields = {}
    for name, value in pairs:
        label = labels.LABELS.get(name, name)
        if label in fields:
            raise BadRequestError(f"label {labels.shorten(name)} twice")
        if isinstance(label, str):
            labels.check_unknown(label)
            value = None
        elif isinstance(value, str):
            try:
                content = value.encode()
                if label == labels.DATA:
                    value = _data(content)
            except ValueError:  # half of a surrogate pair, or not base64url
                raise BadRequestError(f"{name}: malformed text") from None
        fields[label] = value
    return fields


_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


def _data(content: bytes) -> bytes:
    """Base64url without padding (RFC 8428 section 5). Raises ValueError."""
    if b"+" in content or b"/" in content or b"=" in content:
        raise ValueError
    padded = content.translate(_STANDARD_ALPHABET) + b"=" * (-len(content) % 4)
    return binascii.a2b_base64(padded, strict_mode=True)


def to_json(records: Sequence[Record]) -> list[dict[str, object]]:
    """A resolved pack as RFC 8428 JSON, ready for ``json.dumps``."""
    return [
        {
            label: value
            for label, value in (
                ("n", record.name),
                ("u", record.unit),
                ("v", record.value),
                ("vs", record.text),
                ("vb", record.boolean),
                ("vd", None if record.data is None else _base64url(record.data)),
                ("s", record.total),
                ("t", record.time),
                ("ut", record.update_time),
            )
            if value is not None
        }
        for record in records
    ]


def _base64url(data: bytes) -> str:
    encoded = binascii.b2a_base64(data, newline=False)
    return encoded.replace(b"+", b"-").replace(b"/", b"_").rstrip(b"=").decode()
