# SPDX-License-Identifier: Apache-2.0
"""Draws the runs of a story over time, one above the other: served, connections, latency."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

if TYPE_CHECKING:
    from story import Run

# Vermilion and blue of Okabe and Ito's palette: told apart also without red or green, and in grey.
STYLES = (
    {"color": "#D55E00", "linestyle": "-", "linewidth": 1.8},
    {"color": "#0072B2", "linestyle": "-", "linewidth": 2.4},
)
INK = "#333333"


def draw(runs: list[Run], path: Path) -> None:
    """Writes the picture as PNG."""
    plt.rcParams.update({"font.size": 10, "axes.edgecolor": INK, "text.color": INK})
    figure, (served, connections, latency) = plt.subplots(
        3, 1, figsize=(9, 8), sharex=True, height_ratios=(3, 2, 2), layout="constrained"
    )
    figure.suptitle("A storm of slow queries, straight at the server and through weir")
    for run, style in zip(runs, STYLES):
        seconds = range(math.floor(run.phases.end))
        middles = [second + 0.5 for second in seconds]
        rate = [run.served_a_second(second, second + 1) for second in seconds]
        p99 = [run.latency_ms(99, second, second + 1) for second in seconds]
        served.plot(middles, rate, label=run.name, **style)
        inside = [(at_s, count) for at_s, count in run.connections if at_s <= run.phases.end]
        connections.plot(*zip(*inside), label=run.name, **style)
        latency.plot(middles, [math.nan if ms is None else ms for ms in p99], marker=".", **style)

    for axes in (served, connections, latency):
        _furnish(axes, runs[0])
    served.set_ylabel("fast operations\nserved a second")
    served.set_ylim(bottom=0)
    middle = (runs[0].phases.storm + runs[0].phases.calm) / 2 / runs[0].phases.end
    served.legend(loc="center", bbox_to_anchor=(middle, 0.5), frameon=False)
    connections.set_ylabel("connections\nat the server")
    connections.set_ylim(bottom=0)
    latency.set_ylabel("p99 of those served, ms\n(gap: fewer than 5)")
    latency.set_yscale("log")
    latency.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    latency.set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _furnish(axes: Axes, run: Run) -> None:
    axes.axvspan(run.phases.storm, run.phases.calm, color="#EDEDED", zorder=0)
    axes.set_xlim(0, run.phases.end)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_subplotspec().is_first_row():
        middle = (run.phases.storm + run.phases.calm) / 2
        axes.text(middle, 1.01, "storm", transform=axes.get_xaxis_transform(), ha="center")
