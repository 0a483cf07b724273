"""What Prometheus reads, read by a parser of its makers."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.console import metrics

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_LANE = {"rows": 3, "size": 900, "oldest_ms": 1_800_000_000_000, "delivered": 7, "refused": 1}
_DELIVERY = {
    "state": "idle",
    "last_success": 1_800_000_100.5,
    "last_failure": None,
    "failure": "",
    "kind": "",
    "failures": 0,
    "next_try": None,
    "parked": 0,
    "delivered": 7,
    "refused": 2,
}
_FIGURES: dict[str, Any] = {
    "version": "1.2.3",
    "build": "compiled",
    "ward": 'W "1"\n\\',
    "uptime_s": 12.5,
    "associations": 4,
    "half_open": 1,
    "dtls": {"handshakes_done": 9, "handshakes_failed": 1, "cookie_challenges": 10},
    "messages": {"admitted": 70, "shed": 2, "replayed": 3},
    "exchanges": {"reused": 0, "shed": 0},
    "aiocoap_lane": {"dispatched": 5},
    "unsent_datagrams": 0,
    "dropped_by_kernel": {"0.0.0.0:5684": 6},
    "outbox": {
        "lanes": {
            "emergency": {**_LANE, "oldest_ms": None, "rows": 0},
            "routine": copy.deepcopy(_LANE),
        },
        "dead": 2,
        "damaged": 0,
        "lost": 0,
        "size": 1000,
        "commits": 40,
        "max_bytes": 1 << 30,
        "reserve_bytes": 1 << 26,
    },
    "delivery": {"emergency": _DELIVERY, "routine": {**_DELIVERY, "failure": "no answer"}},
    "latency_ms": {"emergency": [], "routine": [10.0, 30.0, 20.0, 40.0]},
    "active_alarms": 1,
    "ready": True,
    "lag_s": 0.001,
    "clock": {"wall": "", "plausible": True, "synchronised": False, "steps": 2},
    "tasks": 20,
    "received_datagrams": 99,
    "watched": 3,
    "certificate_ends": 1_860_000_000.0,
}


@pytest.fixture(scope="module")
def families() -> dict[str, Metric]:
    text = metrics.text(_FIGURES, wall=1_800_000_060.0)
    return {family.name: family for family in text_string_to_metric_families(text)}


def _value(families: dict[str, Metric], family: str, **labels: str) -> float:
    samples = families[f"ward_gateway_{family}"].samples
    (found,) = [sample.value for sample in samples if sample.labels == labels]
    return float(found)


def test_every_metric_has_a_type_a_text_and_the_name_of_the_program(
    families: dict[str, Metric],
) -> None:
    assert len(families) > 30
    for name, family in families.items():
        assert name.startswith("ward_gateway_")
        assert family.type != "unknown"
        assert family.documentation.strip()


def test_counters_and_units_are_named_as_is_usual() -> None:
    for line in metrics.text(_FIGURES, wall=0.0).splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            assert (kind == "counter") == name.endswith("_total"), line
            assert not name.endswith(("_ms", "_s")), line


def test_figures_arrive_where_they_belong(families: dict[str, Metric]) -> None:
    assert _value(families, "queue_records", lane="routine") == 3
    assert _value(families, "queue_oldest_age_seconds", lane="routine") == 60
    assert _value(families, "queue_oldest_age_seconds", lane="emergency") == 0
    assert _value(families, "dtls_handshakes", result="failed") == 1
    assert _value(families, "dtls_events", event="cookie_challenges") == 10
    assert _value(families, "coap_requests", outcome="admitted") == 70
    assert _value(families, "coap_duplicates", met="replayed") == 3
    assert _value(families, "coap_duplicates", met="in_progress") == 0
    assert _value(families, "udp_dropped", socket="0.0.0.0:5684") == 6
    assert _value(families, "sink_up", lane="routine") == 0
    assert _value(families, "sink_up", lane="emergency") == 1
    assert _value(families, "ready") == 1
    assert _value(families, "clock_synchronised") == 0
    assert _value(families, "clock_plausible") == 1
    assert _value(families, "clock_steps") == 2
    assert _value(families, "udp_received") == 99
    assert _value(families, "event_loop_lag_seconds") == 0.001
    assert _value(families, "ingest_to_delivery_seconds", lane="routine", quantile="0.5") == 0.02
    assert _value(families, "ingest_to_delivery_seconds", lane="routine", quantile="0.99") == 0.04
    nobody = _value(families, "ingest_to_delivery_seconds", lane="emergency", quantile="0.5")
    assert math.isnan(nobody)


def test_a_name_with_quotes_stays_one_label(families: dict[str, Metric]) -> None:
    (build,) = families["ward_gateway_build_info"].samples
    assert build.labels == {"version": "1.2.3", "build": "compiled", "ward": 'W "1"\n\\'}


def test_the_alerts_that_are_shipped_ask_for_metrics_that_there_are(
    families: dict[str, Metric],
) -> None:
    rules = (Path(__file__).parents[3] / "configs" / "prometheus-alerts.yml").read_text()
    asked = set(re.findall(r"\bward_gateway_\w+", rules))
    assert len(asked) > 10
    assert {name.removesuffix("_total") for name in asked} <= set(families)
