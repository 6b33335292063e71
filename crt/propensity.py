"""P(treated | covariates): penalised logistic regression, several targets at once on the shared design."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from crt.kernels import logistic as _kernels
from data_prep.errors import InputError

Propensity = str | Callable[[np.ndarray, np.ndarray], np.ndarray]
MODES = ("fit", "oracle_const")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticSettings:
    """Settings of the logistic regression that fits the propensity.

    Attributes
    ----------
    penalty
        Ridge penalty λ of ½λ‖β‖², without the intercept; 1.0 is scikit-learn's C=1.0. It acts on the scale of the design: numeric covariates are z-scored,
        levels are 0/1.
    max_iter
        Maximum number of Newton steps.
    tolerance
        Convergence criterion: the maximum change of a coefficient in a full step. The remaining error is at most `stale` times as large.
    stale
        Maximum change of a coefficient in a step below which the last Hessian is reused.

    Raises
    ------
    InputError
        On a negative or infinite penalty, or limits that are not positive.

    Examples
    --------
    >>> from crt import LogisticSettings, UnitSettings
    >>> UnitSettings(logistic=LogisticSettings(penalty=0.1)).logistic.penalty
    0.1
    """

    penalty: float = 1.0
    max_iter: int = 50
    tolerance: float = 1e-4
    stale: float = 0.05

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.penalty >= 0 and np.isfinite(self.penalty)):
            raise InputError(f"penalty is {self.penalty}; it must be finite, and zero or more.", "penalty")
        if self.max_iter < 1 or not self.tolerance > 0:
            raise InputError(f"max_iter is {self.max_iter} and tolerance {self.tolerance}; both must be positive.")


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
    """Maximise Σ x log π + (1 − x) log(1 − π) − ½λ‖β₋₀‖² by Newton's method, for several targets at once.

    A step is halved where the slope along it is steeper at its end than at its start, since it then passed the maximum. The objective is concave, so the
    iteration converges to its only maximum. scikit-learn finds the same maximum for one target at a time; here all targets share each pass over the design.

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
    p, n = Ct.shape
    penalty = np.full(p, s.penalty)
    penalty[0] = 0.0
    score = np.stack([Ct[:, t].sum(1, dtype=np.float64) for t in treated])
    share = np.array([t.size for t in treated]) / n
    beta = np.zeros((len(treated), p))
    beta[:, 0] = np.log(share) - np.log1p(-share)
    step, slope = _first_step(Ct, score, share, penalty)
    beta += step
    converged, n_iter = np.zeros(len(treated), bool), np.zeros(len(treated), np.int64)
    moved, curvature = np.full(len(treated), np.inf), np.empty((len(treated), p, p))
    gradient, hessian = np.empty_like(beta), np.empty((len(treated), p, p))
    for _ in range(s.max_iter):
        on = np.flatnonzero(~converged)
        if on.size == 0:
            break
        g, h = gradient[: on.size], hessian[: on.size]
        fresh = moved[on] > s.stale
        _kernels.logistic_pass(Ct, beta[on], g, h, fresh)
        g[:] = score[on] - g - penalty * beta[on]
        n_iter[on] += 1
        landed = np.abs((g * step[on]).sum(1))
        over = landed > slope[on] * (1 + 1e-9) + 1e-12
        h[:, np.arange(p), np.arange(p)] += penalty + 1e-10 * np.maximum(1.0, h[:, np.arange(p), np.arange(p)])
        curvature[on[fresh]] = h[fresh]
        new = np.linalg.solve(curvature[on], g[..., None])[..., 0]
        for row, target in enumerate(on):
            if over[row]:
                step[target] /= 2
                beta[target] -= step[target]
                slope[target] /= 2
                moved[target] = np.inf
                continue
            step[target] = new[row]
            slope[target] = abs(float(g[row] @ new[row]))
            beta[target] += new[row]
            moved[target] = np.abs(new[row]).max()
            converged[target] = moved[target] <= s.tolerance
    return Coefficients(beta=beta, converged=converged, n_iter=n_iter)


def _first_step(Ct: np.ndarray, score: np.ndarray, share: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first Newton step, from the intercept alone, and its slope.

    At its start π is the same for all cells, so C'π and the Hessian are the same for all targets up to a factor: one pass at β = 0 gives ½C'1 and ¼C'C.
    """
    p = len(Ct)
    half, quarter = np.empty((1, p)), np.empty((1, p, p))
    _kernels.logistic_pass(Ct, np.zeros((1, p)), half, quarter, np.ones(1, bool))
    gradient = score - share[:, None] * (2 * half)
    hessian = (share * (1 - share))[:, None, None] * (4 * quarter) + np.diag(penalty + 1e-10)
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return step, np.abs((gradient * step).sum(1))


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


def check_mode(mode: Propensity) -> None:
    """Raise unless the propensity mode is a known name or a function."""
    if not callable(mode) and mode not in MODES:
        raise InputError(f"propensity_mode is {mode!r}; choose {' or '.join(map(repr, MODES))}, or give a function.", "propensity_mode")


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
