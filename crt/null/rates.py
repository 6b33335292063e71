"""Rates of small p-values and the SD of z scores, with intervals and tests that count independent tests."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import beta, chi2, norm

from crt.null.dependence import Dependence

LEVELS = (0.05, 0.01, 0.001)
CLIPPED = 0.001  # z scores are clipped at this p-value, so that a few outliers do not determine their SD: the tail is tested apart


def rate_interval(rate: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """The Clopper–Pearson interval of a rate over n independent tests; n need not be an integer.

    Parameters
    ----------
    rate
        Observed rate.
    n
        Number of independent tests.
    confidence
        Coverage of the interval.
    """
    x, share = rate * n, (1 - confidence) / 2
    low = float(beta.ppf(share, x, n - x + 1)) if x > 0 else 0.0
    return low, float(beta.isf(share, x + 1, n - x)) if x < n else 1.0


def expected_rate(level: float, n_resamples: int | None) -> float:
    """The rate of p ≤ level under the null: empirical p-values are multiples of 1/(B + 1)."""
    return level if n_resamples is None else float(np.floor(level * (n_resamples + 1) + 1e-9) / (n_resamples + 1))


def independent_tests(dependence: Dependence, *, two_sided: bool) -> dict[float, float]:
    """Number of independent tests for the rate at each of `LEVELS`.

    Small p-values of overlapping groups come in clusters, so the counts have longer tails than a binomial distribution of the same variance. Below the first
    level, the number is therefore at most that for z².
    """
    most = dependence.squares()
    return {level: n if level == LEVELS[0] else min(n, most) for level, n in dependence.indicators(LEVELS, two_sided=two_sided).items()}


def rate_at(level: float, sd: float, *, two_sided: bool) -> float:
    """The rate of p ≤ level if the SD of the z scores is `sd` instead of 1."""
    return float(2 * norm.sf(norm.isf(level / 2) / sd) if two_sided else norm.sf(norm.isf(level) / sd))


def detectable_rate(level: float, n: float, z: float) -> float:
    """The smallest rate of p ≤ level over n independent tests that differs from the level by z standard errors of a normal distribution; 1 if none does."""
    share = norm.sf(z)

    def excess(rate: float) -> float:
        return float(beta.cdf(level, rate * n, n - rate * n + 1) - share)

    return float(brentq(excess, level, 1.0)) if level**n < share else 1.0


def sd_of_z(p: Float[np.ndarray, " tests"], n_resamples: int | None, *, two_sided: bool) -> float:
    """SD of the z scores of p-values about 0: 1 if the SD of the null distribution is right, 1.1 if it is too small by a factor of 1.1.

    Parameters
    ----------
    p
        p-values.
    n_resamples
        Number of resamples; None for p-values without resamples.
    two_sided
        Whether the tests are two-sided.
    """
    clip = float(chi2.isf(CLIPPED, 1))

    def clipped(p: np.ndarray) -> float:
        return float(np.minimum(chi2.isf(p, 1) if two_sided else norm.isf(p) ** 2, clip).mean())

    def clipped_normal(sd: float) -> float:
        edge = clip / sd**2
        return float(sd**2 * chi2.cdf(edge, 3) + clip * chi2.sf(edge, 1))

    if n_resamples is None:
        mean = clipped(np.minimum(p, 1 - 1e-12))
    else:  # the middles of the steps, whose mean under the null is that of the grid
        step = 1 / (n_resamples + 1)
        mean = clipped(np.maximum(p, step) - step / 2) / clipped((np.arange(n_resamples + 1) + 0.5) * step) * clipped_normal(1.0)
    lowest, highest = 1e-6, 100.0
    if not clipped_normal(lowest) < mean < clipped_normal(highest):
        return lowest if mean < 1 else highest
    return float(brentq(lambda sd: clipped_normal(sd) - mean, lowest, highest))


def curve_figures(p: pd.DataFrame, dependence: Dependence, n_resamples: int | None, *, two_sided: bool, z: float, sd_ratio: float) -> dict[str, float]:
    """Rates of p ≤ 0.05, 0.01 and 0.001, the SD of z, and whether any of them is too large or too small; empty without defined tests.

    A rate is tested with the binomial distribution of the independent tests, the mean of z² with a χ² distribution. Deviations that an SD of `sd_ratio` would
    cause are ignored, however significant.

    Parameters
    ----------
    p
        p-values, units × programs.
    dependence
        Correlations of the tests.
    n_resamples
        Number of resamples; None for p-values without resamples.
    two_sided
        Whether the tests are two-sided.
    z
        Minimum distance, in standard errors of a normal distribution.
    sd_ratio
        Minimum ratio of the SD of z to 1, or its inverse.
    """
    values = p.to_numpy()
    defined = np.isfinite(values)
    if not defined.any():
        return {}
    some, share = dependence.of(defined.any(1), defined.any(0)), norm.sf(z)
    df, sd = some.squares(), sd_of_z(values[defined], n_resamples, two_sided=two_sided)
    out = {"z_sd": sd, "independent_tests": df}
    inflated = sd >= sd_ratio and chi2.sf(df * sd**2, df) <= share
    conservative = sd <= 1 / sd_ratio and chi2.cdf(df * sd**2, df) <= share
    for level, n in independent_tests(some, two_sided=two_sided).items():
        expected = expected_rate(level, n_resamples)
        rate = float((values[defined] <= level).mean())
        high, low = (expected / level * rate_at(level, ratio, two_sided=two_sided) for ratio in (sd_ratio, 1 / sd_ratio))
        out[f"rate_{level:g}"] = rate
        if level == LEVELS[0]:
            out[f"detectable_rate_{level:g}"] = max(detectable_rate(expected, n, z), high) if expected else 1.0
        if expected:
            inflated |= rate >= high and rate > 0 and beta.cdf(expected, rate * n, n - rate * n + 1) <= share
            conservative |= rate <= low and beta.sf(expected, rate * n + 1, n - rate * n) <= share
    return out | {"inflated": float(inflated), "conservative": float(conservative)}
