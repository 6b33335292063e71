"""Null statistics: coefficients from sums, moments, counts of extreme values."""

import math

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})
def coefficients(sums, n_programs, mean, whiten, cross, n_cells, singular, null):
    """β of every resample and program, NaN where undefined; returns the number of undefined resamples.

    β_k = (S_k − w·cross_k)/(n − n²/N − w·w), with n treated cells of N, S the centred sums of the outcomes, and w those of the covariates after whitening.

    Parameters
    ----------
    sums
        Sums over the treated cells of the intercept, the other covariates and the outcomes, float32 (resamples, width).
    n_programs
        Number of outcomes.
    mean
        Means over the unit's cells of the covariates without the intercept, then of the outcomes.
    whiten
        Matrix from centred sums of covariates to coordinates in an orthonormal basis, (rank, covariates − 1).
    cross
        Coordinates of the centred outcomes in that basis, (rank, programs).
    n_cells
        Number of cells of the unit, as a float.
    singular
        Ratio of the denominator to n − n²/N below which β is undefined.
    null
        Receives β, float32 (programs, resamples).
    """
    n_resamples, r, q = sums.shape[0], whiten.shape[0], whiten.shape[1]
    numerator, w = np.empty(n_programs), np.empty(max(1, r))
    bad = 0
    for b in range(n_resamples):
        n = np.float64(sums[b, 0])
        spread = n * (1.0 - n / n_cells)
        den = spread
        for i in range(r):
            total = 0.0
            for j in range(q):
                total += whiten[i, j] * (np.float64(sums[b, 1 + j]) - n * mean[j])
            w[i] = total
            den -= total * total
        if not (den > 1e-12 and den > singular * spread):
            bad += 1
            for k in range(n_programs):
                null[k, b] = np.nan
            continue
        for k in range(n_programs):
            numerator[k] = np.float64(sums[b, 1 + q + k]) - n * mean[q + k]
        for i in range(r):
            wi = w[i]
            for k in range(n_programs):
                numerator[k] -= wi * cross[i, k]
        inverse = 1.0 / den
        for k in range(n_programs):
            null[k, b] = numerator[k] * inverse
    return bad


@nb.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def moments(null, mean, sd, skewness):
    """Mean, SD (with 1/n) and skewness of each row, by two passes in float64.

    Parameters
    ----------
    null
        Null statistics, float32 or float64 (programs, resamples).
    mean
        Receives the means, (programs,).
    sd
        Receives the SDs, (programs,).
    skewness
        Receives the skewnesses, NaN where the SD is zero, (programs,).
    """
    n = null.shape[1]
    for k in range(null.shape[0]):
        row = null[k]
        total = 0.0
        for b in range(n):
            total += np.float64(row[b])
        m = total / n
        second, third = 0.0, 0.0
        for b in range(n):
            d = np.float64(row[b]) - m
            second += d * d
            third += d * d * d
        mean[k] = m
        sd[k] = math.sqrt(second / n)
        skewness[k] = third / n / (sd[k] * sd[k] * sd[k]) if sd[k] > 0.0 else np.nan


@nb.njit(cache=True, nogil=True)
def count_extreme(null, low, high, below, above):
    """Numbers of entries of each row that are ≤ low, and that are ≥ high.

    Parameters
    ----------
    null
        Null statistics, (programs, resamples).
    low
        Lower bound of each row, (programs,).
    high
        Upper bound of each row, (programs,).
    below
        Receives the numbers of entries ≤ low, int64 (programs,).
    above
        Receives the numbers of entries ≥ high, int64 (programs,).
    """
    for k in range(null.shape[0]):
        n_low, n_high = 0, 0
        lo, hi = low[k], high[k]
        for b in range(null.shape[1]):
            value = null[k, b]
            n_low += value <= lo
            n_high += value >= hi
        below[k] = n_low
        above[k] = n_high
