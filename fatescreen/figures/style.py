"""Colours, markers and axes that all figures share."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

COLOURS = {  # the light colours of the report's style sheet, by the names of its variables; safe for colour-blind readers (Okabe and Ito)
    "ink": "#1b1f23",
    "muted": "#545b63",
    "line": "#d9dbd6",
    "grid": "#ebece7",
    "panel": "#ffffff",
    "band": "#e3e4df",
    "bar": "#7fa8c9",
    "s1": "#0072b2",
    "s2": "#d55e00",
    "s3": "#009e73",
    "s4": "#b0558a",
    "s5": "#b07c00",
}
SERIES: tuple[tuple[str, str, Any], ...] = (  # colour, marker and line of each series: told apart without colour as well
    (COLOURS["ink"], "o", "-"),
    (COLOURS["s1"], "s", "--"),
    (COLOURS["s2"], "^", "-."),
    (COLOURS["s3"], "D", ":"),
    (COLOURS["s4"], "v", (0, (5, 1, 1, 1, 1, 1))),
    (COLOURS["s5"], "P", (0, (9, 2))),
)
FULL_NAME = "full name: "  # begins the gid of a text that is shortened
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # characters that an SVG file cannot hold


def own_style(**settings: Any) -> AbstractContextManager[None]:
    """Matplotlib's defaults with these settings, whatever the user's own style is: the same data give the same figure."""
    defaults: dict[Any, Any] = {key: value for key, value in rcParamsDefault.items() if not key.startswith(("backend", "interactive"))}
    return rc_context(defaults | {"text.color": COLOURS["ink"], "axes.labelcolor": COLOURS["ink"], "axes.titlesize": "medium"} | settings)


def new_axes(width: float = 5.5, height: float = 5.0) -> Axes:
    """Axes of a new figure of this size in inches, which is never shown: save it with `axes.figure.savefig(path)`."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def tidy(axes: Axes, *, x_label: str, y_label: str, title: str | None = None) -> None:
    """Label the axes; light grid, no frame at the top and right, ticks without factors or offsets.

    Parameters
    ----------
    axes
        The axes.
    x_label, y_label
        Labels of the axes, written as they are, not as formulas.
    title
        Title, or None.
    """
    axes.set_xlabel(x_label, parse_math=False)
    axes.set_ylabel(y_label, parse_math=False)
    if title:
        axes.set_title(title, parse_math=False)
    axes.grid(color=COLOURS["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5, labelcolor=COLOURS["muted"])
    axes.ticklabel_format(style="plain", useOffset=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set(color=COLOURS["muted"], linewidth=0.8)


def diagonal(axes: Axes, *values: Any) -> None:
    """The line y = x over the range of these values, which both axes then have."""
    finite = np.concatenate([np.asarray(v, dtype=np.float64).ravel() for v in values] or [np.zeros(0)])
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=COLOURS["muted"], linewidth=1, zorder=0.5)
    axes.set(xlim=ends, ylim=ends)


def legend(axes: Axes) -> None:
    """A legend without a frame; names are written as they are, not as formulas."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        place_legend(axes, handles, labels, loc="best")


def place_legend(axes: Axes, handles: Sequence[Artist], labels: Sequence[str], **settings: Any) -> None:
    """A legend at a place; it takes no room from the axes.

    Parameters
    ----------
    axes
        The axes.
    handles, labels
        Artists and the names of their series, written as they are.
    settings
        Further arguments of `Axes.legend`.
    """
    made = axes.legend(handles, labels, frameon=False, **({"fontsize": "small"} | settings))
    made.set_in_layout(False)
    for text in made.get_texts():
        text.set_parse_math(False)


def short(name: object, most: int = 34) -> str:
    """A name as a label: shortened where it is long. A leading "_" would hide it from the legend, so a thin space comes first."""
    clean = writable(name)
    cut = clean if len(clean) <= most else clean[: most - 1] + "…"
    return "\N{THIN SPACE}" + cut if cut.startswith("_") else cut


def name_text(text: Text, name: object, most: int) -> None:
    """Write a name, shortened to `most` characters and never as a formula; the gid of the text has a shortened name in full."""
    text.set_parse_math(False)
    text.set_text(short(name, most))
    if len(writable(name)) > most:
        text.set_gid(FULL_NAME + writable(name))


def writable(name: object) -> str:
    """A name without characters that an SVG file cannot hold."""
    return UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", str(name))


def series_points(axes: Axes, x: Any, y: Any, number: int, text: str) -> None:
    """Points of a series, without a line.

    Parameters
    ----------
    axes
        The axes.
    x, y
        Coordinates of the points.
    number
        Position of the series, which decides its colour and marker.
    text
        Name of the series in the legend.
    """
    colour, marker, _ = SERIES[number % len(SERIES)]
    axes.plot(x, y, linestyle="none", marker=marker, markersize=5, markerfacecolor="white", color=colour, label=text)


def band(axes: Axes, x: Any, low: Any, high: Any, text: str) -> PolyCollection:
    """A shaded band behind everything else.

    Parameters
    ----------
    axes
        The axes.
    x
        Positions along the x axis.
    low, high
        Lower and upper limits there.
    text
        Name of the band in the legend.
    """
    return axes.fill_between(x, low, high, color=COLOURS["band"], linewidth=0, label=text, zorder=0.1)


def thin(n: int, most: int) -> np.ndarray:
    """At most `most` of the positions 0 … n − 1, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)) if n else np.empty(0, np.int64)
