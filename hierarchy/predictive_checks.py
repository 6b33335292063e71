"""What a fit says of itself: predicted against observed fates, and how well the Gaussian family fits each gene."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hierarchy.coordinates import GeneGroup
from hierarchy.fitting import Fit
from hierarchy.inference.curvature import Pass, pass_over_cells, predictor
from hierarchy.inference.posterior import GeneBlock

BAD_FIT = 0.5  # effective fraction of importance draws below which a gene's Gaussian is not to be trusted
SCALE_NODES = 256  # points of the scales' posterior


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checks:
    """What a fit says of itself. `check_fit` makes it.

    Attributes
    ----------
    composition
        day, rep, fate, cells, observed, predicted, sd, z: the mean fate probability of each day × replicate.
    genes
        gene, day, fate, cells, observed, predicted, sd, z: the same over the cells that carry the gene, for the genes with the largest effects.
    family
        gene, effective_fraction: of importance draws from each gene's Gaussian (1: the Gaussian is its likelihood). None with "mean_field".
    scales
        scale, fate, mean, low, high (90 %): τ, σ_time and σ_guide.

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
        """Genes whose likelihood the Gaussian family fits badly."""
        return [] if self.family is None else self.family.loc[self.family["effective_fraction"] < BAD_FIT, "gene"].tolist()


