"""Checks of a fit: predicted against observed fates, and how well the Gaussian family fits each gene."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hierarchy.cells import CellBlock
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
    z = (moments.theta_mean / moments.theta_sd).abs().amax((1, 2))
    top = z.argsort(descending=True)[:n_top]
    of_groups, of_genes = _sums(fit, moments, top)
    fractions = fit.family_fit(n_draws=n_draws)
    data = fit.model.data
    family = None if fractions is None else pd.DataFrame({"gene": data.genes, "effective_fraction": fractions.cpu().numpy()})
    groups: list[dict[str, object]] = [{"day": day, "rep": rep} for day in data.days for rep in data.reps]
    genes: list[dict[str, object]] = [{"gene": data.genes[g], "day": day} for g in top.tolist() for day in data.days]
    return Checks(composition=_rows(groups, data.fates, of_groups), genes=_rows(genes, data.fates, of_genes), family=family, scales=_scales(fit))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Predicted:
    """What predictions of the cells' fates are computed from.

    Attributes
    ----------
    columns
        Effects of the columns of the design at the posterior means, (G·D + M, F*).
    weight
        The likelihood weights by day and replicate, (D, R).
    rank
        Position of each guide's gene among the genes that are checked separately, or −1, (G,).
    n_top
        Number of those genes.
    """

    columns: Tensor
    weight: Tensor
    rank: Tensor
    n_top: int


def _sums(fit: Fit, moments: Moments, top: Tensor) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Numbers of cells, sums of observed and predicted probabilities and of the variances of the observed: by day and replicate, and by top gene and day."""
    model, data, design = fit.model, fit.model.data, fit.model.design
    beta = moments.beta_mean.transpose(1, 2).flatten(0, 1).to(design.dtype)
    columns = torch.cat([beta, fit.nuisance_mean().T.to(design.dtype)])
    rank = torch.full((data.n_genes,), -1, device=top.device)
    rank[top] = torch.arange(len(top), device=top.device)
    shared = _Predicted(columns=columns, weight=model.weight_table, rank=rank[data.guide_to_gene], n_top=len(top))
    of_groups, of_genes = design.cells.map_reduce(_predicted_sums, design.split(data.fate_prob), shared)
    return [part.cpu().numpy() for part in of_groups], [part.cpu().numpy() for part in of_genes]


def _predicted_sums(block: CellBlock, observed: Tensor, shared: _Predicted) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    eta = block.rows @ shared.columns
    predicted = torch.softmax(torch.cat([torch.zeros_like(eta[:, :1]), eta], 1), 1).double()
    weight = shared.weight.flatten()[block.group].unsqueeze(1)
    noise = predicted * (1 - predicted) / weight  # variance φ π(1 − π) of an observed probability about its prediction
    n_days, n_reps = shared.weight.shape
    cell, column = block.carried()
    rank = shared.rank[column // n_days]
    own = rank >= 0
    key = torch.unique(cell[own] * shared.n_top + rank[own])  # a cell with two guides of a gene counts once
    cell, rank = key // max(shared.n_top, 1), key % max(shared.n_top, 1)
    group = rank * n_days + block.group[cell] // n_reps
    values = (observed.double(), predicted, noise)
    return _grouped(values, block.group, n_days * n_reps), _grouped([part[cell] for part in values], group, shared.n_top * n_days)


def _grouped(values: Sequence[Tensor], group: Tensor, n: int) -> tuple[Tensor, ...]:
    """Number of rows of each group, (n,), and the sums of each of the values over them, (n, F)."""

    def total(column: Tensor) -> Tensor:
        return torch.zeros(n, dtype=torch.float64, device=group.device).index_add(0, group, column)

    return total(torch.ones_like(group, dtype=torch.float64)), *(torch.stack([total(column) for column in part.unbind(1)], 1) for part in values)


def _rows(index: list[dict[str, object]], fates: tuple[str, ...], parts: Sequence[np.ndarray]) -> pd.DataFrame:
    cells, *sums = parts
    many = np.maximum(cells, 1)[:, None]
    observed, predicted, sd = sums[0] / many, sums[1] / many, np.sqrt(sums[2]) / many
    rows = [
        own | {"fate": fate, "cells": int(cells[i]), "observed": observed[i, f], "predicted": predicted[i, f], "sd": sd[i, f]}
        for i, own in enumerate(index)
        for f, fate in enumerate(fates)
        if cells[i]
    ]
    table = pd.DataFrame(rows)
    return table.assign(z=(table["observed"] - table["predicted"]) / table["sd"])


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
