"""Checks of a fit: predicted against observed fates, and how well the Gaussian family fits each gene."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hierarchy.inference.base import Moments
from hierarchy.result import Fit

BAD_FIT = 0.5  # effective sample size ratio below which a gene's Gaussian posterior is unreliable
N_DRAWS = 200  # for the moments of families without closed forms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checks:
    """Checks of a fit. `check_fit` makes it.

    Attributes
    ----------
    composition
        Mean fate probability of each day × replicate: day, rep, fate, cells, observed, predicted, sd, z.
    genes
        Mean fate probability of the cells that carry a gene's guides, for the genes with the largest effects: gene, day, fate, cells, observed,
        predicted, sd, z.
    family
        Effective sample size ratio of importance draws from each gene's Gaussian, 1 where the gene's likelihood is Gaussian: gene,
        effective_fraction. None with "mean_field".
    scales
        Posterior means and 90 % intervals of τ, σ_time and σ_guide: scale, fate, mean, low, high.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import check_fit, fit
    >>> checks = check_fit(fit(data))
    >>> checks.badly_fitted
    []
    >>> checks.scales.round(1).head(3)
               scale fate  mean  low  high
    0            tau  MES   0.2  0.1   0.3
    1  sigma_time_d1  MES   0.2  0.1   0.3
    2    sigma_guide  MES   0.2  0.2   0.2
    """

    composition: pd.DataFrame
    genes: pd.DataFrame
    family: pd.DataFrame | None
    scales: pd.DataFrame

    @property
    def badly_fitted(self) -> list[str]:
        """Names of the genes with an effective sample size ratio below 0.5."""
        return [] if self.family is None else self.family.loc[self.family["effective_fraction"] < BAD_FIT, "gene"].tolist()


@torch.no_grad()
def check_fit(fit: Fit, *, n_top: int = 12, n_draws: int = 64) -> Checks:
    """Check a fit: predicted against observed fates, and how well the Gaussian family fits each gene.

    Parameters
    ----------
    fit
        A fit, from `hierarchy.fit`.
    n_top
        Number of genes, those of largest `|z|`, whose cells are checked separately.
    n_draws
        Number of importance draws for each gene.

    Returns
    -------
    Checks
        Tables; `badly_fitted` names the genes whose effective sample size ratio is below 0.5.

    Raises
    ------
    FitFailed
        If the fit has no posterior; its text is the advice of `Fit.outcome`.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import check_fit, fit
    >>> checks = check_fit(fit(data), n_top=2)
    >>> checks.composition[["day", "rep", "fate"]].head(2)
      day   rep fate
    0  d0  rep1   EC
    1  d0  rep1  MES
    >>> sorted(set(checks.genes["gene"]))
    ['GENE2', 'GENE6']
    """
    moments = fit.moments(n_draws=N_DRAWS)
    predicted = _cell_predictions(fit, moments)
    own = fit.weight_table.flatten()[fit.model.design.group].cpu().numpy()[:, None]
    noise = predicted * (1 - predicted) / own  # variance φ π(1 − π) of an observed probability about its prediction
    fractions = fit.family_fit(n_draws=n_draws)
    family = None if fractions is None else pd.DataFrame({"gene": fit.model.data.genes, "effective_fraction": fractions.cpu().numpy()})
    return Checks(composition=_composition(fit, predicted, noise), genes=_top_genes(fit, moments, predicted, noise, n_top), family=family, scales=_scales(fit))


def _cell_predictions(fit: Fit, moments: Moments) -> np.ndarray:
    """π of every cell at the posterior means, (N, F)."""
    model, d = fit.model, fit.model.data.n_days
    nuisance = fit.nuisance_mean().to(model.design.prob)
    beta = moments.beta_mean.transpose(0, 1).to(model.design.prob)  # (F*, G, D)
    eta = model.linear_predictor(beta, nuisance[:, :d], nuisance[:, d:-1], nuisance[:, -1])
    return torch.softmax(torch.cat([torch.zeros_like(eta[:1]), eta]).T, 1).cpu().double().numpy()


def _grouped(observed: np.ndarray, predicted: np.ndarray, noise: np.ndarray, group: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """Means over groups of cells, and the SD of the observed mean: (n,), then (n, F) each."""
    cells = np.bincount(group, minlength=n)
    many = np.maximum(cells, 1)[:, None]

    def total(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(group, values[:, f], n) for f in range(values.shape[1])], 1)

    return cells, total(observed) / many, total(predicted) / many, np.sqrt(total(noise)) / many


def _rows(index: list[dict[str, object]], fates: tuple[str, ...], parts: tuple[np.ndarray, ...]) -> pd.DataFrame:
    cells, observed, predicted, sd = parts
    rows = [
        own | {"fate": fate, "cells": int(cells[i]), "observed": observed[i, f], "predicted": predicted[i, f], "sd": sd[i, f]}
        for i, own in enumerate(index)
        for f, fate in enumerate(fates)
        if cells[i]
    ]
    table = pd.DataFrame(rows)
    return table.assign(z=(table["observed"] - table["predicted"]) / table["sd"])


def _composition(fit: Fit, predicted: np.ndarray, noise: np.ndarray) -> pd.DataFrame:
    data = fit.model.data
    group = (data.day * data.n_reps + data.rep).cpu().numpy()
    index: list[dict[str, object]] = [{"day": day, "rep": rep} for day in data.days for rep in data.reps]
    return _rows(index, data.fates, _grouped(data.fate_prob.cpu().double().numpy(), predicted, noise, group, len(index)))


def _top_genes(fit: Fit, moments: Moments, predicted: np.ndarray, noise: np.ndarray, n_top: int) -> pd.DataFrame:
    data = fit.model.data
    z = (moments.theta_mean / moments.theta_sd).abs().amax((1, 2))
    top = z.argsort(descending=True)[:n_top]
    rank = torch.full((data.n_genes,), -1, device=z.device)
    rank[top] = torch.arange(len(top), device=z.device)
    cell = torch.repeat_interleave(torch.arange(data.n_cells, device=z.device), data.cell_offsets.diff())
    own = rank[data.guide_to_gene[data.cell_guides]]
    pairs = torch.unique(torch.stack([cell[own >= 0], own[own >= 0]]), dim=1).cpu().numpy()  # a cell with two guides of a gene counts once
    group = pairs[1] * data.n_days + data.day.cpu().numpy()[pairs[0]]
    index: list[dict[str, object]] = [{"gene": data.genes[g], "day": day} for g in top.tolist() for day in data.days]
    parts = _grouped(data.fate_prob.cpu().double().numpy()[pairs[0]], predicted[pairs[0]], noise[pairs[0]], group, len(index))
    return _rows(index, data.fates, parts)


def _scales(fit: Fit) -> pd.DataFrame:
    data = fit.model.data
    steps = [f"sigma_time_{day}" for day in data.days[1:]] if fit.model.time_scale is None else ["sigma_time"] * (data.n_days > 1)
    names = ["tau", *steps, "sigma_guide"]
    points = fit.scale_points()
    scales, weights = points.scales, points.weights
    mean, low, high = (weights[:, None, None] * scales).sum(0), _quantile(scales, weights, 0.05), _quantile(scales, weights, 0.95)
    rows = [
        {"scale": name, "fate": fate, "mean": float(mean[f, k]), "low": float(low[f, k]), "high": float(high[f, k])}
        for f, fate in enumerate(data.fates[1:])
        for k, name in enumerate(names)
    ]
    return pd.DataFrame(rows)


def _quantile(values: Tensor, weights: Tensor, level: float) -> Tensor:
    """Quantile along the first axis: the smallest value up to which the weights sum to `level` or more."""
    order = values.argsort(0)
    first = (weights[order].cumsum(0) < level).sum(0, keepdim=True).clamp_max(len(values) - 1)
    return values.gather(0, order.gather(0, first))[0]
