# SPDX-License-Identifier: Apache-2.0
"""Draws weir's memory over time, one run above the other, with the faults and the rests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

if TYPE_CHECKING:
    from soak import Run


def draw(runs: list[Run], path: Path) -> None:
    """Writes the picture as PNG."""
    figure, all_axes = plt.subplots(
        len(runs), 1, figsize=(9, 3 * len(runs)), squeeze=False, layout="constrained"
    )
    for run, axes in zip(runs, all_axes[:, 0]):
        if run.memory:
            axes.plot(*zip(*run.memory), color="#0072B2")
        for at_s, name in run.faults:
            axes.axvline(at_s, color="#D55E00" if name == "kill_server" else "#CCCCCC", zorder=0)
        if run.rests:
            axes.plot(*zip(*run.rests), "o", color="#333333")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{run.name} (dots: at rest; lines: faults, red when the server is killed)")
        axes.set_ylabel("resident memory, MB")
        axes.set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    plt.close(figure)
