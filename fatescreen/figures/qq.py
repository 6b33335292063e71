"""QQ plots of p-values on −log10 axes: legible with a million tests, and in greyscale."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from data_prep.errors import InputError
from fatescreen.figures.quantiles import N_POINTS, TINY, Curve, beta_band, log_ranks, thinned
from fatescreen.figures.style import COLOURS, SERIES, band, legend, new_axes, short, tidy


def qq_plot(
    curves: Mapping[str, Any],
    *,
    ax: Axes | None = None,
    title: str | None = None,
    band_n: int | None = None,
    cap: float | None = None,
    floor: float | None = None,
) -> Axes:
    """A QQ plot of p-values on −log10 axes.

    Parameters
    ----------
    curves
        Label → p-values of any shape; undefined ones (NaN) are left out.
    ax
        Axes to draw on; by default those of a new figure, which is never shown: save it with `ax.figure.savefig(path)`.
    title
        Title of the axes.
    band_n
        Number of tests of the 95 % band; by default that of the smallest curve, which has the widest band.
    cap
        Largest −log10 p of the y axis; larger values are drawn as triangles on this line, and the legend gives the largest. By default three times the
        expected range, and 5 at least.
    floor
        Smallest possible empirical p, 1/(B + 1), drawn as a line: a curve that ends on it is limited by the number of resamples.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Raises
    ------
    InputError
        When a curve has no defined p-value, or values outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from crt import qq_plot
    >>> axes = qq_plot({"uniform": np.random.default_rng(1).random(1000)}, title="Calibrated")
    >>> axes.get_xlabel(), len(axes.lines)
    ('expected −log10 p', 2)
    """
    drawn = _defined(curves)
    axes = new_axes(5.5, 5.5) if ax is None else ax
    reach, top = (max(float(getattr(c, side).max()) for c in drawn.values()) for side in ("expected", "observed"))
    cap = cap if cap is not None else max(3 * reach, 5.0)
    n = band_n or min(c.n for c in drawn.values())
    band(axes, *beta_band(n), f"95 % band of uniform p ({n:,} tests)")
    axes.plot([0, reach], [0, reach], color=COLOURS["muted"], linewidth=1, zorder=1)
    for i, (name, curve) in enumerate(drawn.items()):
        _draw(axes, curve, f"{short(name)} ({curve.n:,})", i, i / len(drawn), cap)
    _draw_limits(axes, cap, top, floor)
    tidy(axes, x_label="expected −log10 p", y_label="observed −log10 p", title=title)
    axes.set(xlim=(0, reach * 1.04), ylim=(0, min(max(top, reach), cap) * 1.06))
    legend(axes)
    axes.set_label("QQ plot of p-values; " + "; ".join(_described(name, curve) for name, curve in drawn.items()))
    return axes


def _defined(curves: Mapping[str, Any]) -> dict[str, Curve]:
    """The curves, thinned; one without a defined p-value is an error."""
    drawn = {name: thinned(p) for name, p in curves.items()}
    empty = [name for name, curve in drawn.items() if not curve.n]
    if not drawn or empty:
        raise InputError(f"no p-values to draw{': ' + ', '.join(map(repr, empty)) if empty else ''}. Leave out curves without a defined p-value.", "curves")
    return drawn


def qq_plot_ntc_pvals(
    observed: Any,
    ntc_raw: Any,
    ntc_skew: Any | None = None,
    null: Any | None = None,
    *,
    ensemble: Sequence[Any] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    cap: float | None = None,
    floor: float | None = None,
) -> Axes:
    """A QQ plot of the p-values of genes beside those of NTC groups.

    Parameters
    ----------
    observed
        p-values of the genes.
    ntc_raw
        p-values of the NTC groups, empirical or of the saddlepoint, pooled over the ensemble.
    ntc_skew
        Skew-normal p-values of the NTC groups.
    null
        p-values of resamples against one another (`compute_ntc_group_null_pvals_parallel`).
    ensemble
        The same p-values of each member, for the interquartile range over members. The 95 % band is then that of one member, because members share
        their guides.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.
    cap
        Largest −log10 p of the y axis (as in `qq_plot`).
    floor
        Smallest possible empirical p, 1/(B + 1) (as in `qq_plot`).

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Raises
    ------
    InputError
        When a curve has no defined p-value, or values outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from crt import qq_plot_ntc_pvals
    >>> rng = np.random.default_rng(1)
    >>> axes = qq_plot_ntc_pvals(rng.random((50, 4)) ** 2, rng.random((20, 4)), floor=1 / 1024)
    >>> [text.get_text() for text in axes.get_legend().get_texts()][:3]
    ['95 % band of uniform p (80 tests)', 'genes (200)', 'NTC groups, empirical (80)']
    """
    curves = {"genes": observed, "NTC groups" if floor is None and ntc_skew is None else "NTC groups, empirical": ntc_raw}
    if ntc_skew is not None:
        curves["NTC groups, skew-normal"] = ntc_skew
    if null is not None:
        curves["resamples (null)"] = null
    sizes = [int(np.isfinite(np.asarray(p, dtype=np.float64)).sum()) for p in ensemble or ()]
    axes = qq_plot(curves, ax=ax, title=title, band_n=max(sizes, default=0) or None, cap=cap, floor=floor)
    if len(sizes) > 1 and min(sizes) > 0:
        _draw_ensemble(axes, ensemble or ())
    return axes


def ensemble_range(members: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """−log10 of the expected p, and the quartiles over members of the observed p at that rank, also as −log10."""
    ordered = [np.sort(v[~np.isnan(v)]) for v in (np.asarray(p, dtype=np.float64).ravel() for p in members)]
    n = min(v.size for v in ordered)
    rank = log_ranks(n, N_POINTS)
    logs = -np.log10(np.maximum([v[rank - 1] for v in (_resized(v, n) for v in ordered)], TINY))
    low, high = np.quantile(logs, [0.25, 0.75], axis=0)
    return -np.log10(rank / (n + 1)), low, high


def _draw_ensemble(axes: Axes, members: Sequence[Any]) -> None:
    text = "interquartile range over the ensemble"
    edge = COLOURS["muted"]
    axes.fill_between(*ensemble_range(members), label=text, facecolor="none", edgecolor=edge, linestyle=(0, (2, 2)), linewidth=0.9, zorder=1.5)
    legend(axes)


def _resized(ordered: np.ndarray, n: int) -> np.ndarray:
    """n of the sorted values, at the same quantiles."""
    if ordered.size == n:
        return ordered
    at = (np.arange(1, n + 1) / (n + 1) * (ordered.size + 1)).round().astype(np.int64)
    return ordered[np.clip(at, 1, ordered.size) - 1]


def _draw_limits(axes: Axes, cap: float, top: float, floor: float | None) -> None:
    """Lines at the cap, if a value lies beyond it, and at the smallest possible empirical p."""
    if top > cap:
        axes.axhline(cap, color=COLOURS["muted"], linewidth=0.6, linestyle=(0, (1, 3)))
        axes.plot([], [], linestyle="none", marker="^", markerfacecolor="none", color=COLOURS["muted"], label=f"beyond {cap:.3g} (up to {top:.3g})")
    if floor is not None and 0 < floor <= 1:
        text = f"smallest possible empirical p ({floor:.2g})"
        axes.axhline(-np.log10(floor), color=COLOURS["muted"], linewidth=1, linestyle=(0, (6, 3)), label=text, zorder=0.5)


def _described(name: str, curve: Curve) -> str:
    return f"{name}: smallest p 1e−{curve.observed.max():.3g}, expected 1e−{curve.expected.max():.3g}"


def _draw(axes: Axes, curve: Curve, text: str, number: int, offset: float, cap: float) -> None:
    """One curve; its markers start `offset` of the way to the next, so that those of overlapping curves stay apart."""
    colour, marker, line = SERIES[number % len(SERIES)]
    inside = curve.observed <= cap
    n = int(inside.sum())
    every = max(1, n // 20)
    axes.plot(
        curve.expected[inside],
        curve.observed[inside],
        color=colour,
        marker=marker,
        markersize=5,
        markerfacecolor="white",
        markevery=[0, *range(max(1, int(offset * every)), n, every)] if n else None,
        linestyle=line,
        linewidth=1.4,
        label=text,
    )
    over = curve.expected[~inside]
    if over.size:  # an empty artist that is not clipped would be given room in the layout
        axes.plot(over, np.full(over.size, cap), linestyle="none", marker="^", markerfacecolor="none", color=colour, markersize=5, clip_on=False)
