"""Figures of a fit: convergence, and predicted against observed fates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from fatescreen.figures.style import COLOURS, SERIES, diagonal, legend, new_axes, series_points, short, thin, tidy
from hierarchy.predictive_checks import Checks
from hierarchy.result import Fit

TRACE_POINTS, AGREEMENT_POINTS = 400, 250
FAR = 3.0  # SDs between predicted and observed that the figure's description counts


def fit_figure(fit: Fit, checks: Checks) -> Figure:
    """Four panels: the ELBO, the movement of the means, and predicted against observed fates by day and replicate and for the top genes.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import check_fit, fit
    >>> fitted = fit(build_fate_data(read_screen(adata), ref_fate="EC"))
    >>> from fatescreen.figures import fit_figure
    >>> [axes.get_title() for axes in fit_figure(fitted, check_fit(fitted)).axes][:2]
    ['ELBO: converged', 'Movement of the means']
    """
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    bound, moved, composition, genes = figure.subplots(2, 2).ravel()
    bound_plot(fit, ax=bound, title=f"ELBO: {'converged' if fit.converged else 'NOT converged'}")
    movement_plot(fit, ax=moved, title="Movement of the means")
    agreement_plot(checks.composition, ax=composition, title="Fates by day and replicate")
    agreement_plot(checks.genes, ax=genes, title="Fates of cells with a top gene, by day")
    return figure


def bound_plot(fit: Fit, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """The evidence lower bound (ELBO) over the likelihood weight w, which is re-estimated in natural-gradient steps too.

    With the "mean_field" posterior a point is the mean of a window of steps.

    Parameters
    ----------
    fit
        Result of `hierarchy.fit`.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.
    """
    return _trace(np.array(fit.elbo_over_weight), "ELBO / w, nats", ax=ax, title=title, every=fit.window)


def movement_plot(fit: Fit, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """How far the posterior means moved in each natural-gradient step: root mean square, in posterior SDs, on a log axis.

    Parameters
    ----------
    fit
        Result of `hierarchy.fit`.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.
    """
    return _trace(fit.moved, "RMS step, posterior SDs", ax=ax, title=title, log=True)


def agreement_plot(table: pd.DataFrame, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Predicted against observed mean fate probabilities, with 95 % intervals of the noise; points should lie on the diagonal.

    Parameters
    ----------
    table
        Columns fate, predicted, observed and sd, as in `Checks.composition` and `Checks.genes`.
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
    >>> import pandas as pd
    >>> from fatescreen.figures import agreement_plot
    >>> axes = agreement_plot(pd.DataFrame({"fate": ["EC", "MES"], "predicted": [0.2, 0.8], "observed": [0.25, 0.75], "sd": [0.1, 0.1]}))
    >>> axes.get_label()
    '2 pairs of predicted and observed probabilities, 0 of them more than three SDs apart'
    """
    axes = new_axes() if ax is None else ax
    diagonal(axes, table["predicted"], table["observed"])
    for i, (fate, own) in enumerate(table.groupby("fate", sort=False)):
        shown = own.iloc[thin(len(own), AGREEMENT_POINTS)]
        low, high = shown["observed"] - 1.96 * shown["sd"], shown["observed"] + 1.96 * shown["sd"]
        axes.vlines(shown["predicted"], low, high, colors=SERIES[i % len(SERIES)][0], linewidth=1, alpha=0.6)
        series_points(axes, shown["predicted"], shown["observed"], i, short(fate))
    tidy(axes, x_label="predicted mean probability", y_label="observed mean probability", title=title)
    legend(axes)
    far = int(((table["observed"] - table["predicted"]).abs() > FAR * table["sd"]).sum())
    axes.set_label(f"{len(table):,} pairs of predicted and observed probabilities, {far:,} of them more than three SDs apart")
    return axes


def _trace(values: Sequence[float] | np.ndarray, y_label: str, *, ax: Axes | None, title: str | None, log: bool = False, every: int = 1) -> Axes:
    """A value after each step, or after `every` steps."""
    axes = new_axes() if ax is None else ax
    y = np.asarray(values, dtype=np.float64)
    keep = thin(y.size, TRACE_POINTS)
    marks: dict[str, Any] = {"marker": "o", "markersize": 5, "markerfacecolor": "white"} if y.size <= 80 else {}
    axes.plot((keep + 1) * every, y[keep], color=COLOURS["ink"], linewidth=1.4, **marks)
    tidy(axes, x_label="step", y_label=y_label, title=title)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    if log and y.size:
        _log_axis(axes, y)
    axes.set_label(f"{y_label}, from {y[0]:.5g} to {y[-1]:.5g} in {y.size * every:,} steps" if y.size else "no steps")
    return axes


def _log_axis(axes: Axes, y: np.ndarray) -> None:
    """A log axis over whole powers of ten, at most six of them labelled."""
    logs = np.log10(np.maximum(y, 1e-300))
    low, high = int(np.floor(logs.min())), int(np.ceil(logs.max()))
    high = max(high, low + 1)
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0**high)
    axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(low, high + 1, -(-(high - low) // 5))]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1e{round(np.log10(value))}".replace("-", "−")))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(FixedLocator([]))
