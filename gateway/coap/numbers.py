"""The registries of CoAP: types, codes, options, Content-Formats, transmission parameters.

Plain tables, so that a line is all that a new option or format costs. Sources: RFC 7252 sections
4.8, 5.4, 5.10 and 12, RFC 7641, 7959, 7967, 8516, 8768, 9175, 9290 and the IANA CoRE registries.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class Type(IntEnum):
    """RFC 7252 section 3."""

    CON = 0
    NON = 1
    ACK = 2
    RST = 3


class Code(IntEnum):
    """class * 32 + detail. Other numbers are legal on the wire: a message's code is an int."""

    EMPTY = 0
    GET = 1
    POST = 2
    PUT = 3
    DELETE = 4
    FETCH = 5
    PATCH = 6
    IPATCH = 7
    CREATED = 65
    DELETED = 66
    VALID = 67
    CHANGED = 68
    CONTENT = 69
    CONTINUE = 95
    BAD_REQUEST = 128
    UNAUTHORIZED = 129
    BAD_OPTION = 130
    FORBIDDEN = 131
    NOT_FOUND = 132
    METHOD_NOT_ALLOWED = 133
    NOT_ACCEPTABLE = 134
    REQUEST_ENTITY_INCOMPLETE = 136
    CONFLICT = 137
    PRECONDITION_FAILED = 140
    REQUEST_ENTITY_TOO_LARGE = 141
    UNSUPPORTED_CONTENT_FORMAT = 143
    UNPROCESSABLE_ENTITY = 150
    TOO_MANY_REQUESTS = 157
    INTERNAL_SERVER_ERROR = 160
    NOT_IMPLEMENTED = 161
    BAD_GATEWAY = 162
    SERVICE_UNAVAILABLE = 163
    GATEWAY_TIMEOUT = 164
    PROXYING_NOT_SUPPORTED = 165
    HOP_LIMIT_REACHED = 168


def code_class(code: int) -> int:
    """0: request or Empty; 2: success; 4: client error; 5: server error."""
    return code >> 5


def is_request(code: int) -> bool:
    """0.01 to 0.31."""
    return 0 < code < 32


def is_response(code: int) -> bool:
    """2.00 to 5.31."""
    return 64 <= code < 192


def dotted(code: int) -> str:
    """As people write it: ``4.04``."""
    return f"{code >> 5}.{code & 31:02}"


class Option(IntEnum):
    """Option numbers with a meaning here. Others are legal on the wire."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    OBSERVE = 6
    URI_PORT = 7
    LOCATION_PATH = 8
    OSCORE = 9
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    HOP_LIMIT = 16
    ACCEPT = 17
    Q_BLOCK1 = 19
    LOCATION_QUERY = 20
    EDHOC = 21
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    Q_BLOCK2 = 31
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    ECHO = 252
    NO_RESPONSE = 258
    REQUEST_TAG = 292


class Format(IntEnum):
    """How an option's value is read (RFC 7252 section 3.2)."""

    EMPTY = 0
    OPAQUE = 1
    UINT = 2
    STRING = 3


class Definition(NamedTuple):
    """One line of the option registry. Lengths in bytes, both included."""

    name: str
    format: Format
    shortest: int
    longest: int
    repeatable: bool = False


OPTIONS: Final[dict[int, Definition]] = {
    Option.IF_MATCH: Definition("If-Match", Format.OPAQUE, 0, 8, repeatable=True),
    Option.URI_HOST: Definition("Uri-Host", Format.STRING, 1, 255),
    Option.ETAG: Definition("ETag", Format.OPAQUE, 1, 8, repeatable=True),
    Option.IF_NONE_MATCH: Definition("If-None-Match", Format.EMPTY, 0, 0),
    Option.OBSERVE: Definition("Observe", Format.UINT, 0, 3),
    Option.URI_PORT: Definition("Uri-Port", Format.UINT, 0, 2),
    Option.LOCATION_PATH: Definition("Location-Path", Format.STRING, 0, 255, repeatable=True),
    Option.OSCORE: Definition("OSCORE", Format.OPAQUE, 0, 255),
    Option.URI_PATH: Definition("Uri-Path", Format.STRING, 0, 255, repeatable=True),
    Option.CONTENT_FORMAT: Definition("Content-Format", Format.UINT, 0, 2),
    Option.MAX_AGE: Definition("Max-Age", Format.UINT, 0, 4),
    Option.URI_QUERY: Definition("Uri-Query", Format.STRING, 0, 255, repeatable=True),
    Option.HOP_LIMIT: Definition("Hop-Limit", Format.UINT, 1, 1),
    Option.ACCEPT: Definition("Accept", Format.UINT, 0, 2),
    Option.Q_BLOCK1: Definition("Q-Block1", Format.UINT, 0, 3),
    Option.LOCATION_QUERY: Definition("Location-Query", Format.STRING, 0, 255, repeatable=True),
    Option.EDHOC: Definition("EDHOC", Format.EMPTY, 0, 0),
    Option.BLOCK2: Definition("Block2", Format.UINT, 0, 3),
    Option.BLOCK1: Definition("Block1", Format.UINT, 0, 3),
    Option.SIZE2: Definition("Size2", Format.UINT, 0, 4),
    Option.Q_BLOCK2: Definition("Q-Block2", Format.UINT, 0, 3, repeatable=True),
    Option.PROXY_URI: Definition("Proxy-Uri", Format.STRING, 1, 1034),
    Option.PROXY_SCHEME: Definition("Proxy-Scheme", Format.STRING, 1, 255),
    Option.SIZE1: Definition("Size1", Format.UINT, 0, 4),
    Option.ECHO: Definition("Echo", Format.OPAQUE, 1, 40),
    Option.NO_RESPONSE: Definition("No-Response", Format.UINT, 0, 1),
    Option.REQUEST_TAG: Definition("Request-Tag", Format.OPAQUE, 0, 8, repeatable=True),
}


