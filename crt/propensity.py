"""P(treated | covariates): penalised logistic regression, several targets at once on the shared design."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from crt.kernels import logistic as _kernels
from crt.settings import LogisticSettings, Propensity, check_mode
from data_prep.errors import InputError

_FLAT = 1e-6  # an eigenvalue of the covariates' correlation matrix below this is float32 rounding: the cells do not vary in its direction
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
    p
        P(treated | covariates) of each cell of the unit, float64 (cells,).
    converged
        Whether the solver reached its tolerance; true where nothing was fitted.
    separated
        Whether a threshold on p separates treated from untreated cells without error. The penalty, not the data, then determines p.
    """

    p: Float64[np.ndarray, " cells"]
    converged: bool = True
    separated: bool = False


def fit_logistic(
    Ct: Float32[np.ndarray, "covariates cells"], treated: Sequence[Int[np.ndarray, " _"]], *, settings: LogisticSettings | None = None
) -> Coefficients:
    """Maximise Σ x log π + (1 − x) log(1 − π) − ½λβ'Sβ by Newton's method, for several targets at once.

    The intercept is not penalised, so Σπ is the number of treated cells. A step is halved where the slope along it is steeper at its end than at its start,
    since it then passed the maximum. The objective is concave, so the iteration converges to its only maximum. Steps are taken in a basis that whitens the
    covariates, so they do not depend on the coding of levels either. All targets share each pass over the design.

    Parameters
    ----------
    Ct
        The design, transposed, float32 (covariates, cells); row 0 is the intercept.
    treated
        Positions of the treated cells of each target; at least one cell, and not all.
    settings
        Settings of the regression; the defaults of `LogisticSettings` if None.
    """
    s = settings or LogisticSettings()
    score = np.stack([Ct[:, t].sum(1, dtype=np.float64) for t in treated])
    share = np.array([t.size for t in treated]) / Ct.shape[1]
    basis, theta, step, slope = _start(Ct, score, share, s.penalty)
    penalty = np.full(basis.shape[1], s.penalty)
    penalty[0] = 0.0
    converged, n_iter = np.zeros(len(treated), bool), np.zeros(len(treated), np.int64)
    moved, reach = np.full(len(treated), np.inf), np.zeros(len(treated))
    curvature = np.empty((len(treated), penalty.size, penalty.size))
    gradient, hessian = np.empty_like(score), np.empty((*score.shape, score.shape[1]))
    for _ in range(s.max_iter):
        on = np.flatnonzero(~converged)
        if on.size == 0:
            break
        g, h = gradient[: on.size], hessian[: on.size]
        fresh = moved[on] > s.stale
        _kernels.logistic_pass(Ct, _rows_times(theta[on], basis.T), g, h, fresh)
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


def _start(Ct: np.ndarray, score: np.ndarray, share: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A basis T of the coefficients, β = Tθ, in which the covariates are centred and white; θ after the first Newton step; the step; its slope.

    The first step is taken from the intercept alone: there π is one number, so C'π and the Hessian are, but for a factor, the same for all targets, and
    one pass at β = 0 gives ½C'1 and ¼C'C. Directions in which the cells do not vary (a level that none of them has) are left out.
    """
    p, n = Ct.shape
    half, quarter = np.empty((1, p)), np.empty((1, p, p))
    _kernels.logistic_pass(Ct, np.zeros((1, p)), half, quarter, np.ones(1, bool))
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


def probability(Ct: Float32[np.ndarray, "covariates cells"], beta: Float64[np.ndarray, " covariates"]) -> Float64[np.ndarray, " cells"]:
    """1/(1 + exp(−C β)) of every cell."""
    out = np.empty(Ct.shape[1])
    _kernels.logistic_probability(Ct, beta, out)
    return out


def separates(p: Float64[np.ndarray, " cells"], treated: Int[np.ndarray, " treated"]) -> bool:
    """Whether every treated cell has a higher p than every untreated cell."""
    lowest = p[treated].min()
    others = p.copy()
    others[treated] = -np.inf
    return bool(lowest > others.max())


def propensity(
    Ct: Float32[np.ndarray, "covariates cells"],
    treated: Int[np.ndarray, " treated"],
    *,
    mode: Propensity = "fit",
    settings: LogisticSettings | None = None,
    fit: Coefficients | None = None,
) -> PropensityFit:
    """P(treated | covariates) of the cells of one unit.

    Parameters
    ----------
    Ct
        The design of the unit's cells, transposed, float32 (covariates, cells).
    treated
        Positions of the treated cells.
    mode
        "fit"; "oracle_const", the treated share for every cell; or a function of (treated, C) that returns one probability per cell.
    settings
        Settings of the regression for "fit".
    fit
        The regression of this unit, for "fit", where it has been made already.

    Raises
    ------
    InputError
        Where the mode is unknown, or the function does not return one probability per cell.
    """
    check_mode(mode)
    n = Ct.shape[1]
    if callable(mode):
        p = np.asarray(mode(treated, Ct.T), dtype=np.float64)
        if p.shape != (n,) or not np.isfinite(p).all() or p.min() < 0 or p.max() > 1:
            raise InputError(
                f"the propensity_mode function returned an array of shape {p.shape}; it must return {n:,} probabilities in [0, 1], one for each cell.",
                "propensity_mode",
            )
        return PropensityFit(p=p)
    if mode == "oracle_const":
        return PropensityFit(p=np.full(n, treated.size / n))
    fit = fit or fit_logistic(Ct, [treated], settings=settings)
    p = probability(Ct, fit.beta[0])
    return PropensityFit(p=p, converged=bool(fit.converged[0]), separated=separates(p, treated))
