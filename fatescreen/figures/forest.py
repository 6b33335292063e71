"""Forest plots: estimates with their intervals, in groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from fatescreen.figures.style import COLOURS, name_text, new_axes, tidy

Z90, Z95 = 1.6448536269514722, 1.959963984540054
GAP = 0.5  # rows between groups
NAME_LENGTH = 14  # characters of a name that fit beside a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One row of a forest plot.

    Attributes
    ----------
    name
        Name written beside the row.
    mean
        The estimate; NaN leaves a gap.
    sd
        Its standard error.
    main
        Whether the row is the main estimate of its group, such as a gene above its guides.

    Examples
    --------
    >>> from fatescreen.figures import Estimate
    >>> Estimate(name="day 2", mean=0.5, sd=0.1, main=True).mean
    0.5
    """

    name: str
    mean: float
    sd: float
    main: bool


def forest_plot(groups: Sequence[Sequence[Estimate]], *, x_label: str, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Estimates with their 90 % (thick) and 95 % (thin) intervals, one a row; main estimates are diamonds, the others dots.

    Parameters
    ----------
    groups
        Rows in groups, from top to bottom, with a gap between groups.
    x_label
        Scale of the estimates.
    ax
        Axes to draw on; by default those of a new figure with room for the rows.
    title
        Title of the axes.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Examples
    --------
    >>> from fatescreen.figures import Estimate, forest_plot
    >>> gene = Estimate(name="day 0", mean=0.7, sd=0.1, main=True)
    >>> guides = [Estimate(name=f"guide {i}", mean=0.6 + 0.1 * i, sd=0.2, main=False) for i in range(3)]
    >>> axes = forest_plot([[gene, *guides]], x_label="log-odds")
    >>> axes.get_label()
    'day 0: 0.70 ± 0.10'
    """
    rows = [row for group in groups for row in group]
    place = np.concatenate([np.zeros(0), *(np.arange(len(group)) for group in groups)])
    place += np.repeat(np.cumsum([0.0, *(len(group) + GAP for group in groups)])[:-1], [len(group) for group in groups])
    axes = new_axes(5.5, 1.0 + 0.22 * len(rows)) if ax is None else ax
    mean, sd, main = (np.array([getattr(row, name) for row in rows]) for name in ("mean", "sd", "main"))
    axes.axvline(0, color=COLOURS["muted"], linewidth=1, zorder=0.5)
    for own, colour, marker, size, thick in ((True, COLOURS["s1"], "D", 7.5, 4.5), (False, COLOURS["muted"], "o", 6.0, 3.0)):
        use = main == own
        for z, width in ((Z95, 1.2), (Z90, thick)):
            axes.hlines(place[use], mean[use] - z * sd[use], mean[use] + z * sd[use], colors=colour, linewidth=width)
        axes.plot(mean[use], place[use], linestyle="none", marker=marker, markersize=size, color=colour, markeredgecolor="white", markeredgewidth=0.8)
    tidy(axes, x_label=x_label, y_label="", title=title)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(place[-1] + 0.7 if len(rows) else 1, -0.7)
    axes.set_yticks([])
    for row, y in zip(rows, place, strict=True):  # texts, as matplotlib needs five times as long for ticks
        style: dict[str, Any] = {"color": COLOURS["ink"], "fontweight": "bold"} if row.main else {"color": COLOURS["muted"]}
        name_text(axes.text(-0.03, y, "", transform=axes.get_yaxis_transform(), ha="right", va="center", **style), row.name, NAME_LENGTH)
    axes.set_label("; ".join(f"{row.name}: {_described(row)}" for row in rows if row.main))
    return axes


def _described(row: Estimate) -> str:
    return "no estimate" if np.isnan(row.mean) else f"{row.mean:.2f} ± {row.sd:.2f}"
