"""Figures of a gateway as Prometheus text (exposition format 0.0.4).

Base units, ``_total`` for what only grows. Every label comes from a set that the program fixes: no
peer can make a series, and none names a patient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PREFIX: Final = "ward_gateway_"
_DUPLICATES: Final = ("replayed", "in_progress")
_HANDSHAKES: Final = "handshakes_"
_QUANTILES: Final = (0.5, 0.9, 0.99)

_Samples = list[tuple[dict[str, object], float]]


def text(figures: Mapping[str, Any], *, wall: float) -> str:
    """``figures``: of :func:`gateway.figures.status`, or several of them together, with ``ready``,
    ``lag_s`` and ``certificate_ends`` (UTC seconds). ``wall``: UTC now."""
    lines: list[str] = []
    for name, kind, explanation, samples in _families(figures, wall):
        full = _PREFIX + name
        lines += [f"# HELP {full} {explanation}", f"# TYPE {full} {kind}"]
        for labels, value in samples:
            pairs = ",".join(f'{key}="{_escaped(one)}"' for key, one in labels.items())
            lines.append(f"{full}{'{' + pairs + '}' if pairs else ''} {_number(value)}")
    return "\n".join(lines) + "\n"


def _families(figures: Mapping[str, Any], wall: float) -> Iterable[tuple[str, str, str, _Samples]]:
    """Name, type, explanation, samples."""
    dtls, messages, outbox = figures["dtls"], figures["messages"], figures["outbox"]
    build = {name: figures[name] for name in ("version", "build", "ward")}
    yield "build_info", "gauge", "What runs here.", [(build, 1)]
    yield "uptime_seconds", "gauge", "Since the start.", _one(figures["uptime_s"])
    yield "ready", "gauge", "1 when a record would be acknowledged.", _one(figures["ready"])
    yield (
        *("event_loop_lag_seconds", "gauge", "How late the event loop came back last."),
        _one(figures["lag_s"]),
    )
    clock = figures["clock"]
    yield (
        *("clock_synchronised", "gauge", "1 when the kernel says that its clock is set by others."),
        _one(clock["synchronised"]),
    )
    yield "clock_plausible", "gauge", "0 for a date before this program.", _one(clock["plausible"])
    yield "clock_steps_total", "counter", "Times that the date was changed.", _one(clock["steps"])
    yield "tasks", "gauge", "Tasks in the event loop.", _one(figures["tasks"])
    yield (
        *("certificate_expiry_timestamp_seconds", "gauge", "End of the gateway's certificate."),
        _one(figures["certificate_ends"]),
    )
    yield "dtls_associations", "gauge", "Nodes connected.", _one(figures["associations"])
    yield "dtls_half_open", "gauge", "Handshakes under way.", _one(figures["half_open"])
    yield (
        *("dtls_handshakes_total", "counter", "Handshakes by how they ended."),
        _by("result", {n.removeprefix(_HANDSHAKES): v for n, v in dtls.items() if _ended(n)}),
    )
    yield (
        *("dtls_events_total", "counter", "What else happened below CoAP."),
        _by("event", {name: value for name, value in dtls.items() if not _ended(name)}),
    )
    yield (
        *("coap_requests_total", "counter", "Telemetry by what became of it."),
        _by("outcome", {n: v for n, v in messages.items() if n not in _DUPLICATES}),
    )
    yield (
        *("coap_duplicates_total", "counter", "Repetitions by what they met."),
        _by("met", {n: messages.get(n, 0) for n in _DUPLICATES}),
    )
    yield (
        *("coap_other_total", "counter", "Requests that are no telemetry."),
        _by("outcome", figures["aiocoap_lane"]),
    )
    yield (
        *("coap_exchanges_total", "counter", "Remembered exchanges that gave way."),
        _by("event", figures["exchanges"]),
    )
    yield (
        *("udp_received_total", "counter", "Datagrams that came."),
        _one(figures["received_datagrams"]),
    )
    yield (
        *("udp_unsent_total", "counter", "Answers that the kernel did not take."),
        _one(figures["unsent_datagrams"]),
    )
    yield (
        *("udp_dropped_total", "counter", "Datagrams dropped for a full receive buffer."),
        _by("socket", figures["dropped_by_kernel"]),
    )
    yield "alarms_active", "gauge", "Conditions that hold.", _one(figures["active_alarms"])
    yield "devices_watched", "gauge", "Whose silence would be an alarm.", _one(figures["watched"])
    yield from _of_queue(outbox, wall)
    yield from _of_delivery(figures["delivery"])
    yield (
        *("ingest_to_delivery_seconds", "summary", "Datagram to the sink's answer, of the last."),
        _summary(figures["latency_ms"]),
    )


def _of_queue(outbox: Mapping[str, Any], wall: float) -> Iterable[tuple[str, str, str, _Samples]]:
    lanes = outbox["lanes"]
    for name, kind, key, explanation in (
        ("queue_records", "gauge", "rows", "Records that wait for the sink."),
        ("queue_bytes", "gauge", "size", "Their bytes."),
        ("queue_delivered_total", "counter", "delivered", "Delivered since the outbox was made."),
        ("queue_refused_total", "counter", "refused", "Turned away for want of room."),
    ):
        yield name, kind, explanation, _by("lane", {lane: one[key] for lane, one in lanes.items()})
    ages = {
        lane: 0.0 if one["oldest_ms"] is None else max(wall - one["oldest_ms"] / 1000, 0.0)
        for lane, one in lanes.items()
    }
    yield "queue_oldest_age_seconds", "gauge", "Of the first that waits.", _by("lane", ages)
    for name, kind, key, explanation in (
        ("queue_dead_letters", "gauge", "dead", "Refused for good, see `outbox list`."),
        ("queue_damaged_total", "counter", "damaged", "Rows found damaged on disk."),
        ("queue_lost_total", "counter", "lost", "Rows promised and not found on disk."),
        ("queue_used_bytes", "gauge", "size", "Everything that counts against the quota."),
        ("queue_max_bytes", "gauge", "max_bytes", "The quota."),
        ("queue_reserve_bytes", "gauge", "reserve_bytes", "Its part for emergencies only."),
        ("queue_commits_total", "counter", "commits", "Transactions."),
    ):
        yield name, kind, explanation, _one(outbox[key])


def _of_delivery(
    delivery: Mapping[str, Mapping[str, Any]],
) -> Iterable[tuple[str, str, str, _Samples]]:
    up = {lane: not one["failure"] for lane, one in delivery.items()}
    yield "sink_up", "gauge", "0 while the sink fails.", _by("lane", up)
    for name, kind, key, explanation in (
        ("sink_failures_in_a_row", "gauge", "failures", "Failed tries since the last success."),
        ("sink_parked_records", "gauge", "parked", "Records that the sink breaks over."),
        ("sink_delivered_total", "counter", "delivered", "Records that the sink has taken."),
        ("sink_refused_total", "counter", "refused", "Records that became dead letters."),
    ):
        found = {lane: one[key] for lane, one in delivery.items()}
        yield name, kind, explanation, _by("lane", found)
    last = {lane: one["last_success"] or 0.0 for lane, one in delivery.items()}
    yield (
        *("sink_last_success_timestamp_seconds", "gauge", "0 when there was none yet."),
        _by("lane", last),
    )


def _summary(latencies: Mapping[str, Sequence[float]]) -> _Samples:
    samples: _Samples = []
    for lane, values in latencies.items():
        ordered = sorted(values)
        for quantile in _QUANTILES:
            at = math.ceil(quantile * len(ordered)) - 1
            value = ordered[at] / 1000 if ordered else math.nan
            samples.append(({"lane": lane, "quantile": quantile}, value))
    return samples


def _ended(name: str) -> bool:
    return name.startswith(_HANDSHAKES)


def _one(value: float) -> _Samples:
    return [({}, value)]


def _by(label: str, values: Mapping[str, float]) -> _Samples:
    return [({label: name}, value) for name, value in sorted(values.items())]


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.17g}" if value % 1 else f"{value:.0f}"


def _escaped(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
