"""gateway.sinks.answers: whatever a server says, DeliveryError and nothing else."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import DeliveryError
from gateway.sinks.answers import Answer, json_untrusted, refuse_untrusted, retry_after_s_untrusted
from gateway.sinks.cloud import verdicts_untrusted

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
bodies = st.binary(max_size=200) | st.builds(
    lambda value: json.dumps(value).encode(),
    json_values
    | st.fixed_dictionaries(
        {},
        optional={
            "error": json_values,
            "missing_epochs": json_values,
            "stored": json_values,
            "known": json_values,
            "refused": json_values
            | st.lists(st.dictionaries(st.sampled_from(["id", "reason"]), json_values)),
        },
    ),
)
dates = st.sampled_from(["Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 -0000"])


@given(
    status=st.integers(100, 999),
    headers=st.fixed_dictionaries(
        {}, optional={"Retry-After": st.text() | dates, "Date": st.text() | dates}
    ),
    body=bodies,
)
def test_an_answer_is_taken_or_refused(status: int, headers: dict[str, str], body: bytes) -> None:
    with suppress(DeliveryError):
        refuse_untrusted(Answer(status, headers, body))
        assert 200 <= status < 300
    wait = retry_after_s_untrusted(headers)
    assert wait is None or wait >= 0


@given(bodies)
def test_verdicts_are_read_or_refused(body: bytes) -> None:
    with suppress(DeliveryError):
        verdicts_untrusted(json_untrusted(body))
