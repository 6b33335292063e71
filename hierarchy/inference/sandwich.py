"""Errors that are robust to noise which cells share, and to a wrong likelihood: the sandwich.

The posterior's errors hold when cells are independent given the model, with one dispersion. Replicates differ by more than their
intercept, and fate probabilities smoothed over a neighbour graph are correlated between cells; then the gradient of the
log-likelihood varies more than its curvature says. With each gene's covariance Σ, prior precision P and

    M = Σ_clusters s_c s_c',   s_c = Σ_{i in c} w (x_i − x̄_day) ⊗ (p_i − π_i)

the robust covariance is Σ (P + M) Σ; where the model is right M is the information and it is Σ again. M is taken about the days'
means, as the intercepts take up what all cells share, and is brought to the information that a gene has beside all others by the
factor that its expected value is (C/(C − 1) for C clusters; Liang and Zeger 1986, White 1982).
"""

import torch
from torch import Tensor

from data_prep.errors import InputError, warn
from hierarchy.inference.curvature import Pass, information, pull_back
from hierarchy.inference.linear import centred_information, day_means
from hierarchy.inference.natural import NaturalProblem

FEW_CLUSTERS = 20
CHUNK_NUMBERS = 20_000_000  # cells × free fates × clusters held at once


def robust_covariances(problem: NaturalProblem, found: Pass, weight: Tensor, prior: Tensor, covariances: list[Tensor], cluster: Tensor | None) -> list[Tensor]:
    """Robust covariances of each group's genes, (L_n, K·F*, K·F*), from their marginal ones; `cluster` (N,) codes or None for each cell alone."""
    coords = problem.coords
    shift = day_means(problem.design, coords)
    expected = centred_information(coords, shift, found.blocks, found.by_guide, found.by_day)
    seen = _by_cell(problem, found, shift) if cluster is None else _by_cluster(problem, found, shift, cluster)
    # residuals at the fit are smaller than about the truth: by the same factor as their Pearson sums
    fitted = problem.design.prob - torch.cat([-found.residual.sum(1, keepdim=True), found.residual], 1)
    plug_in = ((problem.design.prob - fitted).square() / fitted.clamp_min(1e-12)).sum(dtype=torch.float64)
    scale = weight.square() * found.pearson / plug_in
    out = []
    for group, cov, bread, meat in zip(coords.groups, covariances, expected, seen, strict=True):
        own = torch.diag_embed(group.split(prior).flatten(1))
        to_marginal = _root(torch.cholesky_inverse(torch.linalg.cholesky(cov)) - own) @ _root(weight * bread, inverse=True)
        out.append(cov @ (own + scale * to_marginal @ meat @ to_marginal.transpose(1, 2)) @ cov)
    return out


def _by_cell(problem: NaturalProblem, found: Pass, shift: Tensor) -> list[Tensor]:
    """Σ_i s_i s_i' for w = 1."""
    upper = torch.triu_indices(problem.coords.n_free, problem.coords.n_free, device=shift.device)
    square = found.residual[:, upper[0]] * found.residual[:, upper[1]]
    return centred_information(problem.coords, shift, *information(problem.design, problem.coords, square))


def _by_cluster(problem: NaturalProblem, found: Pass, shift: Tensor, cluster: Tensor) -> list[Tensor]:
    """Σ_c s_c s_c' for w = 1."""
    coords, (n, f) = problem.coords, found.residual.shape
    count = int(cluster.max()) + 1
    if count < 2:
        raise InputError("all cells are in one cluster: a sandwich needs at least two (--cluster-key).")
    if count < FEW_CLUSTERS:
        warn(
            f"there are only {count} clusters: sandwich errors rest on so many numbers and are themselves uncertain by about {100 / (2 * count) ** 0.5:.0f} %."
        )
    days = slice(coords.nuisance.start, coords.nuisance.start + coords.n_days)
    total = [shift.new_zeros(len(g.genes), g.n_coords * f, g.n_coords * f) for g in coords.groups]
    width = max(1, CHUNK_NUMBERS // (n * f))
    for first in range(0, count, width):
        ids = torch.arange(first, min(first + width, count), device=cluster.device)
        own = found.residual.unsqueeze(2) * (cluster.unsqueeze(1) == ids).unsqueeze(1)
        score = pull_back(problem.design, coords, own.reshape(n, -1))
        score = (score - shift @ score[days]).reshape(-1, f, len(ids))
        for group, out in zip(coords.groups, total, strict=True):
            part = group.split(score).flatten(1, 2)
            out += part @ part.transpose(1, 2)
    return [out * count / (count - 1) for out in total]


def _root(matrix: Tensor, *, inverse: bool = False) -> Tensor:
    """The symmetric square root, or its inverse on the matrix's range."""
    values, vectors = torch.linalg.eigh(matrix)
    floor = 1e-10 * values.amax(-1, keepdim=True).clamp_min(1e-300)
    kept = values > floor
    power = torch.where(kept, values.clamp_min(1e-300), torch.ones_like(values)).pow(-0.5 if inverse else 0.5) * kept
    return (vectors * power.unsqueeze(-2)) @ vectors.transpose(-1, -2)
