"""Ordered p-values against those of a uniform distribution, thinned to the points that a figure needs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta

from data_prep.errors import InputError

N_POINTS = 300  # of a curve, evenly spaced in log rank
TINY = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """A thinned QQ curve.

    Attributes
    ----------
    expected
        −log10 of the expected p-values.
    observed
        −log10 of the observed p-values at the same ranks.
    n
        Number of tests of the whole curve.
    """

    expected: np.ndarray
    observed: np.ndarray
    n: int


def thinned(p: Any, n_points: int = N_POINTS) -> Curve:
    """Sorted p-values against i/(n + 1) at ranks that are evenly spaced in log: all of the smallest p, few of those near 1. NaN are left out.

    Raises
    ------
    InputError
        When values lie outside [0, 1].
    """
    values = np.asarray(p, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise InputError(f"p-values lie between {values.min():g} and {values.max():g}; they must be from 0 to 1, or NaN where undefined.")
    n = values.size
    rank = log_ranks(n, n_points)
    values.sort()
    return Curve(expected=-np.log10(rank / (n + 1)), observed=-np.log10(np.maximum(values[rank - 1], TINY)), n=n)


def log_ranks(n: int, n_points: int) -> np.ndarray:
    """At most `n_points` of the ranks 1 … n, evenly spaced in log."""
    return np.unique(np.geomspace(1, n, n_points).round().astype(np.int64)) if n else np.empty(0, np.int64)


def beta_band(n: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """−log10 of the expected p and of the limits of a pointwise band: the i-th smallest of n independent uniforms is Beta(i, n + 1 − i) distributed."""
    rank = log_ranks(n, N_POINTS)
    low, high = (beta.ppf(q, rank, n + 1 - rank) for q in ((1 - level) / 2, (1 + level) / 2))
    return -np.log10(rank / (n + 1)), -np.log10(np.maximum(high, TINY)), -np.log10(np.maximum(low, TINY))
