"""The scales τ, σ_time, σ_guide: their marginal posterior given Gaussian summaries of each gene's likelihood.

The log posterior of log s is Σ_ℓ log Z_ℓ(s) + log prior + Σ log s, with the evidence Z_ℓ of gene ℓ from `gene_posteriors` and the Jacobian of the
logarithm. It is maximised by Fisher scoring, as in restricted maximum likelihood for variance components (Harville 1977), and approximated by
a Gaussian at its mode (Rue, Martino and Chopin 2009). A scale near 0 has a long tail to the left, so points are drawn along the Gaussian's axes from densities
that follow the posterior on each axis (`AxisDensities`), and `GeneBlock.integration_points` corrects them by importance weights.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from hierarchy.coordinates import Coordinates, equal_contrasts
from hierarchy.inference.gene_likelihood import GeneLikelihood, GenePosteriors, gene_posteriors
from hierarchy.inference.linear import cholesky
from hierarchy.settings import Priors

MAX_STEPS, LONGEST_STEP = 20, 0.7  # of Fisher scoring to the mode; the longest step in log s
LOWEST, HIGHEST = -9.0, 5.0  # of log s
KNOTS = (-4.0, -1.5, 0.0, 1.5, 3.0)  # where the posterior is evaluated on each axis of the Gaussian, in SDs
RANGE, CELLS = (-12.0, 8.0), 2000  # of the densities on the axes, in SDs, and the number of cells in which they are constant
LEAST_SLOPE = 0.3  # of the log densities beyond the knots
WIDTH = 0.05  # of the central differences for the Hessian, in log s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaussian:
    """A Gaussian over a matrix of numbers.

    Attributes
    ----------
    mean
        Mean, (rows, columns).
    covariance
        Covariance of the flattened numbers, (rows·columns, rows·columns).
    """

    mean: Float[Tensor, "rows columns"]
    covariance: Float[Tensor, "rows*columns rows*columns"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisDensities:
    """Independent densities on axes, constant in cells between -12 and 8.

    Attributes
    ----------
    mass
        Probability of each cell, (axes, cells).
    """

    mass: Float[np.ndarray, "axes cells"]

    @classmethod
    def of(cls, log_density: Float[np.ndarray, "axes knots"]) -> "AxisDensities":
        """From log densities at `KNOTS`: monotone cubic interpolation (Fritsch and Carlson 1980), and tails that are linear in the logarithm."""
        edges = np.linspace(*RANGE, CELLS + 1)
        middle = (edges[1:] + edges[:-1]) / 2
        slope = np.diff(log_density, axis=1) / np.diff(KNOTS)
        inside = PchipInterpolator(KNOTS, log_density, axis=1)(middle.clip(KNOTS[0], KNOTS[-1]))
        left = slope[:, :1].clip(LEAST_SLOPE) * np.minimum(middle - KNOTS[0], 0)
        right = slope[:, -1:].clip(None, -LEAST_SLOPE) * np.maximum(middle - KNOTS[-1], 0)
        mass = np.exp(inside + left + right - log_density.max(1, keepdims=True))
        return cls(mass=mass / mass.sum(1, keepdims=True))

    def points(self, uniform: Float[np.ndarray, "points axes"]) -> tuple[Float[np.ndarray, "points axes"], Float[np.ndarray, " points"]]:
        """The quantiles of uniform numbers on each axis, and the log density of each point."""
        width = (RANGE[1] - RANGE[0]) / CELLS
        found, log_density = np.empty_like(uniform), np.zeros(len(uniform))
        for axis, mass in enumerate(self.mass):
            before = np.concatenate([[0.0], np.cumsum(mass)[:-1]])
            cell = np.searchsorted(before, uniform[:, axis], side="right") - 1
            found[:, axis] = RANGE[0] + width * (cell + ((uniform[:, axis] - before[cell]) / mass[cell]).clip(0, 1))
            log_density += np.log(mass[cell] / width)
        return found, log_density


def half_normal_scales(coords: Coordinates, priors: Priors) -> Float[Tensor, "nonref scales"]:
    """The half-normal scale of the prior of each scale, (F*, scales)."""
    own = [priors.tau] + [priors.time] * (coords.n_scales - 2) + [priors.guide]
    return torch.tensor(own, dtype=torch.float64, device=coords.packed.device).expand(coords.n_nonref, -1)


def log_prior(log_scale: Float[Tensor, "*points nonref scales"], half_normal: Float[Tensor, "nonref scales"]) -> Float[Tensor, "*points"]:
    """Log density of log s under half-normal priors on s, Σ log s − s²/(2 h²), up to a constant."""
    return (log_scale - 0.5 * (2 * log_scale).exp() / half_normal.square()).sum((-1, -2))


def score_and_information(
    coords: Coordinates, log_scale: Float[Tensor, "nonref scales"], half_normal: Float[Tensor, "nonref scales"], genes: GenePosteriors
) -> tuple[Float[Tensor, "nonref scales"], Float[Tensor, "nonref scales"]]:
    """Derivative of the log posterior in log s, and the diagonal of its Fisher information.

    For a coordinate with prior variance s², E x²/s² − 1 is its term of the score and 2 κ² that of the information, where κ = 1 − Var(x)/s² is
    the share of the coordinate's variance that the data remove.

    Parameters
    ----------
    coords
        The coordinates.
    log_scale
        Where to evaluate, (F*, scales).
    half_normal
        Scales of the priors, (F*, scales).
    genes
        The genes' posteriors at `log_scale`.
    """
    ratio = (2 * log_scale).exp() / half_normal.square()
    score, information = 1 - ratio, 2 * ratio
    for group, mean, cov in zip(coords.groups, genes.mean, genes.covariance, strict=True):
        prior = coords.prior_precision(group, log_scale)  # (K, F*)
        var = cov.diagonal(dim1=-2, dim2=-1).reshape(-1, *prior.shape)
        second = (var + mean.reshape(var.shape).square()) * prior
        terms, known = (second - 1).sum(0).T, 2 * (1 - var * prior).square().sum(0).T
        score = score.index_add(1, group.scale_of, terms)
        information = information.index_add(1, group.scale_of, known)
    return score, information


def climb(
    coords: Coordinates, log_scale: Float[Tensor, "nonref scales"], half_normal: Float[Tensor, "nonref scales"], likelihood: GeneLikelihood, n_steps: int
) -> Float[Tensor, "nonref scales"]:
    """Fisher-scoring steps towards the mode of the scales' posterior.

    Parameters
    ----------
    coords
        The coordinates.
    log_scale
        Where to start, (F*, scales).
    half_normal
        Scales of the priors, (F*, scales).
    likelihood
        The genes' likelihoods.
    n_steps
        Number of steps; each is at most 0.7 in log s.
    """
    for _ in range(n_steps):
        score, information = score_and_information(coords, log_scale, half_normal, gene_posteriors(coords, log_scale, likelihood))
        log_scale = (log_scale + (score / (information + 1)).clamp(-LONGEST_STEP, LONGEST_STEP)).clamp(LOWEST, HIGHEST)
    return log_scale


def effect_covariances(
    coords: Coordinates, start: Float[Tensor, "scales nonref nonref"], half_normal: Float[Tensor, "nonref scales"], likelihood: GeneLikelihood
) -> Float[Tensor, "scales nonref nonref"]:
    """Covariances Ψ of effects over non-reference fates, in place of the squares of τ, σ_time and σ_guide: their mode, whichever fate is the reference.

    With Ψ = LL' and x = Ly, E Σ (yy' − I) over coordinates is the score of Ψ → L(I + E)L' and Σ κ ⊗ κ its Fisher information, with κ = I − Var(y); for one
    non-reference fate this is `climb`. The half-normal prior is that of a fate's scale, for every contrast of two fates.

    Parameters
    ----------
    coords
        The coordinates.
    start
        Where to start.
    half_normal
        Scales of the priors, (F*, scales).
    likelihood
        The genes' likelihoods.
    """
    f, equal = coords.n_nonref, equal_contrasts(coords.n_nonref).to(start)
    bound = torch.linalg.inv(equal) / half_normal[0].square().view(-1, 1, 1)
    one = torch.eye(f, dtype=start.dtype, device=start.device)
    spread = start
    for _ in range(MAX_STEPS // 2):
        root = torch.linalg.cholesky(spread)
        score = one - root.transpose(1, 2) @ bound @ root
        known = torch.eye(f * f, dtype=start.dtype, device=start.device).repeat(len(spread), 1, 1)
        for group, h, r in zip(coords.groups, likelihood.info, likelihood.linear, strict=True):
            k = group.n_coords
            cov = torch.cholesky_inverse(cholesky(h + torch.block_diag(*coords.joint_precision(group, spread)), group.genes))
            mean = (cov @ r.unsqueeze(-1)).reshape(-1, k, f, 1)
            whiten = torch.linalg.inv(root)[group.scale_of] / group.multiplier.view(-1, 1, 1)
            own = whiten @ cov.reshape(-1, k, f, k, f).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2) @ whiten.transpose(1, 2)
            mean = whiten @ mean
            score = score.index_add(0, group.scale_of, (own + mean @ mean.transpose(2, 3) - one).sum(0))
            kappa = one - own
            known = known.index_add(0, group.scale_of, torch.einsum("lkia,lkjb->kijab", kappa, kappa).reshape(k, f * f, f * f))
        change = torch.linalg.solve(known, score.flatten(1).unsqueeze(-1)).reshape(-1, f, f)
        values, vectors = torch.linalg.eigh((change + change.transpose(1, 2)) / 2)
        grown = (vectors * values.clamp(-2 * LONGEST_STEP, 2 * LONGEST_STEP).exp().unsqueeze(1)) @ vectors.transpose(1, 2)
        spread = root @ grown @ root.transpose(1, 2) + math.exp(2 * LOWEST) * equal
    return spread


def scale_posterior(
    coords: Coordinates, start: Float[Tensor, "nonref scales"], half_normal: Float[Tensor, "nonref scales"], likelihood: GeneLikelihood
) -> Gaussian:
    """The Gaussian at the mode of log s, its Hessian from central differences of the score.

    Parameters
    ----------
    coords
        The coordinates.
    start
        Where the search for the mode starts, (F*, scales).
    half_normal
        Scales of the priors, (F*, scales).
    likelihood
        The genes' likelihoods.
    """
    mode = climb(coords, start, half_normal, likelihood, MAX_STEPS)

    def score(at: Tensor) -> tuple[Tensor, Tensor]:
        return score_and_information(coords, at, half_normal, gene_posteriors(coords, at, likelihood))

    n = mode.numel()
    hessian = mode.new_empty(n, n)
    for i in range(n):
        step = torch.zeros_like(mode).flatten()
        step[i] = WIDTH
        step = step.reshape(mode.shape)
        hessian[i] = ((score(mode + step)[0] - score(mode - step)[0]) / (2 * WIDTH)).flatten()
    values, vectors = torch.linalg.eigh(-(hessian + hessian.T) / 2)
    floor = 0.25 * score(mode)[1].min().clamp(0.5, 2.0)  # the variance stays finite along a flat direction
    covariance = (vectors / values.clamp_min(floor)) @ vectors.T
    return Gaussian(mean=mode, covariance=covariance)
