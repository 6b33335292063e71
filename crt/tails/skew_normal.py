"""Skew-normal calibration of a null: fit by moments, the checks before it is trusted, and tails that stay exact.

The density is 2/ω·φ(t)·Φ(αt) with t = (z − ξ)/ω. The fit, its checks and their thresholds are those of SCEPTRE 0.99 (Barry, Mason, Roeder & Katsevich 2024,
"Robust differential expression testing for single-cell CRISPR screens at low multiplicity of infection", Genome Biology), save where it slips:

* skewness is clamped on both sides (it clamps above 0.995 only; below −0.995 its fit fails);
* a two-sided p is at most 1 (its can reach 2);
* undefined resamples are left out (there one turns the fit off);
* the outlier check is made on standardised values (its ratios depend on the null's mean, and change sign with it);
* far in the tail opposite the skew p comes from quadrature (its cdf less twice Owen's T is round-off there);
* a tail check on fewer than 100 resamples stops at the largest one (it reads past the end).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr, owens_t

from crt.kernels import kernels as _kernels
from crt.pvalues import SIDES, Side, defined, empirical_pvalues
from data_prep.errors import InputError

MAX_SKEWNESS, CLAMPED = 0.995, 0.9 * 0.995
OUTLIER_RATIO, TAIL_RATIO = 1.5, 2.0
TAIL_LEVELS = np.arange(180, 199) / 200.0  # 0.9, 0.905, …, 0.99
_DIRECT = 1e-6  # above it Φ and Owen's T give a tail to ten digits; below, quadrature does
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SkewNormalFit:
    """Skew-normal laws, one for each program, (K,).

    `xi`, `omega`, `alpha` are on the scale of the null; `mean`, `sd`, `skewness` are its moments (skewness before the clamp); `median` its lower median;
    `outlier_ok`, `left_ok`, `right_ok` the checks.
    """

    xi: np.ndarray
    omega: np.ndarray
    alpha: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    skewness: np.ndarray
    median: np.ndarray
    outlier_ok: np.ndarray
    left_ok: np.ndarray
    right_ok: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SkewNormalPvalues:
    """p-values after calibration, (K,).

    `p` and `log10_p` (both of the empirical p where `fallback`), the `fit`, and `fallback`, where it was not trusted. A p below 2.2e-308, the smallest
    normal double, is given as that; `log10_p` has the value itself.
    """

    p: np.ndarray
    log10_p: np.ndarray
    fallback: np.ndarray
    fit: SkewNormalFit


def fit_skew_normal(null: np.ndarray) -> SkewNormalFit:
    """Fit by moments and check the fit, all programs at once.

    γ the skewness, clamped to ±0.9·0.995 where it exceeds ±0.995; r = sign(γ)(2|γ|/(4 − π))^{1/3}; δ = r/(√(2/π)·√(1 + r²)); α = δ/√(1 − δ²);
    ω = sd/√(1 − 2δ²/π); ξ = mean − ωδ√(2/π).

    Parameters
    ----------
    null
        (B, K); undefined resamples are left out.
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
    laws = xi[:, None], omega[:, None], alpha[:, None]
    return SkewNormalFit(
        xi=xi,
        omega=omega,
        alpha=alpha,
        mean=mean,
        sd=sd,
        skewness=skewness,
        median=ordered[:, (B - 1) // 2].astype(np.float64),
        outlier_ok=outlier_ok,
        right_ok=_tail_ok(upper_tail((ordered[:, at].astype(np.float64) - laws[0]) / laws[1], laws[2])),
        left_ok=_tail_ok(upper_tail(-(ordered[:, B - 1 - at].astype(np.float64) - laws[0]) / laws[1], -laws[2])),
    )


def skew_normal_pvalues(observed: np.ndarray, null: np.ndarray, *, side: Side = "both", raw: np.ndarray | None = None) -> SkewNormalPvalues:
    """Skew-normal p-values, the empirical ones where the fit is not trusted.

    A fit is trusted if its parameters are finite, ω > 0, no null value is an outlier, and on the side of the null's median where the observed value lies
    none of 19 tail levels is over twice what the fit says. Two-sided: twice the tail on that side, at most 1.

    Parameters
    ----------
    observed
        (K,).
    null
        (B, K).
    side
        As in `empirical_pvalues`, which also gives the fallback.
    raw
        The empirical p-values where they are at hand.
    """
    if side not in SIDES:
        raise InputError(f"side is {side!r}; choose {', '.join(map(repr, SIDES))}.")
    fit = fit_skew_normal(null)
    raw = empirical_pvalues(observed, null, side=side) if raw is None else raw
    right = observed >= fit.median
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (observed - fit.xi) / fit.omega
        upward = right if side == "both" else np.full(z.shape, side == "right")
        log_p = log_upper_tail(np.where(upward, z, -z), np.where(upward, fit.alpha, -fit.alpha))
        log_p = np.minimum(log_p + (np.log(2) if side == "both" else 0.0), 0.0)
        sound = np.isfinite(fit.xi) & np.isfinite(fit.alpha) & (fit.omega > 0) & ~np.isnan(log_p)
        trusted = sound & fit.outlier_ok & np.where(right, fit.right_ok, fit.left_ok)
        log10_p = np.where(trusted, log_p / np.log(10), np.log10(raw))
        p = np.where(trusted, np.maximum(np.exp(log_p), np.finfo(np.float64).tiny), raw)
    return SkewNormalPvalues(p=p, log10_p=log10_p, fallback=~trusted, fit=fit)


def upper_tail(z: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """P(Z > z) of the standard skew-normal: Φ(−z) + 2T(z, α), T Owen's function (Azzalini 1985). Absolute error about 1e-16; far tails: `log_upper_tail`."""
    return ndtr(-z) + 2 * owens_t(z, alpha)


def log_upper_tail(z: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """log P(Z > z) of the standard skew-normal, to about 1e-11 relative in P however small it is.

    Where P is small and the direct sum would cancel: for z > 0 the thin tail (α < 0) is L = ∫_z^∞ 2φ(t)Φ(−|α|t) dt, by quadrature, and the thick one (α ≥ 0) is
    2Φ(−z) − L, of which L is at most half. For z ≤ 0 the probability is not small save with α large and negative, which the same integral covers.
    """
    z, alpha = np.broadcast_arrays(np.asarray(z, np.float64), np.asarray(alpha, np.float64))
    direct = upper_tail(z, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.log(direct)
    far = (direct < _DIRECT) & np.isfinite(z) & np.isfinite(alpha)
    if far.any():
        log_thin = _log_thin_tail(z[far], np.abs(alpha[far]))
        log_two_phi = np.log(2) + log_ndtr(-z[far])
        thick = log_two_phi + np.log1p(-np.exp(np.minimum(log_thin - log_two_phi, 0.0)))
        out[far] = np.where(alpha[far] < 0, log_thin, thick)
    return out


def _log_thin_tail(z: np.ndarray, a: np.ndarray) -> np.ndarray:
    """log ∫_z^∞ 2φ(t)Φ(−at) dt, a ≥ 0.

    With s² = 1 + a² and t = z + v the integrand is (2π)^{−1/2} e^{−s²z²/2}·e^{−s²(zv + v²/2)}·erfcx(a t/√2), which is smooth; Gauss–Legendre up to where
    the middle factor is e^{−45}.
    """
    s2 = 1 + a * a
    reach = 90 / s2
    end = reach / (np.sqrt(z * z + reach) + z)
    v = end[:, None] * (_NODES + 1) / 2
    t = z[:, None] + v
    body = np.exp(-s2[:, None] * (z[:, None] * v + v * v / 2)) * erfcx(a[:, None] * t / np.sqrt(2))
    return -s2 * z * z / 2 - np.log(2 * np.pi) / 2 + np.log(body @ _WEIGHTS * end / 2)


def _tail_ok(fitted: np.ndarray) -> np.ndarray:
    """Whether at each level the fitted tail is at least half the empirical one; (K, levels) → (K,). A NaN is not ok."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((1 - TAIL_LEVELS) / fitted <= TAIL_RATIO).all(1)
