# SPDX-License-Identifier: Apache-2.0
"""Plays the storms; prints the tables, and puts them and the plots into the documentation.

publish.py STORMS DOCS: the program, and the directory with storms.md. What is between its two marks
is replaced.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

BEGIN = "<!-- make storms: begin -->\n"
END = "<!-- make storms: end -->\n"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 360, 60, 40, 130, 40
COLOURS = "#888 #b58900 #cb4b16 #6c71c4 #268bd2 #2aa198 #859900 #d33682 #a0522d #444 #93a1a1 #dc322f".split()

Lines = dict[str, list[tuple[float, float]]]

# Plot: file, title, what is across, what is up.
PLOTS = {
    "overload crowded": (
        "overload", "Goodput under overload, a crowded server", "load / capacity",
        "of the cores",
    ),
    "story": ("story", "The story: fast operations served in time", "s", "per second"),
    "spike": ("spike", "A spike of 10x from 20 s to 50 s: served in time", "s", "per second"),
    "retries, back-off": (
        "retries", "Twice the load from 20 s to 30 s, with retries: served in time", "s",
        "per second",
    ),
}  # fmt: skip


def nice(top: float) -> float:
    """A round number not below top, for the end of an axis."""
    unit = 10.0 ** (len(str(int(top))) - 1) if top >= 1 else 0.1
    while unit * 10 < top:
        unit *= 10
    return next(unit * n for n in (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10) if unit * n >= top)


def text(x: float, y: float, what: str, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{what}</text>'


def axes(title: str, across: str, up: str, most_x: float, most_y: float) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        text(LEFT, 22, title, 'font-weight="bold"'),
        text(LEFT, TOP - 4, up, 'fill="#666"'),
        text(right, bottom + 32, across, 'fill="#666" text-anchor="end"'),
    ]
    for i in range(6):
        x = LEFT + (right - LEFT) * i / 5
        y = bottom - (bottom - TOP) * i / 5
        parts.append(f'<path d="M{LEFT} {y:.0f}H{right}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y + 4, f"{most_y * i / 5:g}", 'text-anchor="end"'))
        parts.append(text(x, bottom + 16, f"{most_x * i / 5:g}", 'text-anchor="middle"'))
    return parts


def svg(title: str, across: str, up: str, lines: Lines) -> str:
    most_x = nice(max(x for line in lines.values() for x, _ in line))
    most_y = nice(max(y for line in lines.values() for _, y in line))
    across_px, up_px = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = axes(title, across, up, most_x, most_y)
    for i, (name, line) in enumerate(lines.items()):
        points = " ".join(
            f"{LEFT + across_px * x / most_x:.1f},{TOP + up_px * (1 - y / most_y):.1f}"
            for x, y in line
        )
        colour, width = COLOURS[i % len(COLOURS)], 3 if name == "weir" else 1.3
        style = f'fill="none" stroke="{colour}" stroke-width="{width}"'
        y = TOP + 12 + 20 * i
        parts.append(f'<polyline points="{points}" {style}/>')
        parts.append(f'<path d="M{WIDTH - RIGHT + 14} {y}h24" {style}/>')
        parts.append(text(WIDTH - RIGHT + 44, y + 4, name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        + "\n".join(parts)
        + "</svg>\n"
    )


def read_series(storms: str) -> dict[str, Lines]:
    plots: dict[str, Lines] = defaultdict(lambda: defaultdict(list))
    printed = subprocess.run([storms, "--series"], check=True, capture_output=True, text=True)
    for line in printed.stdout.splitlines():
        plot, contestant, x, y = line.rsplit(",", 3)
        plots[plot][contestant].append((float(x), float(y)))
    return plots


def main(storms: str, docs: Path) -> None:
    tables = subprocess.run([storms], check=True, stdout=subprocess.PIPE, text=True).stdout
    print(tables)
    page = docs / "storms.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")
    for plot, lines in read_series(storms).items():
        file, title, across, up = PLOTS[plot]
        (docs / f"storms-{file}.svg").write_text(svg(title, across, up, lines))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
