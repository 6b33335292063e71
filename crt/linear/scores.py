"""Outcome scores: what the linear statistic T_k = Σ_i r_ik (x_i − p_i) is made of, the outcome itself or its normal scores, residualised on the covariates."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Shaped
from scipy.special import ndtri

from crt.kernels import cumulants as _kernels

TIE = 2.0**36  # steps of an SD in which residuals are ranked: rounding errors are smaller
_BLOCK = 8_192  # cells residualised at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Residuals r of K programs over n cells, of variance 1: values/scale − C coef, or the values themselves.

    Attributes
    ----------
    values
        float32 (n, K): the outcomes, a view of the inputs' rows, from which a block of residuals is computed when it is needed; or the residuals.
    coef
        Least-squares coefficients of values/scale on C, float64 (p, K); None where the values are the residuals.
    centre
        Mean of the values, float32 (K,).
    scale
        SD of the residuals of `values`, float64 (K,). Infinite, so that r is 0, where the outcome has no variance given C.
    """

    values: Float[np.ndarray, "cells programs"]
    coef: Float64[np.ndarray, "covariates programs"] | None
    centre: Float32[np.ndarray, " programs"]
    scale: Float64[np.ndarray, " programs"]

    def residuals(self, C: Float[np.ndarray, "cells covariates"], cells: slice = slice(None)) -> Float[np.ndarray, "block programs"]:
        """r of some cells, float32."""
        values = self.values[cells]
        if self.coef is None:
            return values
        out, coef = np.empty(values.shape, np.float32), self.coef.copy()
        coef[0] -= self.centre / self.scale
        _kernels.residual_block(values, self.centre, (1 / self.scale).astype(np.float32), C[cells], coef.astype(np.float32), out)
        return out


def mean_scores(C: Float[np.ndarray, "cells covariates"], Y: Float[np.ndarray, "cells programs"]) -> Scores:
    """Scores of `statistic="mean"`: the outcome as it is, residualised.

    Parameters
    ----------
    C
        The design, intercept first.
    Y
        Outcomes; kept, not copied.

    Returns
    -------
    Scores
        Residuals of variance 1.
    """
    coef, scale = _least_squares(C, Y)
    return Scores(values=Y, coef=coef / scale, centre=Y.mean(0, dtype=np.float64).astype(np.float32), scale=scale)


def normal_scores(C: Float[np.ndarray, "cells covariates"], Y: Float[np.ndarray, "cells programs"], *, n_jobs: int = 1) -> Scores:
    """Scores of `statistic="normal_scores"`: Φ⁻¹(rank/(n + 1)) of the outcome's residuals, residualised once more.

    Tied residuals (equal to 1e-11 SD) share the mean of their ranks. With these scores a linear statistic is, against shifts, never less efficient than the
    mean of the outcome, and as efficient where the residuals are normal (Chernoff & Savage 1958, "Asymptotic normality and efficiency of certain
    nonparametric test statistics").

    Parameters
    ----------
    C
        The design, intercept first.
    Y
        Outcomes.
    n_jobs
        Number of worker threads.
    """
    n, K = Y.shape
    coef, sd = _least_squares(C, Y)
    wide = C.astype(np.float64)
    table = ndtri(np.arange(1, 2 * n + 2) / (2 * n + 2)).astype(np.float32)  # at j, the score of rank (j + 1)/2
    values = np.empty((n, K), np.float32)

    def score(k: int) -> None:
        steps = np.rint((Y[:, k] - wide @ coef[:, k]) * (TIE / sd[k]))
        values[:, k] = table[twice_midranks(steps) - 1]

    with ThreadPoolExecutor(max_workers=n_jobs) as pool:
        list(pool.map(score, range(K)))
    again, scale = _least_squares(C, values)
    raw = Scores(values=values, coef=again / scale, centre=np.zeros(K, np.float32), scale=scale)
    for first in range(0, n, _BLOCK):
        cells = slice(first, first + _BLOCK)
        values[cells] = raw.residuals(C, cells)
    return Scores(values=values, coef=None, centre=raw.centre, scale=scale)


def twice_midranks(values: Float[np.ndarray, " cells"]) -> Shaped[np.ndarray, " cells"]:
    """Twice the rank of each value, ties sharing the mean of their ranks: a whole number, 2 … 2n."""
    order = np.argsort(values)
    key = values[order]
    new = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    out = np.empty(values.size, np.int64)
    if new.size == values.size:
        out[order] = np.arange(2, 2 * values.size + 2, 2)
    else:
        end = np.append(new[1:], values.size)
        out[order] = np.repeat(new + end + 1, end - new)
    return out


def few_valued(Y: Float[np.ndarray, "cells programs"]) -> Int[np.ndarray, " few"]:
    """The programs with fewer than three distinct values, whose normal scores are the outcome itself on another scale."""
    return np.flatnonzero(((Y == Y.min(0)) | (Y == Y.max(0))).all(0))


def _least_squares(C: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of Y on C, float64 (p, K), and the SD of the residuals; directions of C without variance among the cells are left out."""
    p, n = C.shape[1], len(C)
    moments, square = np.zeros((p, p + Y.shape[1])), np.zeros(Y.shape[1])
    for first in range(0, n, _BLOCK):
        c, y = C[first : first + _BLOCK].astype(np.float64), Y[first : first + _BLOCK].astype(np.float64)
        moments += c.T @ np.hstack([c, y])
        square += np.square(y).sum(0)
    gram, cross = moments[:, :p], moments[:, p:]
    size = np.sqrt(np.where(gram.diagonal() > 0, gram.diagonal(), 1.0))
    coef = np.linalg.pinv(gram / size / size[:, None], rcond=1e-9, hermitian=True) @ (cross / size[:, None]) / size[:, None]
    left = (square - np.einsum("pk,pk->k", cross, coef)) / n
    return coef, np.sqrt(np.where(left > 1e-10 * square / n, left, np.inf))
