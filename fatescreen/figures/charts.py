"""The figures that the reports share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fatescreen.figures.quantiles import beta_band, thinned
from fatescreen.figures.svg import Axis, Plot, thin, tick_text
from fatescreen.report.blocks import Figure

SERIES = 6  # styles in the style sheet


def counts_histogram(values: np.ndarray, *, title: str, x_label: str, y_label: str = "cells", caption: str = "") -> Figure:
    """Bars of whole numbers, each its own bar where they are few: up to 40 bars of many values, 12 of under 200."""
    most = 40 if values.size >= 200 else 12
    top = int(values.max()) if values.size else 0
    step = -(-(top + 1) // most)
    number = np.bincount(values.astype(np.int64) // step, minlength=top // step + 1) if values.size else np.zeros(1)
    edges = np.arange(number.size + 1) * step - 0.5
    plot = Plot(Axis.over(edges, x_label, margin=0.02, whole=True), _from_zero(number, y_label, whole=True), left=62)
    plot.bars(edges, number, "bar")
    mean = float(values.mean()) if values.size else 0.0
    return Figure(svg=plot.svg(f"{title}: histogram from {int(values.min()) if values.size else 0} to {top}, mean {mean:.3g}"), title=title, caption=caption)


def p_histogram(p: Any, *, title: str, caption: str = "", bins: int = 20) -> Figure:
    """The share of p-values in each of twenty steps, over what uniform ones would give."""
    values = np.asarray(p, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    edges = np.linspace(0, 1, bins + 1)
    density = np.histogram(values, edges)[0] / max(1, values.size) * bins
    plot = Plot(Axis.over([0, 1], "p", margin=0), _from_zero(np.append(density, 1.2), "density (1: uniform)"))
    plot.bars(edges, density, "bar")
    plot.line([0, 1], [1, 1], "ref")
    return Figure(
        svg=plot.svg(f"{title}: histogram of {values.size:,} p-values; {density[0]:.2f} times the uniform share is below {1 / bins:g}"),
        title=title,
        caption=caption,
    )


def qq_figure(curves: Mapping[str, Any], *, title: str, caption: str = "", band_n: int | None = None, floor: float | None = None) -> Figure:
    """A QQ plot on −log10 axes with the 95 % band; values beyond three times the expected range are drawn on the upper edge.

    `band_n` is the number of tests that the band is for (those of the smallest curve by default), `floor` the smallest empirical p there can be.
    """
    drawn = {label: curve for label, p in curves.items() if (curve := thinned(p)).n}
    if not drawn:
        return Figure(
            svg=Plot(Axis.over([0, 1], ""), Axis.over([0, 1], "")).svg(f"{title}: no defined p-values"), title=title, caption="No p-value is defined."
        )
    reach = max(float(c.expected.max()) for c in drawn.values())
    highest = max(float(c.observed.max()) for c in drawn.values())
    cap = max(3 * reach, 5.0)
    plot = Plot(Axis.over([0, reach], "expected −log10 p", margin=0.02), _from_zero([min(max(highest, reach), cap)], "observed −log10 p"), height=300)
    expected, low, high = beta_band(band_n or min(c.n for c in drawn.values()))
    top = plot.y.high
    plot.band(expected, np.minimum(low, top), np.minimum(high, top))
    plot.line([0, min(reach, top)], [0, min(reach, top)], "ref")
    if floor is not None:
        plot.line([0, plot.x.high], [-np.log10(floor)] * 2, "ref dots")
    for i, curve in enumerate(drawn.values()):
        _curve(plot, curve.expected, np.minimum(curve.observed, cap), i)
    legend = [(f"{label} ({curve.n:,})", f"s{i % SERIES}") for i, (label, curve) in enumerate(drawn.items())] + [("95 % band of uniform p", "band")]
    legend += [] if floor is None else [(f"smallest empirical p, {floor:.2g}", "ref dots")]
    said = f" Points on the upper edge lie beyond it, up to {highest:.3g}." if highest > cap else ""
    worst = "; ".join(f"{label}: smallest p 1e−{float(c.observed.max()):.3g} where 1e−{float(c.expected.max()):.3g} is expected" for label, c in drawn.items())
    return Figure(svg=plot.svg(f"{title}. {worst}"), title=title, caption=caption + said, legend=legend)


def normal_qq(groups: Mapping[str, np.ndarray], *, title: str, caption: str) -> Figure:
    """Ordered standardised residuals against normal quantiles."""
    from scipy.stats import norm

    drawn = {}
    for label, z in groups.items():
        z = np.sort(z[np.isfinite(z)])
        keep = thin(z.size, 300)
        if z.size:
            drawn[label] = (norm.ppf((np.asarray(keep) + 0.5) / z.size), z[keep], z.size)
    everything = np.concatenate([np.concatenate([q, z]) for q, z, _ in drawn.values()] or [np.array([-1.0, 1.0])])
    plot = Plot(Axis.over(everything, "normal quantile"), Axis.over(everything, "residual z"), height=300)
    ends = [plot.x.low, plot.x.high]
    plot.line(ends, ends, "ref")
    for i, (q, z, _) in enumerate(drawn.values()):
        plot.points(q, z, f"mark s{i % SERIES}", shape=i % SERIES)
    legend = [(f"{label} ({n:,})", f"s{i}") for i, (label, (_, _, n)) in enumerate(drawn.items())]
    said = "; ".join(f"{label}: {n:,} residuals, SD {float(np.std(groups[label][np.isfinite(groups[label])])):.3g}" for label, (_, _, n) in drawn.items())
    return Figure(svg=plot.svg(f"{title}. {said}"), title=title, caption=caption, legend=legend)


def trace(values: Sequence[float] | np.ndarray, *, title: str, y_label: str, caption: str = "", log: bool = False, every: int = 1) -> Figure:
    """A value after each step, or after `every` steps; on a log axis, powers of ten."""
    y = np.asarray(values, dtype=np.float64)
    keep = thin(y.size, 400)
    shown = np.log10(np.maximum(y, 1e-300)) if log else y
    axis = Axis.over(shown, y_label, whole=log)
    if log:
        axis = Axis(low=axis.low, high=axis.high, label=y_label, ticks=tuple((t, f"1e{tick_text(t)}") for t, _ in axis.ticks))
    plot = Plot(Axis.over(np.arange(1, y.size + 1) * every, "step", whole=True, margin=0.03), axis, left=72)
    steps = (np.asarray(keep) + 1) * every
    plot.line(steps, shown[keep], "line s0")
    if y.size <= 80:
        plot.points(steps, shown[keep], "mark s0")
    ends = f"from {y[0]:.5g} to {y[-1]:.5g} in {y.size * every} steps" if y.size else "no steps"
    return Figure(svg=plot.svg(f"{title}: {ends}"), title=title, caption=caption)


def agreement(groups: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], *, title: str, caption: str) -> Figure:
    """Predicted against observed with 95 % of noise; `groups` are label → predicted, observed, SD."""
    everything = np.concatenate([np.concatenate([p, o]) for p, o, _ in groups.values()])
    plot = Plot(Axis.over(everything, "predicted"), Axis.over(everything, "observed"), height=300)
    plot.line([plot.x.low, plot.x.high], [plot.x.low, plot.x.high], "ref")
    for i, (predicted, observed, sd) in enumerate(groups.values()):
        keep = thin(predicted.size, 250)
        low, high = observed[keep] - 1.96 * sd[keep], observed[keep] + 1.96 * sd[keep]
        plot.segments(predicted[keep], np.clip(low, plot.y.low, plot.y.high), predicted[keep], np.clip(high, plot.y.low, plot.y.high), f"err s{i % SERIES}")
        plot.points(predicted[keep], observed[keep], f"mark s{i % SERIES}", shape=i % SERIES)
    n = sum(p.size for p, _, _ in groups.values())
    far = sum(int((np.abs(o - p) > 3 * sd).sum()) for p, o, sd in groups.values())
    label = f"{title}: {n} pairs of predicted and observed, {far} more than three SDs apart"
    return Figure(svg=plot.svg(label), title=title, caption=caption, legend=[(name, f"s{i % SERIES}") for i, name in enumerate(groups)])


def _curve(plot: Plot, x: np.ndarray, y: np.ndarray, i: int) -> None:
    """A line told apart by colour, dashes and marks."""
    style = f"s{i % SERIES}"
    plot.line(x, y, f"line {style}")
    every = max(1, x.size // 12)
    some = np.unique(np.concatenate([np.arange(min(4, x.size)), np.arange((i * every) // 4, x.size, every)]))
    plot.points(x[some], y[some], f"mark {style}", shape=i % SERIES)


def _from_zero(values: Any, label: str, *, whole: bool = False) -> Axis:
    axis = Axis.over(np.append(np.asarray(values, dtype=np.float64), 0.0), label, margin=0.06, whole=whole)
    return Axis(low=0.0, high=axis.high, label=label, ticks=tuple(t for t in axis.ticks if t[0] >= 0))
