"""Forest plots: intervals of one gene, day by day, with its guides beneath."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fatescreen.figures.svg import Axis, Plot, tag
from fatescreen.report.blocks import Figure

Q90, Q95 = 1.6448536269514722, 1.959963984540054
ROW, GAP = 15, 7
NAME = 14  # characters of a name that fit beside a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One row: a name, an estimate with its SD, and whether it is the gene's own (a heading of its guides)."""

    name: str
    mean: float
    sd: float
    own: bool


def forest(title: str, groups: Sequence[Sequence[Estimate]], *, x_label: str, caption: str = "") -> Figure:
    """Rows in groups, each with its 90 % interval (thick) and its 95 % interval (thin); the gene's own are diamonds."""
    rows = [row for group in groups for row in group]
    ends = [row.mean + side * Q95 * row.sd for row in rows for side in (-1, 1)]
    height = 60 + len(rows) * ROW + (len(groups) - 1) * GAP
    plot = Plot(Axis.over([*ends, 0.0], x_label), Axis(low=0, high=1, label="", ticks=()), height=height, left=112)
    places = _places(groups, plot.top + 8)
    plot.path(plot.px([0, 0]), np.array([plot.top, plot.bottom]), "ref")
    for row, y in zip(rows, places, strict=True):
        _row(plot, row, y)
    own = "; ".join(f"{row.name} {row.mean:.2f} ± {row.sd:.2f}" for row in rows if row.own)
    return Figure(svg=plot.svg(f"{title}: {own}"), title=title, caption=caption)


def _places(groups: Sequence[Sequence[Estimate]], first: float) -> list[float]:
    out, y = [], first
    for group in groups:
        for _ in group:
            out.append(y)
            y += ROW
        y += GAP
    return out


def _row(plot: Plot, row: Estimate, y: float) -> None:
    style = "own" if row.own else "guide"
    for q, part in ((Q95, "ci95"), (Q90, "ci90")):
        plot.path(plot.px([row.mean - q * row.sd, row.mean + q * row.sd]), np.array([y, y]), f"{part} {style}")
    x = float(plot.px([row.mean])[0])
    mark = f"M{x:.1f} {y:.1f}m0-4.6l4.6 4.6-4.6 4.6-4.6-4.6z" if row.own else f"M{x:.1f} {y:.1f}m-2.4 0a2.4 2.4 0 1 0 4.8 0a2.4 2.4 0 1 0-4.8 0z"
    plot.parts.append(tag("path", d=mark, class_=f"dot {style}"))
    name = row.name if len(row.name) <= NAME else row.name[: NAME - 1] + "…"
    plot.parts.append(tag("text", tag("title", row.name), name, x=104, y=f"{y + 4:.1f}", text_anchor="end", class_="lab strong" if row.own else "tick"))
