"""Prometheus text."""

from __future__ import annotations

from cloud.metrics import Metrics


def test_counters_are_told_by_name_and_labels() -> None:
    """Labels in one order, whichever way they were given; help and type for each name."""
    metrics = Metrics()
    metrics.count("ward_cloud_records_total", 3, outcome="stored")
    metrics.count("ward_cloud_records_total", 2, outcome="stored")
    metrics.count("ward_cloud_requests_total", path="/p", method="GET")
    metrics.count("ward_cloud_requests_total", method="GET", path="/p")
    metrics.count("ward_cloud_acknowledgements_total")
    lines = metrics.text(listeners=4).splitlines()
    for line in (
        'ward_cloud_records_total{outcome="stored"} 5',
        'ward_cloud_requests_total{method="GET",path="/p"} 2',
        "ward_cloud_acknowledgements_total 1",
        "ward_cloud_listeners 4",
        "# TYPE ward_cloud_records_total counter",
        "# TYPE ward_cloud_listeners gauge",
    ):
        assert lines.count(line) == 1
