"""One JSON object a line, all of a record (what ``read`` promises): for programs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway.reader.formats import formats
from gateway.senml.senml_json import to_json

if TYPE_CHECKING:
    from gateway.reader.opening import Opened

_START = datetime(1970, 1, 1, tzinfo=UTC)


def utc(milliseconds: int) -> str:
    """ISO 8601 with milliseconds and ``Z``."""
    moment = _START + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record_object(opened: Opened) -> dict[str, Any]:
    """The fields, in their order. ``sealed`` is there for a record that its node sealed."""
    shown: dict[str, Any] = {
        "id": opened.id.hex(),
        "gateway": opened.gateway,
        "device": opened.device,
        "patient": opened.patient,
        "lane": opened.lane.value,
        "received": utc(opened.received_ms),
        "clock": opened.clock,
        "senml": None if opened.records is None else to_json(opened.records),
        "assessment": opened.assessment,
    }
    if opened.sealed is not None:
        content_format, message = opened.sealed
        shown["sealed"] = {
            "content_format": content_format,
            "message": base64.b64encode(message).decode(),
        }
    return shown


@formats.register("jsonl")
class Jsonl:
    """ASCII only: nothing that a device sent can steer the terminal."""

    def __init__(self, width: int) -> None:
        pass

    def lines(self, opened: Opened) -> list[str]:
        return [json.dumps(record_object(opened), separators=(",", ":"))]
