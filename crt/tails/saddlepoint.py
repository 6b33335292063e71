"""Saddlepoint tail probabilities of the linear statistic T = Σ r(x − p), x independent given the covariates.

With K the cumulant generating function of T and ŝ the root of K′(ŝ) = t, put ŵ = sign(ŝ)√(2(ŝt − K(ŝ))) and û = ŝ√K″(ŝ). Then P(T ≥ t) is
Φ(−ŵ) + φ(ŵ)(1/û − 1/ŵ + …) (Lugannani & Rice 1980, "Saddle point approximation for the distribution of the sum of independent random variables", here with
the next term of Daniels 1987, "Tail probability approximations", eq. 4.9), with a relative error that stays bounded in the tail.

T has no lattice unless the residuals do, so no continuity is corrected for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.special import erfcx, log_ndtr

from crt.kernels import cumulants as _kernels
from crt.settings import SIDES, Side
from crt.tails.edgeworth import edgeworth_tails
from data_prep.errors import InputError

ACCURACY = 0.007  # of p: where the Edgeworth series is estimated to be further off, the saddlepoint equation is solved
MAX_ITER = 60
SOLVED, UNSOLVED, BEYOND = 1, 0, 2
_HELD = 4_000_000  # residuals held at a time while saddlepoint equations are solved
_LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


class Cumulants(NamedTuple):
    """κ₂, κ₃, κ₄ of T, each of the same shape."""

    second: Float[np.ndarray, "*tests"]
    third: Float[np.ndarray, "*tests"]
    fourth: Float[np.ndarray, "*tests"]

    @property
    def sd(self) -> Float[np.ndarray, "*tests"]:
        """√κ₂."""
        return np.sqrt(np.maximum(self.second, 0.0))

    @property
    def skewness(self) -> Float[np.ndarray, "*tests"]:
        """ρ₃."""
        return self.third / self.second**1.5

    @property
    def kurtosis(self) -> Float[np.ndarray, "*tests"]:
        """ρ₄."""
        return self.fourth / self.second**2


class Saddle(NamedTuple):
    """ŵ, û and the standardised cumulants ρ₃, ρ₄ of the tilted T, for the tail on the side of ŵ's sign."""

    w: Float[np.ndarray, "*tests"]
    u: Float[np.ndarray, "*tests"]
    skewness: Float[np.ndarray, "*tests"]
    kurtosis: Float[np.ndarray, "*tests"]


def lugannani_rice(saddle: Saddle) -> Float[np.ndarray, "*tests"]:
    """log P of the tail beyond a saddlepoint: log P(T ≥ t) where ŵ > 0, log P(T ≤ t) where ŵ < 0.

    φ(ŵ){M(ŵ) + 1/û − 1/ŵ + (ρ₄/8 − 5ρ₃²/24)/û − ρ₃/(2û²) − 1/û³ + 1/ŵ³}, M Mills' ratio, which is all in the logarithm so that P may be as small as
    10^−100,000. Where the braces are not positive, or the last four terms more than half of the others, Barndorff-Nielsen's Φ(−r*) with
    r* = ŵ + log(û/ŵ)/ŵ (1986, "Inference on full or partial parameters") is used.

    Parameters
    ----------
    saddle
        With ρ₃ and ρ₄ zero where they are not known: then the braces end after 1/û − 1/ŵ.
    """
    sign = np.sign(saddle.w)
    w, u, skew = np.abs(saddle.w), np.abs(saddle.u), saddle.skewness * sign
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        first = np.sqrt(np.pi / 2) * erfcx(w / np.sqrt(2)) + (1 / u - 1 / w)
        known = (skew != 0) | (saddle.kurtosis != 0)
        second = np.where(known, (saddle.kurtosis / 8 - 5 * skew**2 / 24) / u - skew / (2 * u**2) - 1 / u**3 + 1 / w**3, 0.0)
        total = first + second
        log_p = -w * w / 2 - _LOG_ROOT_2PI + np.log(total)
        star = log_ndtr(-(w + np.log(u / w) / w))
        sound = (total > 0) & (first > 0) & (np.abs(second) <= 0.5 * first)
    return np.minimum(np.where(sound, log_p, star), 0.0)


