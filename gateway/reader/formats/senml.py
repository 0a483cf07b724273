"""One resolved SenML pack a line (RFC 8428 section 5, JSON): measurements alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gateway.reader.formats import formats
from gateway.senml.senml_json import to_json

if TYPE_CHECKING:
    from gateway.reader.opening import Opened


@formats.register("senml")
class Senml:
    """A record that its node sealed has no pack to show."""

    def __init__(self, width: int) -> None:
        pass

    def lines(self, opened: Opened) -> list[str]:
        if opened.records is None:
            return []
        return [json.dumps(to_json(opened.records), separators=(",", ":"))]
