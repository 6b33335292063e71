"""Sums over cells that Newton's method needs for several logistic regressions on one design, and fitted probabilities."""

import math

import numba as nb
import numpy as np

CELLS = 128  # cells that a pass takes at a time
BIAS = int(np.finfo(np.float64).maxexp) - 1  # of the exponent of a double


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _probability(C, n, beta, x, k, scale, exponent, mu):
    """mu = 1/(1 + exp(−C β)) for n cells, C (p, cells). exp(x) = 2^k·exp(r), |r| ≤ ln2/2, by its series to r¹³; `scale` views `exponent` as floats."""
    for i in range(n):
        x[i] = 0.0
    j = 0
    while j + 4 <= C.shape[0]:
        b0, b1, b2, b3 = beta[j], beta[j + 1], beta[j + 2], beta[j + 3]
        for i in range(n):
            x[i] -= (b0 * C[j, i] + b1 * C[j + 1, i]) + (b2 * C[j + 2, i] + b3 * C[j + 3, i])
        j += 4
    while j < C.shape[0]:
        b0 = beta[j]
        for i in range(n):
            x[i] -= b0 * C[j, i]
        j += 1
    for i in range(n):
        v = min(max(x[i], -700.0), 700.0)
        k[i] = math.floor(v * 1.4426950408889634 + 0.5)
        x[i] = v - k[i] * 0.6931471803691238 - k[i] * 1.9082149292705877e-10
    for i in range(n):
        exponent[i] = (np.int64(k[i]) + BIAS) << 52
    for i in range(n):
        r = x[i]
        series = 1 / 6227020800.0
        series = series * r + 1 / 479001600.0
        series = series * r + 1 / 39916800.0
        series = series * r + 1 / 3628800.0
        series = series * r + 1 / 362880.0
        series = series * r + 1 / 40320.0
        series = series * r + 1 / 5040.0
        series = series * r + 1 / 720.0
        series = series * r + 1 / 120.0
        series = series * r + 1 / 24.0
        series = series * r + 1 / 6.0
        series = series * r + 0.5
        series = series * r + 1.0
        mu[i] = 1.0 / (1.0 + (series * r + 1.0) * scale[i])


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _products(Ct, first, n, block, pairs):
    """A block of the design in float64, and the pairwise products of its columns in float32."""
    at = 0
    for j in range(Ct.shape[0]):
        for i in range(n):
            block[j, i] = np.float64(Ct[j, first + i])
        for h in range(j + 1):
            for i in range(n):
                pairs[at, i] = Ct[j, first + i] * Ct[h, first + i]
            at += 1


