"""P(treated | covariates): penalised logistic regression, several targets at once on the shared design."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from crt.cells.block import CellBlock, Members, joint_range, logistic_sums, propensity_range
from crt.kernels import logistic as _kernels
from crt.settings import LogisticSettings
from data_prep.blocks.base import CellBlocks
from data_prep.errors import InputError

_FLAT = 1e-6  # an eigenvalue of the covariates' correlation matrix below this is float32 rounding: the cells do not vary in its direction
LARGEST = 700.0  # of a log-odds: beyond it exp overflows
_JITTER = 1e-10  # keeps the Hessian regular where every probability is 0 or 1 to rounding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coefficients:
    """Logistic regressions of several targets on one design.

    Attributes
    ----------
    beta
        Coefficients, (targets, covariates).
    converged
        Whether each fit reached the tolerance, (targets,).
    n_iter
        Number of Newton steps of each fit, (targets,).
    """

    beta: Float64[np.ndarray, "targets covariates"]
    converged: Bool[np.ndarray, " targets"]
    n_iter: Int[np.ndarray, " targets"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PropensityFit:
    """The propensity of a unit's cells.

    Attributes
    ----------
    terms
        What it depends on: the design of the unit's cells, transposed, (terms, cells).
    beta
        Its coefficients: P(treated | covariates) = 1/(1 + exp(−β'terms)).
    low
        Minimum over the cells.
    mean
        Mean over the cells.
    high
        Maximum over the cells.
    converged
        Whether the solver reached its tolerance; true where nothing was fitted.
    separated
        Whether a threshold on p separates treated from untreated cells without error. The penalty, not the data, then determines p.
    """

    terms: Float[np.ndarray, "terms cells"]
    beta: Float64[np.ndarray, " terms"]
    low: float
    mean: float
    high: float
    converged: bool = True
    separated: bool = False

    @property
    def p(self) -> Float64[np.ndarray, " cells"]:
        """P(treated | covariates) of each cell of the unit, computed again each time."""
        return probability(self.terms, self.beta)


def fit_logistic(blocks: CellBlocks[CellBlock], score: Float64[np.ndarray, "targets covariates"], *, settings: LogisticSettings | None = None) -> Coefficients:
    """Maximise Σ x log π + (1 − x) log(1 − π) − ½λβ'Sβ by Newton's method, for several targets at once.

    The intercept is not penalised, so Σπ is the number of treated cells. A step is halved where the slope along it is steeper at its end than at its start,
    since it then passed the maximum. The objective is concave, so the iteration converges to its only maximum. Steps are taken in a basis that whitens the
    covariates, so they do not depend on the coding of levels either. All targets share each pass over the cells.

    Parameters
    ----------
    blocks
        The cells.
    score
        Sums of the covariates, the intercept first, over the treated cells of each target; at least one cell, and not all.
    settings
        Settings of the regression; the defaults of `LogisticSettings` if None.
    """
    s = settings or LogisticSettings()
    basis, theta, step, slope = _start(blocks, score, s.penalty)
    penalty = np.full(basis.shape[1], s.penalty)
    penalty[0] = 0.0
    converged, n_iter = np.zeros(len(score), bool), np.zeros(len(score), np.int64)
    moved, reach = np.full(len(score), np.inf), np.zeros(len(score))
    curvature = np.empty((len(score), penalty.size, penalty.size))
    for _ in range(s.max_iter):
        on = np.flatnonzero(~converged)
        if on.size == 0:
            break
        fresh = moved[on] > s.stale
        g, h = blocks.map_reduce(logistic_sums, _rows_times(theta[on], basis.T), fresh)
        slopes = _rows_times(score[on] - g, basis) - penalty * theta[on]
        n_iter[on] += 1
        over = np.abs((slopes * step[on]).sum(1)) > slope[on] * (1 + 1e-9) + 1e-12
        curvature[on[fresh]] = basis.T @ h[fresh] @ basis + np.diag(penalty + _JITTER)
        new = np.linalg.solve(curvature[on], slopes[..., None])[..., 0]
        for row, target in enumerate(on):
            if over[row]:
                step[target] /= 2
                theta[target] -= step[target]
                slope[target] /= 2
                moved[target] = np.inf
                continue
            step[target] = new[row]
            slope[target] = abs(float(slopes[row] @ new[row]))
            theta[target] += new[row]
            moved[target] = max(abs(new[row, 0]), np.abs(basis[1:] @ new[row]).max(initial=0.0))
            reach[target] = moved[target] + (0.0 if fresh[row] else reach[target])
            converged[target] = np.sqrt(slope[target]) * reach[target] <= s.tolerance
    return Coefficients(beta=_rows_times(theta, basis.T), converged=converged, n_iter=n_iter)


def _start(blocks: CellBlocks[CellBlock], score: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A basis T of the coefficients, β = Tθ, in which the covariates are centred and white; θ after the first Newton step; the step; its slope.

    The first step is taken from the intercept alone: there π is one number, so C'π and the Hessian are, but for a factor, the same for all targets, and
    one pass at β = 0 gives ½C'1 and ¼C'C. Directions in which the cells do not vary (a level that none of them has) are left out.
    """
    p = score.shape[1]
    half, quarter = blocks.map_reduce(logistic_sums, np.zeros((1, p)), np.ones(1, bool))
    n = 2 * half[0, 0]
    share = score[:, 0] / n
    mean = 2 * half[0, 1:] / n
    covariance = 4 * quarter[0, 1:, 1:] / n - np.outer(mean, mean)
    square = 4 * quarter[0].diagonal()[1:] / n
    sd = np.sqrt(np.where(covariance.diagonal() > _FLAT * square, covariance.diagonal(), np.inf))
    values, vectors = np.linalg.eigh(covariance / sd / sd[:, None])
    keep = values > _FLAT
    white = vectors[:, keep] / np.sqrt(values[keep]) / sd[:, None]
    basis = np.zeros((p, 1 + white.shape[1]))
    basis[0, 0], basis[0, 1:], basis[1:, 1:] = 1.0, -mean @ white, white
    theta = np.zeros((len(share), basis.shape[1]))
    theta[:, 0] = np.log(share) - np.log1p(-share)
    slopes = _rows_times(score - share[:, None] * (2 * half), basis)
    hessian = (share * (1 - share))[:, None] * n + np.r_[0.0, np.full(white.shape[1], penalty)]
    step = slopes / hessian
    variance = np.square(step[:, 1:]).sum(1)  # of the linear predictor, which raises the mean of π
    step[:, 0] -= np.where(variance < 1, variance * (0.5 - share), 0.0)
    return basis, theta + step, step, np.abs((slopes * step).sum(1))


def _rows_times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """rows @ matrix, a row at a time, so that a row's digits do not depend on how many others there are."""
    return (rows[:, None, :] @ matrix)[:, 0]


def probability(terms: Float[np.ndarray, "terms cells"], beta: Float64[np.ndarray, " terms"]) -> Float64[np.ndarray, " cells"]:
    """1/(1 + exp(−β'terms)) of every cell."""
    out = np.empty((1, terms.shape[1]))
    _kernels.logistic_probabilities(terms, 0, beta[None], out)
    return out[0]


def terms_of(p: Float[np.ndarray, " cells"]) -> Float64[np.ndarray, "1 cells"]:
    """The one term, with coefficient 1, of given probabilities: their log-odds."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(p) - np.log1p(-p), -LARGEST, LARGEST)[None]


def given_propensity(p: Float[np.ndarray, " cells"]) -> PropensityFit:
    """A propensity that is given."""
    return PropensityFit(terms=terms_of(p), beta=np.ones(1), low=float(p.min()), mean=float(p.mean()), high=float(p.max()))


def asked_probabilities(
    mode: Callable[[Any, Any], Any], treated: Int[np.ndarray, " treated"], C: Float32[np.ndarray, "cells covariates"]
) -> Float64[np.ndarray, " cells"]:
    """The probabilities that a function gives, checked.

    Raises
    ------
    InputError
        Where it does not return one probability per cell.
    """
    p = np.asarray(mode(treated, C), dtype=np.float64)
    if p.shape != (len(C),) or not np.isfinite(p).all() or p.min() < 0 or p.max() > 1:
        raise InputError(
            f"the propensity_mode function returned an array of shape {p.shape}; it must return {len(C):,} probabilities in [0, 1], one for each cell.",
            "propensity_mode",
        )
    return p


def propensities(
    blocks: CellBlocks[CellBlock],
    score: Float64[np.ndarray, "units covariates"],
    members: CellBlocks[Members],
    terms: Float[np.ndarray, "terms cells"],
    settings: LogisticSettings | None,
) -> list[PropensityFit]:
    """P(treated | covariates) of a batch of units that are compared on the same cells.

    Parameters
    ----------
    blocks
        The cells.
    score
        Sums of the covariates, the intercept first, over each unit's treated cells.
    members
        The treated cells.
    terms
        The design of all cells, transposed.
    settings
        Settings of the regression; None for each unit's treated share as the propensity of every cell.
    """
    n = terms.shape[1]
    if settings is None:
        share = score[:, 0] / n
        beta, converged = np.zeros(score.shape), np.ones(len(score), bool)
        beta[:, 0] = np.log(share) - np.log1p(-share)
    else:
        fit = fit_logistic(blocks, score, settings=settings)
        beta, converged = fit.beta, fit.converged
    found = blocks.map_reduce(propensity_range, beta, members, combine=joint_range)
    return [
        PropensityFit(terms=terms, beta=b, low=float(low), mean=float(total / n), high=float(high), converged=bool(c), separated=bool(inside > outside))
        for b, c, (low, total, high, inside, outside) in zip(beta, converged, found, strict=True)
    ]
