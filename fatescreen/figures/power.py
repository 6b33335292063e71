"""Figures about power: positive controls beside all tests and NTC groups."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from fatescreen.figures.style import COLOURS, SERIES, new_axes, thin, tidy

MOST_POINTS = 3_000  # of one column


def p_strip_plot(columns: Mapping[str, Any], *, threshold: float | None = None, ax: Axes | None = None, title: str | None = None) -> Axes:
    """−log10 p of groups of tests side by side, each a column of points in random order, with its median.

    Parameters
    ----------
    columns
        Name of each group → log10 of its p-values, of any shape; undefined ones (NaN) are left out.
    threshold
        A p-value that is drawn as a line: that below which tests are discoveries.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Examples
    --------
    >>> import numpy as np
    >>> from fatescreen.figures import p_strip_plot
    >>> p = np.random.default_rng(1).random(50)
    >>> p_strip_plot({"NTC groups": np.log10(p), "positive controls": np.log10(p) - 3}, threshold=1e-3).get_ylabel()
    '−log10 p'
    """
    axes = new_axes(4.5, 4.0) if ax is None else ax
    rng, described = np.random.default_rng(0), []
    for x, (name, log10_p) in enumerate(columns.items()):
        y = -np.asarray(log10_p, dtype=np.float64).ravel()
        y = np.sort(y[np.isfinite(y)])[::-1]
        if not y.size:
            continue
        shown = y[thin(y.size, MOST_POINTS)]
        colour, marker, _ = SERIES[x % len(SERIES)]
        axes.plot(x + rng.uniform(-0.3, 0.3, shown.size), shown, linestyle="", marker=marker, markersize=3.5, color=colour, alpha=0.6)
        axes.plot([x - 0.35, x + 0.35], [np.median(y)] * 2, color=colour, linewidth=2)
        described.append(f"{name}: {y.size:,} tests, median {np.median(y):.2f}, largest {y[0]:.2f}")
    if threshold is not None:
        axes.axhline(-np.log10(threshold), linestyle="--", linewidth=1, color=COLOURS["muted"])
        described.append(f"the line is at p = {threshold:.2g}")
    tidy(axes, x_label="", y_label="−log10 p", title=title)
    axes.set_xticks(range(len(columns)), list(columns))
    axes.set_ylim(bottom=0)
    axes.set_label("−log10 p by group of tests; " + "; ".join(described))
    return axes
