"""Empirical p-values, z scores and adjusted p-values: pure functions of null statistics."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import ndtri_exp
from scipy.stats import false_discovery_control, rankdata

from crt.kernels import statistics as _kernels
from crt.settings import Side, check_side

TIE = 2.0**-16  # relative to the null's root mean square: float32 sums do not distinguish two statistics that are closer


def defined(null: Float[np.ndarray, "resamples programs"]) -> Float[np.ndarray, "programs defined"]:
    """The null statistics by program, without the undefined resamples."""
    by_program = np.ascontiguousarray(null.T)
    if by_program.shape[1] == 0:
        return by_program
    ok = np.isfinite(by_program[0])
    return by_program if ok.all() else np.ascontiguousarray(by_program[:, ok])


def empirical_pvalues(
    observed: Float[np.ndarray, " programs"], null: Float[np.ndarray, "resamples programs"], *, side: Side = "both"
) -> Float64[np.ndarray, " programs"]:
    """Empirical p-values: (1 + number of resamples at least as extreme)/(B + 1).

    Two-sided, a resample is at least as extreme where |β_b| ≥ |β_obs|. Undefined resamples do not count, also not in B. A resample that equals the observed
    value up to float32 rounding counts as a tie, as in exact arithmetic: sums over the same cells in another order differ in their last digits.

    Parameters
    ----------
    observed
        Observed statistics, (programs,).
    null
        Statistics of the resamples, (resamples, programs); rows of undefined resamples are NaN.
    side
        Alternative hypothesis: "both", "left" (small values are extreme) or "right".

    Returns
    -------
    numpy.ndarray
        float64 (programs,), from 1/(B + 1) to 1; NaN where the observed value is NaN, or no resample is defined.

    Notes
    -----
    The test is of Candès et al. 2018, "Panning for gold: model-X knockoffs for high dimensional controlled variable selection", section 4. The 1 + is of
    Phipson & Smyth 2010, "Permutation p-values should never be zero".
    """
    check_side(side)
    values = defined(null)
    K, B = values.shape
    if B == 0:
        return np.full(K, np.nan)
    tie = TIE * np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=1)) if values.dtype == np.float32 else np.zeros(K)
    below, above = np.empty(K, np.int64), np.empty(K, np.int64)
    edge = np.abs(observed) - tie
    low, high = (-edge, edge) if side == "both" else (observed + tie, observed - tie)
    _kernels.count_extreme(values, np.asarray(low, np.float64), np.asarray(high, np.float64), below, above)
    count = below if side == "left" else above if side == "right" else np.where(edge > 0, below + above, B)
    return np.where(np.isfinite(observed), (1.0 + count) / (B + 1.0), np.nan)


def mean_and_sd(null: Float[np.ndarray, "resamples programs"]) -> tuple[Float64[np.ndarray, " programs"], Float64[np.ndarray, " programs"]]:
    """Mean and SD of the null statistics; NaN where no resample is defined."""
    values = defined(null)
    if values.shape[1] == 0:
        return np.full(values.shape[0], np.nan), np.full(values.shape[0], np.nan)
    mean, sd, skewness = (np.empty(len(values)) for _ in range(3))
    _kernels.moments(values, mean, sd, skewness)
    return mean, sd


def leave_one_out_pvalues(null: Float[np.ndarray, "resamples programs"], *, side: Side = "both") -> Float64[np.ndarray, "resamples programs"]:
    """The p-value of each resample against the other resamples: its rank from the extreme end over B, ties counted as extreme; NaN for undefined resamples.

    Observed p-values have this distribution if the null hypothesis holds.
    """
    check_side(side)
    out = np.full(null.shape, np.nan)
    ok = np.isfinite(null[:, 0]) if null.size else np.zeros(len(null), bool)
    values = null[ok].astype(np.float64)
    if len(values):
        less_extreme = -np.abs(values) if side == "both" else -values if side == "right" else values
        out[ok] = rankdata(less_extreme, method="max", axis=0) / len(values)
    return out


def adjust(p: Float64[np.ndarray, "*tests"], *, method: Literal["bh", "by"] = "bh") -> Float64[np.ndarray, "*tests"]:
    """Adjusted p-values that control the false discovery rate; undefined (NaN) tests are left out and stay NaN.

    "bh" is Benjamini & Hochberg 1995, "by" Benjamini & Yekutieli 2001, both by `scipy.stats.false_discovery_control`.
    """
    out = np.full(p.shape, np.nan)
    ok = np.isfinite(p)
    if ok.any():
        out[ok] = false_discovery_control(p[ok], method=method)
    return out


def signed_z(log10_p: Float64[np.ndarray, "*tests"], effect: Float64[np.ndarray, "*tests"], *, side: Side = "both") -> Float64[np.ndarray, "*tests"]:
    """The standard normal values with these p-values, with the sign of the effect in two-sided tests; exact where p is below the range of float64."""
    check_side(side)
    log_p = np.minimum(log10_p * np.log(10), -1e-16)  # a p-value that rounds to 1 has a finite z
    if side == "both":
        return -np.sign(effect) * ndtri_exp(log_p - np.log(2))
    return ndtri_exp(log_p) * (1.0 if side == "left" else -1.0)
