"""Histograms of p-values and of counts."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from fatescreen.figures.style import COLOURS, new_axes, tidy


def p_histogram(p: Any, *, ax: Axes | None = None, title: str | None = None, bins: int = 20) -> Axes:
    """Histogram of p-values as a density, with the line at 1 that uniform p-values follow.

    Parameters
    ----------
    p
        p-values of any shape; undefined ones (NaN) are left out.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.
    bins
        Number of bins between 0 and 1.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Examples
    --------
    >>> import numpy as np
    >>> from fatescreen.figures import p_histogram
    >>> axes = p_histogram(np.random.default_rng(1).random(1000))
    >>> len(axes.patches), axes.get_xlabel()
    (20, 'p')
    """
    axes = new_axes() if ax is None else ax
    values = np.asarray(p, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    edges = np.linspace(0, 1, bins + 1)
    density = np.histogram(values, edges)[0] / max(1, values.size) * bins
    _bars(axes, edges, density)
    axes.plot([0, 1], [1, 1], color=COLOURS["muted"], linewidth=1.2)
    axes.set(xlim=(0, 1), ylim=(0, max(1.2, float(density.max())) * 1.06))
    tidy(axes, x_label="p", y_label="density (uniform: 1)", title=title)
    axes.set_label(f"histogram of {values.size:,} p-values; the share below {1 / bins:g} is {density[0]:.2f} times that of uniform p-values")
    return axes


def count_histogram(values: Any, *, x_label: str, y_label: str = "cells", ax: Axes | None = None, title: str | None = None) -> Axes:
    """Histogram of whole numbers: a bar for each number where they are few, else bars of equal width.

    There are at most 40 bars, or 12 with fewer than 200 values.

    Parameters
    ----------
    values
        Whole numbers, zero or more, of any shape.
    x_label
        What the numbers count, for example "guides per cell".
    y_label
        What each value belongs to, for example "cells".
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
    >>> from fatescreen.figures import count_histogram
    >>> axes = count_histogram([0, 1, 1, 3], x_label="guides per cell")
    >>> [int(bar.get_height()) for bar in axes.patches]
    [1, 2, 0, 1]
    """
    axes = new_axes() if ax is None else ax
    numbers = np.asarray(values).astype(np.int64).ravel()
    low, high, mean = (int(numbers.min()), int(numbers.max()), float(numbers.mean())) if numbers.size else (0, 0, 0.0)
    step = -(-(high + 1) // (40 if numbers.size >= 200 else 12))
    count = np.bincount(numbers // step, minlength=high // step + 1)
    edges = np.arange(count.size + 1) * step - 0.5
    _bars(axes, edges, count)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, max(1, int(count.max())) * 1.06))
    tidy(axes, x_label=x_label, y_label=y_label, title=title)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_label(f"histogram of {numbers.size:,} {y_label}: {x_label} from {low:,} to {high:,}, mean {mean:.3g}")
    return axes


def _bars(axes: Axes, edges: np.ndarray, heights: np.ndarray) -> None:
    axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=COLOURS["bar"], edgecolor=COLOURS["panel"], linewidth=0.6)