class ScorePvalues(NamedTuple):
    """p-values of one unit, (K,).

    Attributes
    ----------
    log_p
        Natural logarithms; NaN where `unsolved` or where T has no variance.
    by_saddlepoint
        Where the saddlepoint equation was solved because the Edgeworth series is not accurate to 1 %.
    unsolved
        Where it has no solution: t at the edge of the support of T.
    """

    log_p: Float[np.ndarray, " programs"]
    by_saddlepoint: Bool[np.ndarray, " programs"]
    unsolved: Bool[np.ndarray, " programs"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarTails:
    """p-values of one unit by Edgeworth series, and the tails too far out for it, whose saddlepoint equations are to be solved.

    Attributes
    ----------
    log_p
        Natural logarithms of the p-values, NaN where T has no variance, (K,).
    programs
        Program of each tail.
    targets
        Value of T, less its mean, where each tail begins.
    start
        Where Newton's method begins.
    sign
        1 for P(T ≥ target), −1 for P(T ≤ target). The tails of one side come after those of the other, in the same order.
    n_sides
        Number of sides.
    """

    log_p: Float[np.ndarray, " programs"]
    programs: Int[np.ndarray, " tails"]
    targets: Float[np.ndarray, " tails"]
    start: Float[np.ndarray, " tails"]
    sign: Float[np.ndarray, " tails"]
    n_sides: int

    def with_saddles(self, saddle: Saddle, status: Int[np.ndarray, " tails"]) -> ScorePvalues:
        """The p-values, with those of the far tails from their saddlepoints and what became of each. On the other side of the mean: 1 − the other tail."""
        log_p, far = self.log_p.copy(), self.programs[: self.programs.size // self.n_sides]
        tail = np.where(status == BEYOND, -np.inf, lugannani_rice(saddle))
        with np.errstate(divide="ignore"):
            tail = np.where(self.targets * self.sign < 0, np.log1p(-np.exp(tail)), tail)
        tail = np.where(status == UNSOLVED, np.nan, tail)
        with np.errstate(invalid="ignore"):
            log_p[far] = np.minimum(np.logaddexp.reduce(tail.reshape(self.n_sides, -1), axis=0), 0.0)
        unsolved, by = np.zeros(log_p.shape, bool), np.zeros(log_p.shape, bool)
        unsolved[far], by[far] = np.isnan(log_p[far]), True
        return ScorePvalues(log_p, by & ~unsolved, unsolved)


def far_tails(
    t: Float[np.ndarray, " programs"],
    cumulants: Cumulants,
    *,
    largest: Float[np.ndarray, " programs"],
    side: Side = "both",
    accuracy: float = ACCURACY,
) -> FarTails:
    """p-values of T − E(T) = t by Edgeworth series, and the tails for which it is not accurate.

    Two-sided p is P(T ≥ |t|) + P(T ≤ −|t|), T less its mean; nothing is random.

    Parameters
    ----------
    t
        The observed T less its null mean.
    cumulants
        Of T, (K,) each.
    largest
        The largest absolute residual.
    side
        "both", "left" or "right".
    accuracy
        Relative error of p up to which the Edgeworth series is used.
    """
    if side not in SIDES:
        raise InputError(f"side is {side!r}; choose {', '.join(map(repr, SIDES))}.")
    ok = (cumulants.second > 0) & np.isfinite(t)
    safe = Cumulants(*(np.where(ok, c, 1.0 if j == 0 else 0.0) for j, c in enumerate(cumulants)))
    z = np.where(ok, t / safe.sd, 0.0)
    log_p, error = edgeworth_tails(z, safe.skewness, safe.kurtosis, reach=largest / safe.sd, side=side)
    far = np.flatnonzero(ok & (error > accuracy) & (z != 0))
    signs = np.array([1.0, -1.0] if side == "both" else [float(np.sign(SIDES[side]))])
    size = np.abs(t[far]) if side == "both" else t[far] * signs[0]
    programs, targets = np.tile(far, signs.size), np.concatenate([sign * size for sign in signs])
    start = _start(targets / safe.sd[programs], safe.skewness[programs], safe.kurtosis[programs]) / safe.sd[programs]
    sign = np.repeat(signs, far.size)
    return FarTails(log_p=np.where(ok, log_p, np.nan), programs=programs, targets=targets, start=start, sign=sign, n_sides=signs.size)


def _start(z: np.ndarray, skewness: np.ndarray, kurtosis: np.ndarray) -> np.ndarray:
    """Near the root of s + ρ₃s²/2 + ρ₄s³/6 = z, on the side of z."""
    s = z.copy()
    for _ in range(4):
        slope = np.maximum(1 + s * (skewness + s * kurtosis / 2), 0.5)
        s = s - (s * (1 + s * (skewness / 2 + s * kurtosis / 6)) - z) / slope
        s = np.clip(s, np.minimum(z / 4, z * 2), np.maximum(z / 4, z * 2))
    return s


def cauchy_combination(log_p: Float[np.ndarray, " statistics *tests"]) -> Float[np.ndarray, "*tests"]:
    """log p of several tests of one hypothesis, whatever their dependence: the Cauchy combination test.

    p = ½ − arctan(c)/π with c the mean of tan(π(½ − p_j)) = cot(πp_j) (Liu & Xie 2020, "Cauchy combination test: a powerful test with analytic p-value
    calculation under arbitrary dependency structures"). Where all p_j are small, 1/p is the mean of 1/p_j, which is taken in logarithms.

    Parameters
    ----------
    log_p
        Natural logarithms of the p-values.
    """
    with np.errstate(invalid="ignore"):  # undefined tests are NaN
        harmonic = np.log(len(log_p)) - np.logaddexp.reduce(-log_p, axis=0)
    p = np.clip(np.exp(np.maximum(log_p, -700.0)), 0.0, 1 - 2.0**-53)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        c = np.mean(1 / np.tan(np.pi * p), axis=0)
        direct = np.log(np.where(c > 0, np.arctan2(1.0, c) / np.pi, 1 - np.arctan2(1.0, -c) / np.pi))
    return np.where(c > 1e8, harmonic, direct)


def bernoulli_saddles(
    targets: Float[np.ndarray, " tails"],
    start: Float[np.ndarray, " tails"],
    sums: Callable[[Int[np.ndarray, " some"], Float[np.ndarray, " some"]], Float64[np.ndarray, "some 5"]],
    ends: Callable[[Int[np.ndarray, " some"], Float[np.ndarray, " some"]], Float64[np.ndarray, "some 2"]],
) -> tuple[Saddle, Int[np.ndarray, " tails"]]:
    """Saddlepoints where every cell is treated independently with its own probability: K(s) = Σ log(1 − p + p e^{sr}) − s Σ p r.

    All equations take their steps together, so that one pass over the cells serves them all.

    Parameters
    ----------
    targets
        Values of T, less its mean.
    start
        Where Newton's method begins.
    sums
        K and its first four derivatives of some of the equations, at values of s.
    ends
        Σ |r| over the cells that can be treated and have residuals of a sign, of some of the equations; and Σ p r.

    Returns
    -------
    tuple
        The saddlepoints, and what became of each: `SOLVED`, `UNSOLVED` or `BEYOND` the support.
    """
    n, s = targets.size, start.copy()
    low, high, variance = np.where(targets > 0, 0.0, -np.inf), np.where(targets > 0, np.inf, 0.0), np.zeros(n)
    found, status = np.full((n, 5), np.nan), np.full(n, _kernels.RUNNING)
    for _ in range(MAX_ITER):
        on = np.flatnonzero(status == _kernels.RUNNING)
        if on.size == 0:
            break
        found[on] = sums(on, s[on])
        _kernels.newton_steps(targets, start, found, s, low, high, variance, status)
    status[status == _kernels.RUNNING] = UNSOLVED
    left = np.flatnonzero(status == UNSOLVED)
    if left.size:
        side = np.sign(targets[left])
        most, mean = ends(left, side).T
        status[left[np.abs(targets[left]) > (most - side * mean) * (1 + 1e-9)]] = BEYOND
    with np.errstate(invalid="ignore", divide="ignore"):
        w = np.sign(s) * np.sqrt(np.maximum(2 * (s * targets - found[:, 0]), 0.0))
        return Saddle(w, s * np.sqrt(found[:, 2]), found[:, 3] / found[:, 2] ** 1.5, found[:, 4] / found[:, 2] ** 2), status


class PermutationNull:
    """T where in every stratum a fixed number of cells is treated, uniformly without replacement: the double saddlepoint.

    That is T of independent treatments, given the strata's totals. With K(s, λ) = Σ log(1 − f + f e^{sd + λ}) over cells, d = r − r̄ and f the share
    treated of their stratum, and (ŝ, λ̂) where its gradient is (t, m), ŵ² = 2(ŝt + λ̂'m − K(ŝ, λ̂)) and û² = ŝ²|K″(ŝ, λ̂)|/|K″_λλ(0, 0)|, as K(0, 0) = 0 and
    its λ-gradient there is m (Skovgaard 1987, "Saddlepoint expansions for conditional distributions"; Robinson 1982 and Booth & Butler 1990 for
    permutation tests; Butler 2007, "Saddlepoint approximations with applications", §4.1).

    Parameters
    ----------
    offsets
        Stratum j holds cells offsets[j] … offsets[j + 1] − 1, (strata + 1,).
    n_treated
        Treated cells of each stratum.
    residuals
        A function of program indices that gives their residuals in the order of the strata, float64 (programs, cells).
    """

    def __init__(self, offsets: np.ndarray, n_treated: np.ndarray, residuals: Callable[[np.ndarray], np.ndarray]):
        size = np.diff(offsets)
        free = (n_treated > 0) & (n_treated < size)
        self.cells = np.flatnonzero(np.repeat(free, size))
        self.offsets = np.concatenate([[0], np.cumsum(size[free])])
        self.n_treated, self.residuals = np.asarray(n_treated, np.float64)[free], residuals

    def saddles(
        self, programs: Int[np.ndarray, " tests"], targets: Float[np.ndarray, " tests"], start: Float[np.ndarray, " tests"]
    ) -> tuple[Saddle, Int[np.ndarray, " tests"]]:
        """The saddlepoints of some programs at some values of T (less its mean), and what became of each: `SOLVED`, `UNSOLVED` or `BEYOND` the support.

        The tilted ρ₃ and ρ₄ are not known, and zero.
        """
        squares, s, status = np.full((programs.size, 2), np.nan), np.empty(programs.size), np.empty(programs.size, np.int64)
        few = max(1, _HELD // max(1, self.cells.size))
        for first in range(0, programs.size, few):
            chunk = slice(first, min(first + few, programs.size))
            unique, which = np.unique(programs[chunk], return_inverse=True)
            columns = self._centred(self.residuals(unique)[:, self.cells])
            for j, column in zip(range(chunk.start, chunk.stop), which, strict=True):
                d = columns[column]
                s[j], status[j] = _kernels.stratified_saddle(d, self.offsets, self.n_treated, targets[j], start[j], MAX_ITER, squares[j])
                if status[j] == UNSOLVED and abs(targets[j]) > self._end(d, np.sign(targets[j])) * (1 + 1e-9):
                    status[j] = BEYOND
        with np.errstate(invalid="ignore"):
            w, u = np.sign(s) * np.sqrt(np.maximum(squares.T, 0.0))
        zero = np.zeros(programs.size)
        return Saddle(w, u, zero, zero), status

    def _centred(self, columns: np.ndarray) -> np.ndarray:
        size = np.diff(self.offsets)
        mean = np.add.reduceat(columns, self.offsets[:-1], axis=1) / size
        return columns - np.repeat(mean, size, axis=1)

    def _end(self, d: np.ndarray, sign: float) -> float:
        """The largest value that sign·T can have."""
        parts = (np.sort(sign * d[a:b])[::-1][: int(m)].sum() for a, b, m in zip(self.offsets, self.offsets[1:], self.n_treated, strict=False))
        return float(sum(parts))
