"""One status from several: the figures of workers, and of outboxes that are left over, together.

Shapes are those of :meth:`gateway.app.Gateway.status`, as JSON has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_STATES: Final = ("backing off", "delivering", "idle", "stopped")
"""Of a delivery; the first that any has is that of all."""

_NOT_ADDED: Final = ("lanes", "notice")
_EACH: Final = ("associations", "messages")
"""What is also told of each worker: how the kernel has spread the peers."""


def of_workers(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The whole gateway's status; ``found``: that of every worker, in order.

    Counts are added, whatever their names; texts and lists are those of the first worker.
    """
    first = found[0]
    return {
        **{name: _together([one[name] for one in found]) for name in first},
        "uptime_s": min(one["uptime_s"] for one in found),
        "outbox": of_outboxes([one["outbox"] for one in found]),
        "delivery": of_deliveries([one["delivery"] for one in found]),
        "latency_ms": {
            lane: [value for one in found for value in one["latency_ms"][lane]]
            for lane in first["latency_ms"]
        },
        "workers": [{name: one[name] for name in _EACH} for one in found],
    }


def _together(values: Sequence[Any]) -> Any:  # noqa: ANN401 -- what JSON has
    first = values[0]
    if isinstance(first, int):
        return sum(values)
    if isinstance(first, dict) and all(isinstance(n, int) for one in values for n in one.values()):
        return _added(values)
    return first


def of_outboxes(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of :class:`gateway.outbox.entry.Status` together."""
    notices = [one["notice"] for one in found if one["notice"]]
    total = _added({name: one[name] for name in one if name not in _NOT_ADDED} for one in found)
    lanes = {
        lane: {
            **_added(
                {n: one["lanes"][lane][n] for n in figures if n != "oldest_ms"} for one in found
            ),
            "oldest_ms": min(
                (ms for one in found if (ms := one["lanes"][lane]["oldest_ms"]) is not None),
                default=None,
            ),
        }
        for lane, figures in found[0]["lanes"].items()
    }
    return {**total, "notice": "; ".join(notices), "lanes": lanes}


def of_deliveries(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of :class:`gateway.delivery.status.PumpStatus` by lane, together: the worst state,
    and the failure that came last."""
    return {lane: _delivery([one[lane] for one in found]) for lane in found[0]}


def _delivery(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    failing = [one for one in found if one["failure"]]
    last = max(failing, key=lambda one: one["last_failure"] or 0.0, default=found[0])
    return {
        "state": min((one["state"] for one in found), key=_STATES.index),
        "last_success": _latest(found, "last_success"),
        "last_failure": _latest(found, "last_failure"),
        "failure": last["failure"],
        "kind": last["kind"],
        "failures": max(one["failures"] for one in found),
        "next_try": min((t for one in found if (t := one["next_try"]) is not None), default=None),
        **{name: sum(one[name] for one in found) for name in ("parked", "delivered", "refused")},
    }


def _latest(found: Sequence[dict[str, Any]], name: str) -> float | None:
    return max((at for one in found if (at := one[name]) is not None), default=None)


def _added(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sums by name; a name that only some have counts as 0 elsewhere."""
    total: dict[str, Any] = {}
    for one in found:
        for name, value in one.items():
            total[name] = total.get(name, 0) + value
    return total
