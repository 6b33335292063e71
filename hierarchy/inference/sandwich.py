"""Sandwich errors: robust to noise that cells share, and to a wrong likelihood.

The posterior's standard errors are calibrated where cells are independent given the model, with one dispersion. Replicates differ by more than their
intercept, and fate probabilities smoothed over a neighbour graph are correlated between cells; the gradient of the log-likelihood then varies
more than its curvature implies. With each gene's covariance Σ, prior precision P and

    M = Σ_clusters s_c s_c',   s_c = Σ_{i in c} w (x_i − x̄_day) ⊗ (p_i − π_i)

the robust covariance is Σ (P + J) Σ, with J = M (White 1982; Liang and Zeger 1986); where the model is right, M estimates the information and the result is Σ
again. M is taken about the days' means, because the intercepts absorb what all cells share. It is then scaled from the information of a gene taken
alone to the gene's information beside all others, by the matrix that does so for M's expected value.

With C clusters M is multiplied by C/(C − 1) · (t_{C−1} / z)², the 97.5 % quantiles of Student's t and of the normal distribution: with few clusters an estimate
over its robust error has the t distribution with C − 1 degrees of freedom (Hansen 2007, J. Econometrics 141; Imbens and Kolesár 2016, Rev. Econ. Stat. 98), so
95 % intervals of the normal distribution would be too short. Below five clusters no width makes up for the tails, so they are refused.
"""

import torch
from jaxtyping import Float, Int
from scipy.stats import norm
from scipy.stats import t as student
from torch import Tensor

from data_prep.errors import InputError, warn
from hierarchy.cells import CellBlock
from hierarchy.coordinates import GeneMatrices
from hierarchy.inference.curvature import CellState, Pass, cell_weight, information, squared_sums, wide_sum
from hierarchy.inference.linear import centred_information, day_means
from hierarchy.problem import Problem

LEAST_CLUSTERS, FEW_CLUSTERS = 5, 20
CHUNK_NUMBERS = 20_000_000  # cells of a block × non-reference fates × clusters held at once


def check_clusters(cluster: Int[Tensor, " cells"] | None) -> None:
    """Raise unless there are enough clusters, and warn where they are few."""
    if cluster is None:
        return
    count = int(cluster.max()) + 1
    if count < 2:
        raise InputError("all cells are in one cluster, but sandwich errors need at least two clusters.", "keys.cluster")
    if count < LEAST_CLUSTERS:
        covered = 100 * (1 - 2 * student.sf(norm.ppf(0.95), count - 1))
        raise InputError(
            f"there are {count} clusters, but sandwich errors need at least {LEAST_CLUSTERS}: 90 % intervals would cover {covered:.0f} %. Choose smaller "
            "clusters (several columns joined by '+', such as replicate and day; clones), or se 'posterior'.",
            "keys.cluster",
            "se",
        )
    if count < FEW_CLUSTERS:
        uncertainty, wider = 100 / (2 * count) ** 0.5, 100 * (_small_sample(count) - 1)
        warn(
            f"sandwich errors are based on only {count} clusters, so they are themselves uncertain by about {uncertainty:.0f} %; they are {wider:.0f} % wider "
            "for it.",
            "keys.cluster",
            "se",
        )


def _small_sample(count: int) -> float:
    """The factor of errors from a number of clusters with which intervals of the normal distribution cover 95 %."""
    return float(student.ppf(0.975, count - 1) / norm.ppf(0.975))


def score_variances(problem: Problem, found: Pass, info: GeneMatrices) -> GeneMatrices:
    """Observed variance J of the gradient of each gene's likelihood, by the clusters of `FateData.cluster`; each cell is its own cluster where it is None.

    Parameters
    ----------
    problem
        The problem.
    found
        A pass over the cells at the posterior.
    info
        Information H of each group's genes, their expected variance.

    Returns
    -------
    list of torch.Tensor
        (L_n, K·F*, K·F*) for each group.
    """
    coords = problem.coords
    shift = day_means(problem.design, coords)
    expected = centred_information(coords, shift, found.blocks, found.by_guide, found.by_day)
    cluster = problem.data.cluster
    observed = _by_cell(problem, found, shift) if cluster is None else _by_cluster(problem, found, shift, cluster)
    # residuals about the fit are smaller than about the truth, by the same factor as their Pearson sums
    plug_in = problem.design.cells.map_reduce(_plug_in, found.states, found.weight)
    scale = found.pearson / plug_in
    out = []
    for h, bread, meat in zip(info, expected, observed, strict=True):
        to_marginal = root(h) @ root(bread, inverse=True)
        out.append(scale * to_marginal @ meat @ to_marginal.transpose(1, 2))
    return out


def _plug_in(block: CellBlock, state: CellState, weight: Tensor) -> Tensor:
    """The sum of w Σ (p − π)²/π at the fitted π."""
    own = cell_weight(block, weight).unsqueeze(1)
    residual = state.residual / own
    fitted = block.prob - torch.cat([-residual.sum(1, keepdim=True), residual], 1)
    return (own * (block.prob - fitted).square() / fitted.clamp_min(1e-12)).sum(dtype=torch.float64)


def _by_cell(problem: Problem, found: Pass, shift: Tensor) -> GeneMatrices:
    """Σ_i s_i s_i'."""
    sums = wide_sum(problem.design.cells, squared_sums, found.states)
    return centred_information(problem.coords, shift, *information(problem.design, problem.coords, sums))


def _by_cluster(problem: Problem, found: Pass, shift: Tensor, cluster: Tensor) -> GeneMatrices:
    """Σ_c s_c s_c'."""
    coords, f = problem.coords, problem.coords.n_nonref
    count = int(cluster.max()) + 1
    days = slice(coords.nuisance.start, coords.nuisance.start + coords.n_days)
    total = [shift.new_zeros(len(g.genes), g.n_coords * f, g.n_coords * f) for g in coords.groups]
    width, codes = max(1, CHUNK_NUMBERS // (problem.design.largest * f)), problem.design.split(cluster)
    for first in range(0, count, width):
        last = min(first + width, count)
        score = coords.from_columns @ wide_sum(problem.design.cells, _cluster_scores, found.states, codes, first, last)
        score = (score - shift @ score[days]).reshape(-1, f, last - first)
        for group, out in zip(coords.groups, total, strict=True):
            part = group.split(score).flatten(1, 2)
            out += part @ part.transpose(1, 2)
    return [out * count / (count - 1) * _small_sample(count) ** 2 for out in total]


def _cluster_scores(block: CellBlock, state: CellState, cluster: Tensor, first: int, last: int) -> Tensor:
    """Residuals of the clusters from `first` to before `last`, summed by column."""
    own = cluster.unsqueeze(1) == torch.arange(first, last, device=cluster.device)
    return block.cols @ (state.residual.unsqueeze(2) * own.unsqueeze(1)).flatten(1)


def root(matrix: Float[Tensor, "genes size size"], *, inverse: bool = False) -> Float[Tensor, "genes size size"]:
    """The symmetric square root, or its inverse on the matrix's range."""
    values, vectors = torch.linalg.eigh(matrix)
    floor = 1e-10 * values.amax(-1, keepdim=True).clamp_min(1e-300)
    kept = values > floor
    power = torch.where(kept, values.clamp_min(1e-300), torch.ones_like(values)).pow(-0.5 if inverse else 0.5) * kept
    return (vectors * power.unsqueeze(-2)) @ vectors.transpose(-1, -2)