def is_critical(option: int) -> bool:
    """A receiver that does not know it must not go on (RFC 7252 section 5.4.1)."""
    return option & 1 == 1


def is_no_cache_key(option: int) -> bool:
    """Safe to forward and without influence on the answer (RFC 7252 section 5.4.6)."""
    return option & 0x1E == 0x1C


def option_name(option: int) -> str:
    """``If-Match (1)``; ``65001`` for a number without a name."""
    definition = OPTIONS.get(option)
    return f"{definition.name} ({option})" if definition else str(option)


class ContentFormat(IntEnum):
    """The formats that the gateway itself reads or writes."""

    TEXT = 0
    COSE_ENCRYPT0 = 16
    LINK = 40
    CBOR = 60
    COSE_ENCRYPT = 96
    SENML_JSON = 110
    SENML_CBOR = 112


CONTENT_FORMATS: Final[dict[int, str]] = {
    0: "text/plain;charset=utf-8",
    16: 'application/cose; cose-type="cose-encrypt0"',
    17: 'application/cose; cose-type="cose-mac0"',
    18: 'application/cose; cose-type="cose-sign1"',
    19: "application/ace+cbor",
    40: "application/link-format",
    41: "application/xml",
    42: "application/octet-stream",
    47: "application/exi",
    50: "application/json",
    51: "application/json-patch+json",
    52: "application/merge-patch+json",
    60: "application/cbor",
    61: "application/cwt",
    62: "application/multipart-core",
    63: "application/cbor-seq",
    96: 'application/cose; cose-type="cose-encrypt"',
    97: 'application/cose; cose-type="cose-mac"',
    98: 'application/cose; cose-type="cose-sign"',
    101: "application/cose-key",
    102: "application/cose-key-set",
    110: "application/senml+json",
    111: "application/sensml+json",
    112: "application/senml+cbor",
    113: "application/sensml+cbor",
    114: "application/senml-exi",
    115: "application/sensml-exi",
    256: "application/coap-group+json",
    257: "application/concise-problem-details+cbor",
    271: "application/dots+cbor",
    272: "application/missing-blocks+cbor-seq",
    280: "application/pkcs7-mime; smime-type=server-generated-key",
    281: "application/pkcs7-mime; smime-type=certs-only",
    284: "application/pkcs8",
    285: "application/csrattrs",
    286: "application/pkcs10",
    287: "application/pkix-cert",
    290: "application/aif+cbor",
    291: "application/aif+json",
    310: "application/senml+xml",
    311: "application/sensml+xml",
    320: "application/senml-etch+json",
    322: "application/senml-etch+cbor",
    432: "application/td+json",
    10000: "application/vnd.ocf+cbor",
    10001: "application/oscore",
    11050: "application/json@deflate",
    11060: "application/cbor@deflate",
    11542: "application/vnd.oma.lwm2m+tlv",
    11543: "application/vnd.oma.lwm2m+json",
    11544: "application/vnd.oma.lwm2m+cbor",
}

# Transmission parameters in seconds, all at their defaults (RFC 7252 section 4.8).
ACK_TIMEOUT: Final = 2.0
ACK_RANDOM_FACTOR: Final = 1.5
MAX_RETRANSMIT: Final = 4
MAX_TRANSMIT_SPAN: Final = ACK_TIMEOUT * (2**MAX_RETRANSMIT - 1) * ACK_RANDOM_FACTOR  # 45
MAX_TRANSMIT_WAIT: Final = ACK_TIMEOUT * (2 ** (MAX_RETRANSMIT + 1) - 1) * ACK_RANDOM_FACTOR  # 93
MAX_LATENCY: Final = 100.0
EXCHANGE_LIFETIME: Final = MAX_TRANSMIT_SPAN + 2 * MAX_LATENCY + ACK_TIMEOUT  # 247
NON_LIFETIME: Final = MAX_TRANSMIT_SPAN + MAX_LATENCY  # 145
