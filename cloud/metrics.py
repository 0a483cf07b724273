"""Counters of the cloud store, as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from collections import Counter

_HELP = {
    "ward_cloud_requests_total": "Requests by path and status.",
    "ward_cloud_records_total": "Records of batches by what became of them.",
    "ward_cloud_envelopes_total": "Key envelopes by what became of them.",
    "ward_cloud_records_served_total": "Sealed records given to readers.",
    "ward_cloud_acknowledgements_total": "Alarms acknowledged.",
}


class Metrics:
    """Counts by name and labels. All labels come from fixed sets, never from a peer."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """``name`` is one of the table above."""
        pairs = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        self._counts[name, pairs] += amount

    def text(self, *, listeners: int) -> str:
        """Everything counted so far; ``listeners`` is the gauge of open event streams."""
        lines: list[str] = []
        for name, explanation in _HELP.items():
            lines += [f"# HELP {name} {explanation}", f"# TYPE {name} counter"]
            lines += [
                f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"
                for (counted, pairs), value in sorted(self._counts.items())
                if counted == name
            ]
        lines += [
            "# HELP ward_cloud_listeners Open event streams.",
            "# TYPE ward_cloud_listeners gauge",
            f"ward_cloud_listeners {listeners}",
        ]
        return "\n".join(lines) + "\n"
