"""Figures of a fit."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hierarchy.fitting import Fit
from hierarchy.predictive_checks import Checks

MARKERS = "osD^vP*X"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")  # safe for colour-blind readers (Okabe and Ito)


def fit_figure(fit: Fit, checks: Checks) -> Figure:
    """Convergence of the bound and the means, and predicted against observed fates by day and replicate and for the top genes."""
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    bound, moved, composition, genes = figure.subplots(2, 2).ravel()
    steps = np.arange(1, len(fit.elbo) + 1)
    per_weight = np.array(fit.elbo) / (np.array(fit.weights) if len(fit.weights) == len(fit.elbo) else fit.weight)  # w moves too
    bound.plot(steps, per_weight, marker="o", color=COLOURS[0], lw=1)
    bound.set(title=f"Bound: {'converged' if fit.converged else 'NOT converged'}", xlabel="step", ylabel="ELBO / w, nats")
    if fit.moved:
        moved.semilogy(np.arange(1, len(fit.moved) + 1), fit.moved, marker="o", color=COLOURS[0], lw=1)
    moved.set(title="Movement of the means", xlabel="step", ylabel="RMS step, posterior SDs")
    for axes in (bound, moved):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, table, title in ((composition, checks.composition, "Fates by day × replicate"), (genes, checks.genes, "Fates of cells with a top gene, by day")):
        _predicted_against_observed(axes, table)
        axes.set_title(title)
    return figure


def _predicted_against_observed(axes: Axes, table: pd.DataFrame) -> None:
    for i, (fate, own) in enumerate(table.groupby("fate", sort=False)):
        style: dict[str, Any] = {"fmt": MARKERS[i % len(MARKERS)], "color": COLOURS[i % len(COLOURS)], "ms": 5, "lw": 0.8, "mfc": "none", "label": str(fate)}
        axes.errorbar(own["predicted"], own["observed"], yerr=1.96 * own["sd"], **style)
    ends = [min(table["predicted"].min(), table["observed"].min()), max(table["predicted"].max(), table["observed"].max())]
    axes.plot(ends, ends, color="0.5", lw=1, zorder=0)
    axes.set(xlabel="predicted mean probability", ylabel="observed (95 % of noise)")
    axes.legend(frameon=False)
