"""Skew-normal calibration of a null distribution: fit by moments, checks of the fit, and accurate tail probabilities.

The density is 2/ω·φ(t)·Φ(αt) with t = (z − ξ)/ω (Azzalini 1985, "A class of distributions which includes the normal ones"). The fit, its checks and their
thresholds are those of SCEPTRE 0.99 (Barry, Mason, Roeder & Katsevich 2024, "Robust differential expression testing for single-cell CRISPR screens at low
multiplicity of infection", Genome Biology), with these corrections:

* skewness is clamped on both sides (SCEPTRE clamps above 0.995 only; below −0.995 its fit fails);
* a two-sided p-value is at most 1 (SCEPTRE's can be up to 2);
* undefined resamples are left out (in SCEPTRE one of them disables the fit);
* the outlier check uses standardised values (SCEPTRE's ratios depend on the mean of the null, and change sign with it);
* far in the tail opposite to the skewness the p-value is computed by quadrature (the cdf minus twice Owen's T is rounding error there);
* the tail check with fewer than 100 resamples ends at the largest resample (SCEPTRE reads beyond it).

`scipy.stats.skewnorm` fits one vector at a time, without the clamp, and has no accurate log survival function, so it serves as the oracle of the tests.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.special import erfcx, log_ndtr, ndtr, owens_t

from crt.kernels import statistics as _kernels
from crt.pvalues import defined, empirical_pvalues
from crt.settings import Side, check_side

MAX_SKEWNESS, CLAMPED = 0.995, 0.9 * 0.995
OUTLIER_RATIO, TAIL_RATIO = 1.5, 2.0
TAIL_LEVELS = np.arange(180, 199) / 200.0  # 0.9, 0.905, …, 0.99
_DIRECT = 1e-6  # Φ and Owen's T are accurate to ten digits for tails above it; smaller tails need quadrature
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SkewNormalFit:
    """Skew-normal distributions fitted to a null distribution, one per program.

    Attributes
    ----------
    xi
        Location parameter, on the scale of the null.
    omega
        Scale parameter, on the scale of the null.
    alpha
        Shape parameter.
    mean
        Mean of the null.
    sd
        SD of the null.
    skewness
        Skewness of the null, before it is clamped.
    median
        Lower median of the null.
    outlier_ok
        Whether no value of the null is an outlier.
    left_ok
        Whether the fitted left tail is heavy enough.
    right_ok
        Whether the fitted right tail is heavy enough.
    """

    xi: Float64[np.ndarray, " programs"]
    omega: Float64[np.ndarray, " programs"]
    alpha: Float64[np.ndarray, " programs"]
    mean: Float64[np.ndarray, " programs"]
    sd: Float64[np.ndarray, " programs"]
    skewness: Float64[np.ndarray, " programs"]
    median: Float64[np.ndarray, " programs"]
    outlier_ok: Bool[np.ndarray, " programs"]
    left_ok: Bool[np.ndarray, " programs"]
    right_ok: Bool[np.ndarray, " programs"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SkewNormalPvalues:
    """p-values after calibration.

    Attributes
    ----------
    p
        p-value, skew-normal or empirical; at least 2.2e-308, the smallest normal double.
    log10_p
        log10 of the p-value, without that limit.
    fallback
        Whether the fit was rejected, so that the empirical p-value is used.
    fit
        The fitted distributions.
    """

    p: Float64[np.ndarray, " programs"]
    log10_p: Float64[np.ndarray, " programs"]
    fallback: Bool[np.ndarray, " programs"]
    fit: SkewNormalFit


def fit_skew_normal(null: Float[np.ndarray, "resamples programs"]) -> SkewNormalFit:
    """Fit by moments and check the fit, all programs at once; undefined resamples are left out.

    γ the skewness, clamped to ±0.9·0.995 where it exceeds ±0.995; r = sign(γ)(2|γ|/(4 − π))^{1/3}; δ = r/(√(2/π)·√(1 + r²)); α = δ/√(1 − δ²);
    ω = sd/√(1 − 2δ²/π); ξ = mean − ωδ√(2/π).
    """
    values = defined(null)
    K, B = values.shape
    mean, sd, skewness = (np.full(K, np.nan) for _ in range(3))
    if B:
        _kernels.moments(values, mean, sd, skewness)
    gamma = np.where(np.abs(skewness) > MAX_SKEWNESS, np.sign(skewness) * CLAMPED, skewness)
    b = np.sqrt(2 / np.pi)
    r = np.sign(gamma) * np.cbrt(2 * np.abs(gamma) / (4 - np.pi))
    delta = r / (b * np.sqrt(1 + r * r))
    alpha = delta / np.sqrt(1 - delta * delta)
    omega = sd / np.sqrt(1 - (b * delta) ** 2)
    xi = mean - omega * b * delta
    empty = np.zeros(K, bool)
    if B < 2:
        return SkewNormalFit(xi=xi, omega=omega, alpha=alpha, mean=mean, sd=sd, skewness=skewness, median=mean, outlier_ok=empty, left_ok=empty, right_ok=empty)
    ordered = np.sort(values, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        reach = np.sqrt(2 * np.log(B)) * sd
        outlier_ok = ((ordered[:, -1] - mean) / reach <= OUTLIER_RATIO) & ((mean - ordered[:, 0]) / reach <= OUTLIER_RATIO)
    at = np.minimum(np.ceil(B * TAIL_LEVELS).astype(np.int64), B - 1)
    location, scale, shape = xi[:, None], omega[:, None], alpha[:, None]
    return SkewNormalFit(
        xi=xi,
        omega=omega,
        alpha=alpha,
        mean=mean,
        sd=sd,
        skewness=skewness,
        median=ordered[:, (B - 1) // 2].astype(np.float64),
        outlier_ok=outlier_ok,
        right_ok=_tail_ok(upper_tail((ordered[:, at].astype(np.float64) - location) / scale, shape)),
        left_ok=_tail_ok(upper_tail(-(ordered[:, B - 1 - at].astype(np.float64) - location) / scale, -shape)),
    )


def skew_normal_pvalues(
    observed: Float64[np.ndarray, " programs"],
    null: Float[np.ndarray, "resamples programs"],
    *,
    side: Side = "both",
    raw: Float64[np.ndarray, " programs"] | None = None,
) -> SkewNormalPvalues:
    """Skew-normal p-values, and empirical ones where the fit is rejected.

    A fit is accepted if its parameters are finite, ω > 0, no null value is an outlier, and, on the side of the null's median where the observed value lies,
    none of 19 empirical tail probabilities exceeds the fitted one by more than a factor of two. Two-sided: twice the tail on that side, at most 1.

    Parameters
    ----------
    observed
        Observed statistics, (programs,).
    null
        Statistics of the resamples, (resamples, programs).
    side
        Alternative hypothesis, as in `empirical_pvalues`.
    raw
        Empirical p-values, (programs,), where they have been computed already.
    """
    check_side(side)
    fit = fit_skew_normal(null)
    raw = empirical_pvalues(observed, null, side=side) if raw is None else raw
    right = observed >= fit.median
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (observed - fit.xi) / fit.omega
        upward = right if side == "both" else np.full(z.shape, side == "right")
        log_p = log_upper_tail(np.where(upward, z, -z), np.where(upward, fit.alpha, -fit.alpha))
        log_p = np.minimum(log_p + (np.log(2) if side == "both" else 0.0), 0.0)
        sound = np.isfinite(fit.xi) & np.isfinite(fit.alpha) & (fit.omega > 0) & ~np.isnan(log_p)
        accepted = sound & fit.outlier_ok & np.where(right, fit.right_ok, fit.left_ok)
        log10_p = np.where(accepted, log_p / np.log(10), np.log10(raw))
        p = np.where(accepted, np.maximum(np.exp(log_p), np.finfo(np.float64).tiny), raw)
    return SkewNormalPvalues(p=p, log10_p=log10_p, fallback=~accepted, fit=fit)


def upper_tail(z: Float[np.ndarray, "*shape"], alpha: Float[np.ndarray, "*#shape"]) -> Float64[np.ndarray, "*shape"]:
    """P(Z > z) of the standard skew-normal distribution: Φ(−z) + 2T(z, α), with T of Owen 1956, "Tables for computing bivariate normal probabilities".

    The formula is of Azzalini 1985. The absolute error is about 1e-16; `log_upper_tail` is accurate in far tails.
    """
    return ndtr(-z) + 2 * owens_t(z, alpha)


def log_upper_tail(z: Float[np.ndarray, " programs"], alpha: Float[np.ndarray, " programs"]) -> Float64[np.ndarray, " programs"]:
    """log P(Z > z) of the standard skew-normal distribution, with a relative error of P of about 1e-11 however small P is.

    Where P is small, the two terms of `upper_tail` cancel. For z > 0 the light tail (α < 0) is then L = ∫_z^∞ 2φ(t)Φ(−|α|t) dt, by quadrature, and the heavy
    tail (α ≥ 0) is 2Φ(−z) − L, of which L is at most half. For z ≤ 0 the probability is small only for large negative α, where the same integral applies.
    """
    z, alpha = np.broadcast_arrays(np.asarray(z, np.float64), np.asarray(alpha, np.float64))
    direct = upper_tail(z, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.log(direct)
    far = (direct < _DIRECT) & np.isfinite(z) & np.isfinite(alpha)
    if far.any():
        log_light = _log_light_tail(z[far], np.abs(alpha[far]))
        log_two_phi = np.log(2) + log_ndtr(-z[far])
        heavy = log_two_phi + np.log1p(-np.exp(np.minimum(log_light - log_two_phi, 0.0)))
        out[far] = np.where(alpha[far] < 0, log_light, heavy)
    return out


def _log_light_tail(z: np.ndarray, a: np.ndarray) -> np.ndarray:
    """log ∫_z^∞ 2φ(t)Φ(−at) dt, a ≥ 0.

    With s² = 1 + a² and t = z + v the integrand is (2π)^{−1/2} e^{−s²z²/2}·e^{−s²(zv + v²/2)}·erfcx(a t/√2), which is smooth; Gauss–Legendre quadrature ends
    where the middle factor is e^{−45}.
    """
    s2 = 1 + a * a
    reach = 90 / s2
    end = reach / (np.sqrt(z * z + reach) + z)
    v = end[:, None] * (_NODES + 1) / 2
    t = z[:, None] + v
    body = np.exp(-s2[:, None] * (z[:, None] * v + v * v / 2)) * erfcx(a[:, None] * t / np.sqrt(2))
    return -s2 * z * z / 2 - np.log(2 * np.pi) / 2 + np.log(body @ _WEIGHTS * end / 2)


def _tail_ok(fitted: np.ndarray) -> np.ndarray:
    """Whether the fitted tail is at least half the empirical one at every level, (programs, levels) → (programs,); NaN counts as not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((1 - TAIL_LEVELS) / fitted <= TAIL_RATIO).all(1)
