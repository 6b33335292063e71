"""Tail probabilities of a statistic from its first four cumulants, with an estimate of what the next ones would add."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr

from crt.settings import SIDES, Side
from data_prep.errors import InputError


class Tails(NamedTuple):
    """Natural logarithms of p-values, and the estimated relative error of each p."""

    log_p: Float[np.ndarray, "*tests"]
    error: Float[np.ndarray, "*tests"]


def edgeworth_tails(
    z: Float[np.ndarray, "*tests"],
    skewness: Float[np.ndarray, "*tests"],
    kurtosis: Float[np.ndarray, "*tests"],
    *,
    reach: Float[np.ndarray, "*tests"],
    side: Side = "both",
) -> Tails:
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
    reach
        The largest contribution of one cell to the statistic, over its null SD. It bounds the next cumulants: |ρ₅| ≲ reach·ρ₄ and |ρ₆| ≲ reach²·ρ₄.
    side
        "both", "left" or "right".

    Returns
    -------
    Tails
        The error is the sum of the absolute values of the next order's terms with those bounds, over p; it is infinite where the series gives no p in (0, 1].
    """
    if side not in SIDES:
        raise InputError(f"side is {side!r}; choose {', '.join(map(repr, SIDES))}.")
    two = side == "both"
    x = np.abs(z) if two else z * SIDES[side]
    skew = skewness if two else skewness * SIDES[side]
    he = _hermite(x)
    second = kurtosis / 24 * he[3] + skew**2 / 72 * he[5]
    size = np.maximum(np.maximum(skew**2, np.abs(kurtosis)), reach**2 / _NORMAL)
    fifth, sixth = reach * size, reach**2 * size
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        log_normal = log_ndtr(-x)
        ratio = np.exp(-x * x / 2 - np.log(2 * np.pi) / 2 - log_normal)  # φ/Φ(−x)
        factor = 1 + ratio * (second if two else skew / 6 * he[2] + second)
        he = np.abs(he)
        left_out = sixth * he[5] / 720 + (np.abs(skew) * fifth / 720 + size**2 / 1152) * he[7] + skew**2 * size / 1728 * he[9] + skew**4 / 31104 * he[11]
        if not two:
            left_out = left_out + fifth * he[4] / 120 + np.abs(skew) * size / 144 * he[6] + np.abs(skew) ** 3 / 1296 * he[8]
        log_p = np.minimum(log_normal + np.log(factor) + (np.log(2) if two else 0.0), 0.0)
        error = np.where(factor > 0, ratio * left_out / factor, np.inf)
    return Tails(log_p, np.where(np.isfinite(error), error, np.inf))


_NORMAL = 25.0  # the square of the largest of some 500,000 normal residuals: ρ₄ is taken as no smaller than what they would give if it cancels


def _hermite(x: np.ndarray) -> np.ndarray:
    """He₀ … He₁₁ at x, by He_{j+1} = x He_j − j He_{j−1}."""
    he = np.empty((12, *np.shape(x)))
    he[0], he[1] = 1.0, x
    for j in range(1, 11):
        he[j + 1] = x * he[j] - j * he[j - 1]
    return he
