"""The labels of RFC 8428 section 5 (JSON) and section 6, table 4 (CBOR).

Inside this room a record that has been read but not resolved is a dict from the CBOR label (a
small integer) to the value, whichever representation it came in. Labels that RFC 8428 does not
define stay text, or integers outside this table: they are ignored when resolving (section 4.3).
"""

from __future__ import annotations

from gateway.errors import BadRequestError

BASE_VERSION = -1
BASE_NAME = -2
BASE_TIME = -3
BASE_UNIT = -4
BASE_VALUE = -5
BASE_SUM = -6
NAME = 0
UNIT = 1
VALUE = 2
TEXT = 3
BOOLEAN = 4
SUM = 5
TIME = 6
UPDATE_TIME = 7
DATA = 8

LABELS: dict[str, int] = {
    "bver": BASE_VERSION,
    "bn": BASE_NAME,
    "bt": BASE_TIME,
    "bu": BASE_UNIT,
    "bv": BASE_VALUE,
    "bs": BASE_SUM,
    "n": NAME,
    "u": UNIT,
    "v": VALUE,
    "vs": TEXT,
    "vb": BOOLEAN,
    "s": SUM,
    "t": TIME,
    "ut": UPDATE_TIME,
    "vd": DATA,
}
"""JSON label to CBOR label."""

Fields = dict[int | str, object]
"""One record as read: label to value, not yet checked."""

MAX_RECORDS = 256
"""Records in a pack: 8 KiB hold about 400 of the smallest; a bracelet sends about 4 to 20."""

MAX_UNKNOWN = 256
"""Items in a CBOR pack under labels that are not known: they are read for nothing."""


def check_unknown(label: str) -> None:
    """A label that RFC 8428 does not define is to be ignored, unless it ends in ``_``.

    Raises:
        BadRequestError: it must be understood (RFC 8428 section 4.3), and we know of none such.
    """
    if label.endswith("_"):
        raise BadRequestError(f"label {shorten(label)} must be understood, and is not")


def shorten(text: str) -> str:
    """A peer's text as it may stand in a diagnostic payload: quoted, escaped, short."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")
