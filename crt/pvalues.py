"""Empirical p-values, and false discovery control: pure functions of null statistics."""

from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control

from crt.kernels import kernels as _kernels
from data_prep.errors import InputError

Side = Literal["both", "left", "right"]
SIDES: dict[str, int] = {"left": -1, "both": 0, "right": 1}
TIE = 2.0**-16  # of the null's root mean square: closer than this, float32 sums can't tell two statistics apart


def defined(null: np.ndarray) -> np.ndarray:
    """The null by program, (K, B'), without the resamples that have no statistic."""
    by_program = np.ascontiguousarray(null.T)
    if by_program.shape[1] == 0:
        return by_program
    ok = np.isfinite(by_program[0])
    return by_program if ok.all() else np.ascontiguousarray(by_program[:, ok])


def empirical_pvalues(observed: np.ndarray, null: np.ndarray, *, side: Side = "both") -> np.ndarray:
    """(1 + #{resamples at least as extreme}) / (B + 1), for each program.

    Two-sided extremeness is |β_b| ≥ |β_obs|. Undefined resamples are left out of the count and of B. A resample that ties with the observed value to
    within float32 rounding counts as a tie, as in exact arithmetic: the same cells summed in another order differ in the last digits.

    Parameters
    ----------
    observed
        (K,).
    null
        (B, K).
    side
        "both", "left" (small values are extreme) or "right".

    Returns
    -------
    float64 (K,), in [1/(B + 1), 1]; NaN where the observed value is, or where no resample is defined

    Source: Candès et al. 2018, "Panning for gold", §4 (the conditional randomization test); Phipson & Smyth 2010 for the 1 + .
    """
    if side not in SIDES:
        raise InputError(f"side is {side!r}; choose {', '.join(map(repr, SIDES))}.")
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


def standardised(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """z of the observed statistics: less the null's mean, over its SD; NaN where the null is constant."""
    values = defined(null)
    if values.shape[1] == 0:
        return np.full(values.shape[0], np.nan)
    mean, sd, skewness = (np.empty(len(values)) for _ in range(3))
    _kernels.moments(values, mean, sd, skewness)
    return (observed - mean) / np.where(sd > 0, sd, np.nan)


def leave_one_out_pvalues(null: np.ndarray, *, side: Side = "both") -> np.ndarray:
    """Each resample's p-value against the others, (B, K): rank from the extreme end over B, ties counted as extreme; NaN for undefined resamples.

    These are what observed p-values would be if the null held.
    """
    if side not in SIDES:
        raise InputError(f"side is {side!r}; choose {', '.join(map(repr, SIDES))}.")
    out = np.full(null.shape, np.nan)
    ok = np.isfinite(null[:, 0]) if null.size else np.zeros(len(null), bool)
    values = null[ok].T.astype(np.float64)
    extreme = np.abs(values) if side == "both" else values if side == "right" else -values
    order = np.sort(extreme, axis=1)
    B = values.shape[1]
    for k in range(len(values)):
        out[ok, k] = (B - np.searchsorted(order[k], extreme[k], side="left")) / B
    return out


def adjust(p: np.ndarray, *, method: Literal["bh", "by"] = "bh") -> np.ndarray:
    """False-discovery-adjusted p-values of any shape; undefined (NaN) tests are left out and stay NaN.

    Source: Benjamini & Hochberg 1995, Benjamini & Yekutieli 2001, by `scipy.stats.false_discovery_control`.
    """
    out = np.full(p.shape, np.nan)
    ok = np.isfinite(p)
    if ok.any():
        out[ok] = false_discovery_control(p[ok], method=method)
    return out