@nb.njit(cache=True, nogil=True, fastmath=True)
def logistic_pass(Ct, beta, gradient, hessian, want_hessian):
    """Σ μ C (float64) and Σ μ(1 − μ) C C' (float32 within a block) for several coefficient vectors at once.

    Each block of cells, and the products of its columns, are computed once for all vectors. The arithmetic of a vector does not depend on the others, so
    neither does its fit.

    Parameters
    ----------
    Ct
        The design, transposed, float32 (covariates, cells).
    beta
        Coefficient vectors, (targets, covariates).
    gradient
        Receives Σ μ C, (targets, covariates).
    hessian
        Receives Σ μ(1 − μ) C C', (targets, covariates, covariates).
    want_hessian
        Whether to compute the second sum, bool (targets,).
    """
    p, n_cells = Ct.shape
    x, k, mu, weight = np.empty(CELLS), np.empty(CELLS), np.empty(CELLS), np.empty(CELLS, np.float32)
    exponent = np.empty(CELLS, np.int64)
    scale = exponent.view(np.float64)
    block, pairs = np.empty((p, CELLS)), np.empty((p * (p + 1) // 2, CELLS), np.float32)
    gradient[:] = 0.0
    hessian[:] = 0.0
    for first in range(0, n_cells, CELLS):
        n = min(CELLS, n_cells - first)
        _products(Ct, first, n, block, pairs)
        for target in range(beta.shape[0]):
            _probability(block, n, beta[target], x, k, scale, exponent, mu)
            for j in range(p):
                total = 0.0
                for i in range(n):
                    total += mu[i] * block[j, i]
                gradient[target, j] += total
            if not want_hessian[target]:
                continue
            for i in range(n):
                weight[i] = np.float32(mu[i] * (1.0 - mu[i]))
            at = 0
            for j in range(p):
                for h in range(j + 1):
                    part = np.float32(0.0)
                    for i in range(n):
                        part += weight[i] * pairs[at, i]
                    hessian[target, j, h] += np.float64(part)
                    at += 1
    for target in range(beta.shape[0]):
        for j in range(p):
            for h in range(j):
                hessian[target, h, j] = hessian[target, j, h]


@nb.njit(cache=True, nogil=True, fastmath=True)
def logistic_probabilities(Ct, start, beta, out):
    """P(treated) of some cells, those from `start`, for several coefficient vectors.

    Parameters
    ----------
    Ct
        The design, transposed, (covariates, cells).
    start
        The first cell wanted, a multiple of `CELLS`: a cell's digits depend on its place in a pass.
    beta
        Coefficient vectors, (units, covariates).
    out
        Receives the probabilities, (units, cells wanted).
    """
    x, k, mu = np.empty(CELLS), np.empty(CELLS), np.empty(CELLS)
    exponent = np.empty(CELLS, np.int64)
    scale = exponent.view(np.float64)
    block = np.empty((Ct.shape[0], CELLS))
    for first in range(0, out.shape[1], CELLS):
        n = min(CELLS, out.shape[1] - first)
        for j in range(Ct.shape[0]):
            for i in range(n):
                block[j, i] = np.float64(Ct[j, start + first + i])
        for unit in range(beta.shape[0]):
            _probability(block, n, beta[unit], x, k, scale, exponent, mu)
            for i in range(n):
                out[unit, first + i] = mu[i]


@nb.njit(cache=True, nogil=True, fastmath=True)
def propensity_range(Ct, beta, offsets, members, out):
    """Of each unit's P(treated) the minimum, sum and maximum, the minimum over its treated and the maximum over its other cells.

    Parameters
    ----------
    Ct
        The design, transposed, (covariates, cells).
    beta
        Coefficient vectors, (units, covariates).
    offsets
        Bounds of the units in `members`, (units + 1,).
    members
        Treated cells of all units, ascending within a unit.
    out
        Receives the result, (units, 5).
    """
    x, k, mu = np.empty(CELLS), np.empty(CELLS), np.empty(CELLS)
    exponent = np.empty(CELLS, np.int64)
    scale = exponent.view(np.float64)
    block = np.empty((Ct.shape[0], CELLS))
    at = offsets[:-1].copy()
    out[:, 0], out[:, 1], out[:, 2], out[:, 3], out[:, 4] = 2.0, 0.0, -1.0, 2.0, -1.0  # beyond any probability
    for first in range(0, Ct.shape[1], CELLS):
        n = min(CELLS, Ct.shape[1] - first)
        for j in range(Ct.shape[0]):
            for i in range(n):
                block[j, i] = np.float64(Ct[j, first + i])
        for unit in range(beta.shape[0]):
            _probability(block, n, beta[unit], x, k, scale, exponent, mu)
            low, total, high = 2.0, 0.0, -1.0
            for i in range(n):
                low, high = min(low, mu[i]), max(high, mu[i])
                total += mu[i]
            own = out[unit]
            own[0], own[1], own[2] = min(own[0], low), own[1] + total, max(own[2], high)
            while at[unit] < offsets[unit + 1] and members[at[unit]] < first + n:
                i = members[at[unit]] - first
                own[3] = min(own[3], mu[i])
                mu[i] = -1.0
                at[unit] += 1
            for i in range(n):
                own[4] = max(own[4], mu[i])