@torch.no_grad()
def check_fit(fit: Fit, *, n_top: int = 12, n_draws: int = 64) -> Checks:
    """Check a fit: predicted against observed fates, and how well the Gaussian family fits each gene.

    Parameters
    ----------
    fit
        Of `hierarchy.fit`.
    n_top
        Genes of largest `|z|` that are checked by themselves.
    n_draws
        Importance draws for each gene.

    Returns
    -------
    Checks
        Tables; `badly_fitted` names the genes whose effective fraction is below 0.5.

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
    posterior = fit.posterior
    predicted, noise = _cell_predictions(fit)
    family = None
    if isinstance(posterior, GeneBlock):
        family = pd.DataFrame({"gene": fit.model.data.genes, "effective_fraction": _effective_fractions(fit, posterior, n_draws)})
    return Checks(composition=_composition(fit, predicted, noise), genes=_top_genes(fit, predicted, noise, n_top), family=family, scales=_scales(fit))


def _cell_predictions(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """π of every cell at the posterior means (N, F), and the variance φ π(1 − π) of an observed probability around it."""
    data, model, moments = fit.model.data, fit.model, fit.moments(n_draws=200)
    nuisance = fit.nuisance_mean().to(model.design.prob)
    beta = moments.beta_mean.transpose(0, 1).to(model.design.prob)  # (F*, G, D)
    d = data.n_days
    eta = model.linear_predictor(beta, nuisance[:, :d], nuisance[:, d:-1], nuisance[:, -1])
    pi = torch.softmax(torch.cat([torch.zeros_like(eta[:1]), eta]).T, 1).cpu().double().numpy()
    return pi, pi * (1 - pi) / fit.weight


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


def _top_genes(fit: Fit, predicted: np.ndarray, noise: np.ndarray, n_top: int) -> pd.DataFrame:
    data, moments = fit.model.data, fit.moments(n_draws=200)
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
    names = ["tau", *(f"sigma_time_{day}" for day in data.days[1:]), "sigma_guide"]
    scales, weights = _scale_points(fit)
    mean, low, high = (weights[:, None, None] * scales).sum(0), _quantile(scales, weights, 0.05), _quantile(scales, weights, 0.95)
    rows = [
        {"scale": name, "fate": fate, "mean": float(mean[f, k]), "low": float(low[f, k]), "high": float(high[f, k])}
        for f, fate in enumerate(data.fates[1:])
        for k, name in enumerate(names)
    ]
    return pd.DataFrame(rows)


def _scale_points(fit: Fit) -> tuple[Tensor, Tensor]:
    """Points of the scales' posterior and their weights: many more than θ's moments need, as limits of intervals lie in its tails."""
    if isinstance(fit.posterior, GeneBlock):
        nodes, weights = fit.posterior.scale_nodes(SCALE_NODES, seed=fit.settings.seed)
        return nodes.exp(), weights
    scales = fit.draws(400).scales
    return scales, scales.new_full((len(scales),), 1 / len(scales))


def _quantile(values: Tensor, weights: Tensor, level: float) -> Tensor:
    """Along the first axis, the smallest value up to which the weights reach `level`."""
    order = values.argsort(0)
    first = (weights[order].cumsum(0) < level).sum(0, keepdim=True).clamp_max(len(values) - 1)
    return values.gather(0, order.gather(0, first))[0]


def _effective_fractions(fit: Fit, posterior: GeneBlock, n_draws: int) -> np.ndarray:
    """For each gene, the effective fraction of importance draws of its coordinates, all else at the posterior mean.

    The draws come from the Gaussian with the curvature at the mean; the log ratio is the change of the gene's cells' log-likelihood less its quadratic.
    """
    data, coords, design = fit.model.data, posterior.coords, fit.model.design
    mean = fit.coordinate_mean()
    found = pass_over_cells(design, coords, mean, None)
    node = posterior.scale_nodes(1, seed=0)[0][0]
    generator = torch.Generator(device=mean.device).manual_seed(fit.settings.seed)
    eta = predictor(design, coords, mean)
    cell = torch.repeat_interleave(torch.arange(data.n_cells, device=mean.device), data.cell_offsets.diff())
    gene = data.guide_to_gene[data.cell_guides]
    keep = _sampled_entries(data.n_genes, gene)
    key, entry = torch.unique(cell * data.n_genes + gene, return_inverse=True)  # one row for each cell and gene
    row_cell, row_gene = key // data.n_genes, key % data.n_genes
    used = keep[row_gene]
    log_ratio = mean.new_zeros(n_draws, data.n_genes)
    draws = [_block_draws(group, found, i, fit.weight, coords.prior_precision(group, node), n_draws, generator) for i, group in enumerate(coords.groups)]
    for s in range(n_draws):
        beta = mean.new_zeros(data.n_guides, data.n_days, coords.n_free)
        for group, (x, quadratic) in zip(coords.groups, draws, strict=True):
            beta[group.guides] = torch.einsum("gdk,lkf->lgdf", group.to_beta, x[s].reshape(len(group.genes), group.n_coords, -1))
            log_ratio[s, group.genes] -= quadratic[s]
        shift = eta.new_zeros(len(key), coords.n_free).index_add(0, entry, beta[data.cell_guides, data.day[cell]].to(eta.dtype))
        change = _log_lik(design.prob[row_cell[used]], eta[row_cell[used]] + shift[used]) - _log_lik(design.prob[row_cell[used]], eta[row_cell[used]])
        log_ratio[s] += fit.weight * mean.new_zeros(data.n_genes).index_add(0, row_gene[used], change.double())
    weights = torch.softmax(log_ratio, 0)
    fraction = 1 / (n_draws * weights.square().sum(0))
    return torch.where(keep, fraction, torch.full_like(fraction, torch.nan)).cpu().numpy()


def _sampled_entries(n_genes: int, gene: Tensor, limit: int = 1_000_000) -> Tensor:
    """Which genes to check: all, or on large screens an even sample with at most `limit` cell entries."""
    every = max(1, -(-len(gene) // limit))
    return torch.arange(n_genes, device=gene.device) % every == 0


def _block_draws(group: GeneGroup, found: Pass, i: int, weight: float, prior: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Steps x from the mean, (n, L_n, K·F*), and the quadratic approximation of their log-likelihood, (n, L_n)."""
    info = weight * found.blocks[i]
    factor = torch.linalg.cholesky(info + torch.diag_embed(prior.flatten()))
    noise = torch.randn(n, *info.shape[:2], 1, generator=generator, dtype=info.dtype, device=info.device)
    x = torch.linalg.solve_triangular(factor.transpose(1, 2), noise, upper=True).squeeze(-1)
    gradient = weight * group.split(found.gradient).flatten(1)
    return x, (x * gradient).sum(-1) - 0.5 * torch.einsum("sli,lij,slj->sl", x, info, x)


def _log_lik(prob: Tensor, eta: Tensor) -> Tensor:
    return (prob * torch.log_softmax(torch.cat([torch.zeros_like(eta[:, :1]), eta], 1), 1)).sum(1)
