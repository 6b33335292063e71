"""P(treated | covariates): penalised logistic regression, several targets at once on the shared design."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from crt.kernels import kernels as _kernels
from data_prep.errors import InputError

Propensity = str | Callable[[np.ndarray, np.ndarray], np.ndarray]
MODES = ("fit", "oracle_const")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticSettings:
    """How the propensity is fitted.

    Attributes
    ----------
    penalty
        λ of ½λ‖β‖², the intercept left out; 1.0 is what scikit-learn calls C=1.0. It acts on the design's scale: numeric covariates z-scored, levels 0/1.
    max_iter
        Most Newton steps.
    tolerance
        A fit has converged when a full step moves no coefficient by more; the error left is `stale` times that or less.
    stale
        Once a step moves no coefficient by more than this, the last Hessian is used again.

    Raises
    ------
    InputError
        On a penalty below zero, or limits that are not positive.

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
            raise InputError(f"the propensity penalty is {self.penalty}; it must be zero or more, and finite.")
        if self.max_iter < 1 or not self.tolerance > 0:
            raise InputError(f"max_iter is {self.max_iter} and tolerance {self.tolerance}; both must be positive.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coefficients:
    """Logistic coefficients of T targets on p design columns, (T, p), and how each fit ended, (T,)."""

    beta: np.ndarray
    converged: np.ndarray
    n_iter: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PropensityFit:
    """P(treated) of a unit's cells.

    Attributes
    ----------
    p
        float64 (cells of the unit,).
    converged
        The solver reached its tolerance (true where nothing was fitted).
    separated
        A threshold on p tells treated from untreated cells without error, so p is set by the penalty, not by the data.
    n_iter
        Newton steps.
    """

    p: np.ndarray
    converged: bool = True
    separated: bool = False
    n_iter: int = 0


def fit_logistic(Ct: np.ndarray, treated: Sequence[np.ndarray], *, settings: LogisticSettings | None = None) -> Coefficients:
    """Maximise Σ x log π + (1 − x) log(1 − π) − ½λ‖β₋₀‖² by Newton's method, for several targets at once.

    A step whose slope along itself is steeper where it lands than where it began has overshot and is halved; the objective is concave, so this
    always ends at the one maximum.

    Parameters
    ----------
    Ct
        float32 (p, cells), the design transposed, row 0 the intercept.
    treated
        For each target the positions of its treated cells; at least one, and not all.

    Returns
    -------
    Coefficients
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
    """The Newton step from the intercept alone, and its slope.

    There π is one number, so C'π and the Hessian are, but for a factor, the same for all targets: one pass at β = 0 gives ½C'1 and ¼C'C.
    """
    p = len(Ct)
    half, quarter = np.empty((1, p)), np.empty((1, p, p))
    _kernels.logistic_pass(Ct, np.zeros((1, p)), half, quarter, np.ones(1, bool))
    gradient = score - share[:, None] * (2 * half)
    hessian = (share * (1 - share))[:, None, None] * (4 * quarter) + np.diag(penalty + 1e-10)
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return step, np.abs((gradient * step).sum(1))


def probability(Ct: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """1/(1 + exp(−C β)), (cells,)."""
    out = np.empty(Ct.shape[1])
    _kernels.logistic_probability(Ct, beta, out)
    return out


def separates(p: np.ndarray, treated: np.ndarray) -> bool:
    """Whether every treated cell has a higher p than every untreated one."""
    lowest = p[treated].min()
    others = p.copy()
    others[treated] = -np.inf
    return bool(lowest > others.max())


def propensity(
    Ct: np.ndarray,
    treated: np.ndarray,
    *,
    mode: Propensity = "fit",
    settings: LogisticSettings | None = None,
    beta: Coefficients | None = None,
) -> PropensityFit:
    """P(treated | covariates) of one unit.

    Parameters
    ----------
    Ct
        float32 (p, cells).
    treated
        Positions of the treated cells.
    mode
        "fit"; "oracle_const", the share treated for every cell; or a function of (treated, C) that gives one probability a cell.
    beta
        A fit already made (of one target), used with "fit".
    """
    n = Ct.shape[1]
    if callable(mode):
        p = np.asarray(mode(treated, Ct.T), dtype=np.float64)
        if p.shape != (n,) or not np.isfinite(p).all() or p.min() < 0 or p.max() > 1:
            raise InputError(f"the propensity function gave an array of shape {p.shape}; it must give {n:,} probabilities in [0, 1], one for each cell.")
        return PropensityFit(p=p)
    if mode == "oracle_const":
        return PropensityFit(p=np.full(n, treated.size / n))
    if mode != "fit":
        raise InputError(f"propensity_mode is {mode!r}; choose {' or '.join(map(repr, MODES))}, or give a function.")
    fit = beta or fit_logistic(Ct, [treated], settings=settings)
    p = probability(Ct, fit.beta[0])
    return PropensityFit(p=p, converged=bool(fit.converged[0]), separated=separates(p, treated), n_iter=int(fit.n_iter[0]))
