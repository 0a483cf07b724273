"""Draws what `growth` has measured, as a PNG beside the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ROWS = (("rate", "acknowledged/s"), ("cpu_us", "CPU µs a request"), ("p99_ms", "p99, ms"))
_COLUMNS = (("associations", "DTLS associations"), ("outbox", "records waiting in the outbox"))
_COLOURS = ("#1f5fa8", "#c2571a", "#4d4d4d")


def growth(report: Mapping[str, Any], path: Path) -> str:
    """Write the plot; where it is, or why there is none."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullLocator
    except ImportError:
        return "matplotlib is not installed (extra: bench)"
    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots(len(_ROWS), len(_COLUMNS), sharex="col", squeeze=False)
    for column, (key, what) in enumerate(_COLUMNS):
        by_count = {int(count): servers for count, servers in report[key].items()}
        names = list(dict.fromkeys(name for servers in by_count.values() for name in servers))
        for row, (figure_key, unit) in enumerate(_ROWS):
            one = axes[row][column]
            for name, colour in zip(names, _COLOURS, strict=False):
                points = [
                    (count, servers[name][figure_key])
                    for count, servers in sorted(by_count.items())
                    if name in servers
                ]
                middle = [point["median"] for _, point in points]
                one.errorbar(
                    [count for count, _ in points],
                    middle,
                    yerr=[
                        [m - point["min"] for m, (_, point) in zip(middle, points, strict=True)],
                        [point["max"] - m for m, (_, point) in zip(middle, points, strict=True)],
                    ],
                    label=name,
                    color=colour,
                    marker="o",
                    markersize=4,
                    capsize=3,
                )
            # An empty outbox has a place on the logarithmic axis too.
            scale = {"value": "symlog", "linthresh": 1000.0} if 0 in by_count else {"value": "log"}
            one.set_xscale(**scale)
            one.set_xticks(list(by_count), [f"{count:,}" for count in by_count], minor=False)
            one.xaxis.set_minor_locator(NullLocator())
            one.set_ylim(bottom=0)
            one.set_ylabel(unit)
            one.grid(alpha=0.3)
            one.spines[["top", "right"]].set_visible(False)
        axes[-1][column].set_xlabel(what)
        axes[0][column].legend(frameon=False)
    figure.suptitle("Ward Gateway: medians, lowest and highest round")
    figure.savefig(path, dpi=120)
    return str(path)
