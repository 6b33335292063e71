"""The scales τ, σ_time, σ_guide: their marginal posterior given Gaussian summaries of each gene's likelihood.

Gene ℓ's summary is exp(r'x − x'Hx/2). Given scales s its coordinates x are Gaussian with precision Q = P(s) + H and mean Q⁻¹r, and
its evidence is Z_ℓ(s) = |P|^½ |Q|^−½ exp(r'Q⁻¹r/2). The log posterior of log s is Σ_ℓ log Z_ℓ + log prior + the Jacobian Σ log s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hierarchy.coordinates import Coordinates
from hierarchy.settings import Priors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScalePosterior:
    """log s as a Gaussian over (F*, D + 1): columns τ, σ_time for each step, σ_guide."""

    mean: Tensor
    covariance: Tensor


def half_normal_scales(coords: Coordinates, priors: Priors) -> Tensor:
    """The half-normal scale of each scale's prior, (F*, D + 1)."""
    own = [priors.tau] + [priors.time] * (coords.n_days - 1) + [priors.guide]
    return torch.tensor(own, dtype=torch.float64, device=coords.packed.device).expand(coords.n_free, -1)


def gene_posteriors(coords: Coordinates, log_scale: Tensor, info: list[Tensor], linear: list[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Each group's means (*batch, L_n, K·F*), covariances, and the log evidence summed over genes, at log scales (*batch, F*, D + 1)."""
    means, covariances, evidence = [], [], log_scale.new_zeros(log_scale.shape[:-2])
    for group, h, r in zip(coords.groups, info, linear, strict=True):
        prior = coords.prior_precision(group, log_scale).flatten(-2).unsqueeze(-2)  # (*batch, 1, K·F*)
        factor = torch.linalg.cholesky(h + torch.diag_embed(prior))
        mean = torch.cholesky_solve(r.unsqueeze(-1), factor).squeeze(-1)
        means.append(mean)
        covariances.append(torch.cholesky_inverse(factor))
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        evidence = evidence + (0.5 * prior.log().sum(-1) - log_det + 0.5 * (r * mean).sum(-1)).sum(-1)
    return means, covariances, evidence


def log_prior(log_scale: Tensor, half_normal: Tensor) -> Tensor:
    """Log density of log s under half-normal priors on s, up to a constant."""
    return (log_scale - 0.5 * (2 * log_scale).exp() / half_normal.square()).sum((-1, -2))


def score_and_information(coords: Coordinates, log_scale: Tensor, half_normal: Tensor, means: list[Tensor], covariances: list[Tensor]) -> tuple[Tensor, Tensor]:
    """d log posterior / d log s, and the diagonal of its Fisher information, (F*, D + 1) each.

    With κ = 1 − Var(x)/s² the part of a coordinate that the data know, the score is Σ (E x²/s² − 1) and the information 2 Σ κ².
    """
    ratio = (2 * log_scale).exp() / half_normal.square()
    score, information = 1 - ratio, 2 * ratio
    for group, mean, cov in zip(coords.groups, means, covariances, strict=True):
        prior = coords.prior_precision(group, log_scale)  # (K, F*)
        var = cov.diagonal(dim1=-2, dim2=-1).reshape(-1, *prior.shape)
        second = (var + mean.reshape(var.shape).square()) * prior
        terms, known = (second - 1).sum(0).T, 2 * (1 - var * prior).square().sum(0).T
        score = score.index_add(1, group.scale_of, terms)
        information = information.index_add(1, group.scale_of, known)
    return score, information


def climb(coords: Coordinates, log_scale: Tensor, half_normal: Tensor, info: list[Tensor], linear: list[Tensor], n_steps: int) -> Tensor:
    """Fisher-scoring steps, at most 0.7 each in log s, towards the mode of the scales."""
    for _ in range(n_steps):
        means, covariances, _ = gene_posteriors(coords, log_scale, info, linear)
        score, information = score_and_information(coords, log_scale, half_normal, means, covariances)
        log_scale = (log_scale + (score / (information + 1)).clamp(-0.7, 0.7)).clamp(-9.0, 5.0)
    return log_scale


def scale_posterior(
    coords: Coordinates, start: Tensor, half_normal: Tensor, info: list[Tensor], linear: list[Tensor], *, n_steps: int = 20, width: float = 0.05
) -> ScalePosterior:
    """The Gaussian at the mode of log s, its Hessian by central differences of the score."""
    mode = climb(coords, start, half_normal, info, linear, n_steps)

    def score(at: Tensor) -> tuple[Tensor, Tensor]:
        means, covariances, _ = gene_posteriors(coords, at, info, linear)
        return score_and_information(coords, at, half_normal, means, covariances)

    n = mode.numel()
    hessian = mode.new_empty(n, n)
    for i in range(n):
        step = torch.zeros_like(mode).flatten()
        step[i] = width
        step = step.reshape(mode.shape)
        hessian[i] = ((score(mode + step)[0] - score(mode - step)[0]) / (2 * width)).flatten()
    values, vectors = torch.linalg.eigh(-(hessian + hessian.T) / 2)
    floor = 0.25 * score(mode)[1].min().clamp(0.5, 2.0)  # a flat direction keeps a finite spread
    covariance = (vectors / values.clamp_min(floor)) @ vectors.T
    return ScalePosterior(mean=mode, covariance=covariance)
