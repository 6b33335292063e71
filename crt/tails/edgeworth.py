"""Tail probabilities of a statistic from its first four cumulants, with an estimate of what the next ones would add."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr

from crt.pvalues import SIDES, Side
from data_prep.errors import InputError


class Tails(NamedTuple):
    """Natural logarithms of p-values, and the estimated relative error of each p."""

    log_p: np.ndarray
    error: np.ndarray


def edgeworth_tails(z: Float[np.ndarray, "*tests"], skewness: Float[np.ndarray, "*tests"], kurtosis: Float[np.ndarray, "*tests"], *, side: Side = "both") -> Tails:
    """p-values of a standardised statistic by the Edgeworth series to the fourth cumulant.

    P(Z ≥ z) ≈ Φ(−z) + φ(z)(ρ₃/6 He₂ + ρ₄/24 He₃ + ρ₃²/72 He₅), He_j the Hermite polynomials at z (McCullagh 1987, "Tensor methods in statistics", §5.3;
    Feller 1971, vol. II, XVI.4). Two-sided, P(Z ≥ |z|) + P(Z ≤ −|z|): the terms in He₂ cancel, and with them all of odd order.

    Parameters
    ----------
    z
        The statistic less its null mean, over its null SD.
    skewness
        ρ₃ = κ₃/κ₂^{3/2}.
    kurtosis
        ρ₄ = κ₄/κ₂².
    side
        "both", "left" or "right".

    Returns
    -------
    Tails
        The error is the sum of the absolute values of the next order's terms, the unknown ρ₅ and ρ₆ taken from ρ₃ and ρ₄ as in a gamma distribution, over p; it
        is infinite where the series gives no p in (0, 1].
    """
    if side not in SIDES:
        raise InputError(f"side is {side!r}; choose {', '.join(map(repr, SIDES))}.")
    two = side == "both"
    x = np.abs(z) if two else z * SIDES[side]
    skew = skewness if two else skewness * SIDES[side]
    he = _hermite(x)
    second = kurtosis / 24 * he[3] + skew**2 / 72 * he[5]
    size = np.maximum(skew**2, np.abs(kurtosis))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        log_normal = log_ndtr(-x)
        ratio = np.exp(-x * x / 2 - np.log(2 * np.pi) / 2 - log_normal)  # φ/Φ(−x)
        factor = 1 + ratio * (second if two else skew / 6 * he[2] + second)
        next_even = _SIXTH @ np.abs(he[[5, 7, 9, 11]].reshape(4, -1))
        left_out = ratio * size**2 * next_even.reshape(np.shape(x))
        if not two:
            next_odd = _FIFTH @ np.abs(he[[4, 6, 8]].reshape(3, -1))
            left_out = left_out + ratio * size**1.5 * next_odd.reshape(np.shape(x))
        log_p = np.minimum(log_normal + np.log(factor) + (np.log(2) if two else 0.0), 0.0)
        error = np.where(factor > 0, left_out / factor, np.inf)
    return Tails(log_p, np.where(np.isfinite(error), error, np.inf))


_FIFTH = np.array([2 / 120, 1 / 144, 1 / 1296])  # of He₄, He₆, He₈ with ρ₅ = 2ρ₃ρ₄
_SIXTH = np.array([(10 / 3) / 720, 2 / 720 + 1 / 1152, 1 / 1728, 1 / 31104])  # of He₅, He₇, He₉, He₁₁ with ρ₆ = 10/3 ρ₄²


def _hermite(x: np.ndarray) -> np.ndarray:
    """He₀ … He₁₁ at x, by He_{j+1} = x He_j − j He_{j−1}."""
    he = np.empty((12, *np.shape(x)))
    he[0], he[1] = 1.0, x
    for j in range(1, 11):
        he[j + 1] = x * he[j] - j * he[j - 1]
    return he
