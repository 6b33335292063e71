"""QQ figures of p-values: legible at a million points, and in greyscale."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_prep.errors import InputError
from fatescreen.figures.quantiles import N_POINTS, TINY, Curve, beta_band, log_ranks, thinned

STYLES = (("black", "o", "-"), ("#0072b2", "s", "--"), ("#d55e00", "^", "-."), ("#009e73", "D", ":"), ("#7a5195", "v", (0, (5, 1, 1, 1, 1, 1))))


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
        Label → p-values of any shape; NaN are left out.
    ax
        To draw on; by default one of a new figure, which is never shown: save it with `ax.figure.savefig(path)`.
    title
        Of the axes.
    band_n
        Tests that the 95 % band is for; by default those of the smallest curve, which has the widest band.
    cap
        The highest −log10 p that is drawn in place; larger ones are triangles on that line, as the legend says. By default three times the expected
        range, and 5 at least.
    floor
        The smallest empirical p, 1/(B + 1), drawn as a line: a curve that ends on it has run out of resamples.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    InputError
        Where a curve has no defined p-value, or values outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from crt import qq_plot
    >>> axes = qq_plot({"uniform": np.random.default_rng(1).random(1000)}, title="As it should be")
    >>> axes.get_xlabel(), len(axes.lines)
    ('expected −log10 p', 2)
    """
    drawn = {label: thinned(p) for label, p in curves.items()}
    empty = [label for label, curve in drawn.items() if curve.n == 0]
    if not drawn or empty:
        raise InputError(f"no p-values to draw{': ' + ', '.join(map(repr, empty)) if empty else ''}. Leave out curves without a defined p.")
    axes = _axes(ax)
    reach = max(float(c.expected.max()) for c in drawn.values())
    n = band_n or min(c.n for c in drawn.values())
    expected, low, high = beta_band(n)
    axes.fill_between(expected, low, high, color="0.85", linewidth=0, label=f"95 % band ({n:,} tests)", zorder=0)
    axes.plot([0, reach], [0, reach], color="0.4", linewidth=0.8, zorder=1)
    top = max(float(c.observed.max()) for c in drawn.values())
    cap = cap if cap is not None else max(3 * reach, 5.0)
    for i, (label, curve) in enumerate(drawn.items()):
        _draw(axes, curve, f"{label} ({curve.n:,})", i, i / len(drawn), cap)
    if top > cap:
        axes.axhline(cap, color="0.6", linewidth=0.6, linestyle=(0, (1, 3)))
        axes.plot([], [], linestyle="none", marker="^", markerfacecolor="none", color="0.3", label=f"beyond {cap:.3g} (up to {top:.3g})")
    if floor is not None and 0 < floor <= 1:
        axes.axhline(-np.log10(floor), color="0.2", linewidth=0.7, linestyle=(0, (6, 3)), label=f"smallest empirical p ({floor:.2g})", zorder=0.5)
    axes.set_xlim(0, reach * 1.04)
    axes.set_ylim(0, min(max(top, reach), cap) * 1.06)
    axes.set_xlabel("expected −log10 p")
    axes.set_ylabel("observed −log10 p")
    if title:
        axes.set_title(title)
    axes.legend(loc="best", fontsize=8, frameon=False).set_in_layout(False)
    return axes


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
    """The observed p-values beside those of NTC groups.

    Parameters
    ----------
    observed
        p-values of the genes.
    ntc_raw
        Empirical p-values of the NTC groups, pooled over the ensemble.
    ntc_skew
        Their skew-normal p-values.
    null
        p-values of resamples against one another (`compute_ntc_group_null_pvals_parallel`).
    ensemble
        Empirical p-values of each member, for the range between quartiles over members. The 95 % band is then that of one member, as members share
        their guides.
    ax
        As in `qq_plot`.
    title
        As in `qq_plot`.
    cap
        As in `qq_plot`.
    floor
        As in `qq_plot`.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    InputError
        Where a curve has no defined p-value, or values outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from crt import qq_plot_ntc_pvals
    >>> rng = np.random.default_rng(1)
    >>> axes = qq_plot_ntc_pvals(rng.random((50, 4)) ** 2, rng.random((20, 4)), floor=1 / 1024)
    >>> [text.get_text() for text in axes.get_legend().get_texts()][:3]
    ['95 % band (80 tests)', 'genes (200)', 'NTC groups, empirical (80)']
    """
    curves = {"genes": observed, "NTC groups, empirical": ntc_raw}
    if ntc_skew is not None:
        curves["NTC groups, skew-normal"] = ntc_skew
    if null is not None:
        curves["resamples (null)"] = null
    sizes = [int(np.isfinite(np.asarray(p, dtype=np.float64)).sum()) for p in ensemble or ()]
    axes = qq_plot(curves, ax=ax, title=title, band_n=max(sizes, default=0) or None, cap=cap, floor=floor)
    if len(sizes) > 1 and min(sizes) > 0:
        expected, low, high = ensemble_range(ensemble or ())
        axes.fill_between(expected, low, high, facecolor="none", edgecolor="0.35", hatch="////", linewidth=0.4, label="quartiles over the ensemble", zorder=1.5)
        axes.legend(loc="best", fontsize=8, frameon=False).set_in_layout(False)
    return axes


def ensemble_range(members: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """−log10 of expected p and the quartiles over members of the observed p at that rank."""
    ordered = [np.sort(v[~np.isnan(v)]) for v in (np.asarray(p, dtype=np.float64).ravel() for p in members)]
    n = min(v.size for v in ordered)
    rank = log_ranks(n, N_POINTS)
    logs = -np.log10(np.maximum([v[rank - 1] for v in (_shrunk(v, n) for v in ordered)], TINY))
    low, high = np.quantile(logs, [0.25, 0.75], axis=0)
    return -np.log10(rank / (n + 1)), low, high


def _shrunk(ordered: np.ndarray, n: int) -> np.ndarray:
    """n order statistics that stand for the sorted values."""
    if ordered.size == n:
        return ordered
    at = (np.arange(1, n + 1) / (n + 1) * (ordered.size + 1)).round().astype(np.int64)
    return ordered[np.clip(at, 1, ordered.size) - 1]


def _axes(ax: Axes | None) -> Axes:
    return Figure(figsize=(5.5, 5.5), layout="constrained").subplots() if ax is None else ax


def _draw(axes: Axes, curve: Curve, label: str, number: int, offset: float, cap: float) -> None:
    """One curve; its markers start `offset` of the way to the next, so that those of curves that lie on each other stay apart."""
    color, marker, line = STYLES[number % len(STYLES)]
    inside = curve.observed <= cap
    n = int(inside.sum())
    every = max(1, n // 20)
    axes.plot(
        curve.expected[inside],
        curve.observed[inside],
        color=color,
        marker=marker,
        markersize=4,
        markerfacecolor="white",
        markevery=[0, *range(max(1, int(offset * every)), n, every)] if n else None,
        linestyle=line,
        linewidth=1.2,
        label=label,
    )
    over = curve.expected[~inside]
    if over.size:  # an empty artist that is not clipped would be given room in the layout
        axes.plot(over, np.full(over.size, cap), linestyle="none", marker="^", markerfacecolor="none", color=color, markersize=5, clip_on=False)
