"""Horizontal bars with names, such as weights or counts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fatescreen.figures.style import COLOURS, name_text, new_axes, tidy

NAME_LENGTH = 18  # characters of a name that fit beside a bar


def bar_plot(
    names: Sequence[str], values: Float[np.ndarray, " names"] | Sequence[float], *, x_label: str, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """One horizontal bar for each name, from top to bottom, with its value at its end.

    Parameters
    ----------
    names
        Names of the bars.
    values
        Their lengths, zero or more.
    x_label
        What the lengths are.
    ax
        Axes to draw on; by default those of a new figure with room for the bars.
    title
        Title of the axes.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Examples
    --------
    >>> from fatescreen.figures import bar_plot
    >>> axes = bar_plot(["null", "equal effects"], [0.9, 0.1], x_label="weight")
    >>> axes.get_label()
    'null: 0.9; equal effects: 0.1'
    """
    axes = new_axes(5.5, 1.0 + 0.26 * len(names)) if ax is None else ax
    place, length = np.arange(len(names)), np.asarray(values, np.float64)
    axes.barh(place, length, height=0.7, color=COLOURS["bar"])
    tidy(axes, x_label=x_label, y_label="", title=title)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.15 * max(float(length.max(initial=0.0)), 1e-12))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=bool((length == length.round()).all())))
    for y, (name, value) in enumerate(zip(names, length, strict=True)):
        name_text(axes.text(-0.03, y, "", transform=axes.get_yaxis_transform(), ha="right", va="center", color=COLOURS["ink"]), name, NAME_LENGTH)
        axes.annotate(f"{value:.3g}", (value, y), xytext=(4, 0), textcoords="offset points", va="center", color=COLOURS["muted"])
    axes.set_label("; ".join(f"{name}: {value:.3g}" for name, value in zip(names, length, strict=True)))
    return axes
