"""Saddlepoint p-values against exact distributions: enumeration to 20 cells, convolution on a lattice to p = 1e-60, resamples; K(s) against mpmath."""

import mpmath as mp
import numpy as np
import pytest

from crt.kernels import cumulants as kernels
from crt.tails.cumulants import permutation_cumulants, power_sums
from crt.tails.saddlepoint import Cumulants, PermutationNull, Saddle, bernoulli_saddles, cauchy_combination, far_tails, lugannani_rice
from data_prep.errors import InputError
from tests.crt.tails.exact import bernoulli_convolved, bernoulli_enumerated, permutation_enumerated, tail

KINDS = {"normal": lambda rng, n: rng.normal(size=n), "gamma": lambda rng, n: rng.gamma(2.0, size=n), "mixed": lambda rng, n: rng.exponential(size=n) ** 1.3}


def residuals(kind, n, seed):
    r = KINDS[kind](np.random.default_rng(seed), n)
    return (r - r.mean()) / r.std()


class BernoulliNull:
    """T of one program, cells treated independently."""

    def __init__(self, p, r):
        self.p, self.r = p[None], r[None]

    def saddles(self, programs, targets, start):
        def sums(which, s):
            total, zero = np.zeros((s.size, 5)), np.zeros(s.size, np.int64)
            kernels.bernoulli_tilts(self.p, self.r, zero, zero, s, total)
            return total

        def ends(which, sign):
            return np.stack([[np.maximum(one * self.r, 0)[self.p > 0].sum(), (self.p * self.r).sum()] for one in sign])

        return bernoulli_saddles(targets, start, sums, ends)


def bernoulli(p, r):
    """Cumulants and null of T for one program."""
    _, cumulants = power_sums(r[:, None], p[None], 1).cumulants()
    return Cumulants(*(c[0] for c in cumulants)), BernoulliNull(p, r)


def score_pvalues(t, cumulants, null, **options):
    tails = far_tails(t, cumulants, **options)
    return tails.with_saddles(*null.saddles(tails.programs, tails.targets, tails.start))


def permutation(r, sizes, n_treated):
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    sums = np.array([[[np.sum(r[a:b] ** j)] for j in (1, 2, 3, 4)] for a, b in zip(offsets, offsets[1:], strict=False)])
    _, cumulants = permutation_cumulants(sums, np.array(sizes), np.array(n_treated))
    return cumulants, PermutationNull(offsets, np.array(n_treated), lambda programs: r[None][programs])


def p_of(t, cumulants, null, r, **options):
    found = score_pvalues(np.array([t]), cumulants, null, largest=np.array([np.abs(r).max()]), **options)
    assert not found.unsolved[0]
    return float(np.exp(found.log_p[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["both", "left", "right"])
def test_enumeration_of_independent_cells(kind, side):
    """2^20 treatments of 20 cells, 6–10 of them treated: within 6 % of the exact p from 0.5 to 0.001."""
    rng = np.random.default_rng(2)
    p, r = rng.uniform(0.3, 0.5, 20), residuals(kind, 20, 3)
    values, weights = bernoulli_enumerated(p, r)
    cumulants, null = bernoulli(p, r)
    order = np.argsort(values)
    upper = np.cumsum(weights[order][::-1])[::-1]
    for level in (0.3, 0.1, 0.03, 0.01, 0.001):
        for sign in (1, -1) if side == "both" else ((1,) if side == "right" else (-1,)):
            t = values[order][np.searchsorted(-upper, -level)] if sign > 0 else values[order][np.searchsorted(np.cumsum(weights[order]), level)]
            assert p_of(t, cumulants, null, r, side=side) == pytest.approx(tail(values, weights, t, side), rel=0.06)


@pytest.mark.parametrize(("sizes", "n_treated"), [((20,), (8,)), ((12, 8), (4, 3)), ((8, 8, 8), (2, 2, 2)), ((40, 30), (2, 1)), ((18, 4, 5), (7, 0, 5))])
def test_enumeration_of_permutations(sizes, n_treated):
    """All subsets, 21,952 to 125,970: within 12 % of the exact p from 0.5 to 0.01, strata without choice included."""
    errors = []
    for seed, kind in enumerate(("normal", "gamma")):
        r = residuals(kind, sum(sizes), seed) + 2
        values, weights = permutation_enumerated(r, sizes, n_treated)
        cumulants, null = permutation(r, sizes, n_treated)
        extreme = np.sort(np.abs(values))[::-1]
        for level in (0.5, 0.1, 0.03, 0.01):
            t = extreme[int(level * values.size)]
            errors.append(p_of(t, cumulants, null, r) / (tail(values, weights, t) - 0.5 / values.size) - 1)
    assert np.abs(errors).max() < 0.12 and np.abs(np.mean(errors)) < 0.04


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_treated", [12, 50])
def test_convolution(kind, n_treated):
    """400 cells with residuals on a fine lattice, whose distribution is known to the last digit: the error stays below 2 % (12 treated) or 1.2 % from p = 0.8
    to 1e-60, where two sides count and where one does."""
    rng = np.random.default_rng(n_treated)
    p = rng.uniform(0.3, 1.7, 400) * n_treated / 400
    k = np.rint(residuals(kind, 400, 5) * 60).astype(int)
    values, weights = bernoulli_convolved(p, k)
    r = k.astype(float)
    cumulants, null = bernoulli(p, r)
    limit = 0.02 if n_treated == 12 else 0.012
    seen = []
    for z in (0.3, 1, 1.96, 3, 4, 6, 9, 14):
        for side, sign in (("both", 1), ("right", 1), ("left", -1)):
            i = np.searchsorted(values, sign * z * cumulants.sd[0])
            t = values[i] - 0.5  # between two atoms
            exact = weights[np.abs(values) > abs(t)].sum() if side == "both" else weights[values > t].sum() if sign > 0 else weights[values < t].sum()
            if exact < 1e-250:
                continue
            seen.append(exact)
            assert p_of(t, cumulants, null, r, side=side) == pytest.approx(exact, rel=limit)
    assert min(seen) < (1e-15 if n_treated == 12 else 1e-25)


def test_far_beyond_the_smallest_double():
    """log p of 3,000 cells at z = 45, where exp underflows: near the exponent of Chernoff's bound."""
    rng = np.random.default_rng(1)
    p, r = np.full(3000, 0.3), rng.normal(size=3000)
    cumulants, null = bernoulli(p, r)
    t = 45 * cumulants.sd
    found = score_pvalues(t, cumulants, null, largest=np.array([np.abs(r).max()]))
    saddle, _ = null.saddles(np.array([0]), t, t / cumulants.second)
    assert found.log_p[0] < -745 and found.by_saddlepoint[0]
    assert found.log_p[0] == pytest.approx(-(saddle.w[0] ** 2) / 2, rel=0.02)


@pytest.mark.parametrize("s", [0.0, 0.003, -0.4, 5.0, -60.0])
def test_the_cumulant_generating_function_against_mpmath(s):
    """K … K⁗ with probabilities from 1e-12 to 1 − 1e-9."""
    rng = np.random.default_rng(4)
    r = rng.normal(size=300) * 3
    p = np.concatenate([rng.uniform(0, 1, 290), [1e-12, 1e-6, 0.5, 1 - 1e-9, 0.999, 0.0, 1.0, 0.01, 0.01, 0.01]])
    sums = np.empty(5)
    kernels.bernoulli_tilt(p, r, s, sums)
    with mp.workdps(40):
        want = [mp.mpf(0)] * 5
        for pi, ri in zip(map(mp.mpf, p), map(mp.mpf, r), strict=True):
            d = 1 - pi + pi * mp.exp(s * ri)
            q = pi * mp.exp(s * ri) / d
            v = q * (1 - q)
            terms = (mp.log(d) - s * pi * ri, (q - pi) * ri, v * ri**2, v * (1 - 2 * q) * ri**3, v * (1 - 6 * v) * ri**4)
            want = [a + b for a, b in zip(want, terms, strict=True)]
    scale = np.array([max(1.0, abs(s)) * np.abs(r).sum(), np.abs(r).sum(), (r**2).sum(), np.abs(r**3).sum(), (r**4).sum()])
    assert (np.abs(sums - np.array(want, float)) < 1e-12 * scale).all()


def test_permutation_cumulants_are_those_of_all_subsets():
    for size, m in ((2, 1), (3, 1), (3, 2), (4, 2), (5, 2), (9, 3), (9, 8), (1, 1), (4, 4), (6, 0)):
        r = residuals("gamma", 12, size)[:size] + 3
        values, _ = permutation_enumerated(r, (size,), (m,))
        cumulants, _ = permutation(r, (size,), (m,))
        second = (values**2).mean()
        want = (second, (values**3).mean(), (values**4).mean() - 3 * second**2)
        np.testing.assert_allclose([c[0] for c in cumulants], want, atol=1e-9 * max(1.0, second**2))


def test_cumulants_are_derivatives_at_zero():
    """The products in float64 against one pass of the kernel at s = 0, over a number of cells that is no multiple of four."""
    rng = np.random.default_rng(3)
    p, r = rng.uniform(0, 0.3, 1501), rng.normal(size=1501)
    mean, cumulants = power_sums(r[:, None], p[None], 1).cumulants()
    sums = np.empty(5)
    kernels.bernoulli_tilt(p, r, 0.0, sums)
    np.testing.assert_allclose([c[0, 0] for c in cumulants], sums[2:], rtol=1e-12)
    assert mean[0, 0] == pytest.approx(p @ r, rel=1e-12)


def test_the_same_lines_on_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    p, r = rng.uniform(0, 0.3, (2, 1500)), rng.normal(size=(1500, 3))
    ours, theirs = power_sums(r, p, 3).cumulants(), power_sums(torch.from_numpy(r), torch.from_numpy(p), 3).cumulants()
    np.testing.assert_allclose(theirs[0], ours[0], rtol=1e-12)
    np.testing.assert_allclose(np.stack(theirs[1]), np.stack(ours[1]), rtol=1e-10)


@pytest.mark.parametrize("design", ["bernoulli", "permutation"])
def test_resamples(design):
    """200,000 draws of 300 cells, 20 treated: p of 0.05, 0.01 and 0.001 within 4.5 binomial SE."""
    check_resamples(design, 200_000, (0.05, 0.01, 0.001))


@pytest.mark.slow
@pytest.mark.parametrize("design", ["bernoulli", "permutation"])
def test_ten_million_resamples(design):
    """p down to 1e-5, within 4.5 binomial SE and 2 %."""
    check_resamples(design, 10_000_000, (0.05, 0.01, 1e-3, 1e-4, 1e-5))


def check_resamples(design, n_draws, levels):
    rng = np.random.default_rng(7)
    r = residuals("gamma", 300, 1)
    drawn = np.empty(n_draws)
    sizes, n_treated = (120, 100, 80), (12, 2, 6)
    p = rng.uniform(0.2, 1.8, 300) * 20 / 300
    for first in range(0, n_draws, 20_000):
        if design == "bernoulli":
            x = rng.random((20_000, 300)) < p
            drawn[first : first + 20_000] = x @ r - p @ r
        else:
            total, at = np.zeros(20_000), 0
            for size, m in zip(sizes, n_treated, strict=True):
                own = r[at : at + size]
                chosen = np.argpartition(rng.random((20_000, size)), m, axis=1)[:, :m]
                total += own[chosen].sum(1) - m * own.mean()
                at += size
            drawn[first : first + 20_000] = total
    cumulants, null = bernoulli(p, r) if design == "bernoulli" else permutation(r, sizes, n_treated)
    size = np.sort(np.abs(drawn))[::-1]
    for level in levels:
        t = float(size[int(level * n_draws)])
        assert abs(p_of(t, cumulants, null, r) / level - 1) < 4.5 * np.sqrt((1 - level) / (level * n_draws)) + 0.02


def test_shifts_and_scales_do_not_matter():
    """r → a r + b: with strata any b, with independent cells b = 0; and T's sign only swaps the sides."""
    rng = np.random.default_rng(5)
    r, p = residuals("gamma", 200, 2), rng.uniform(0.01, 0.2, 200)
    for z in (0.7, 2.5, 6):
        cumulants, null = bernoulli(p, r)
        t = float(z * cumulants.sd[0])
        base = p_of(t, cumulants, null, r, side="right")
        assert p_of(t * 1e6, *bernoulli(p, r * 1e6), r * 1e6, side="right") == pytest.approx(base, rel=1e-6)
        assert p_of(-t, *bernoulli(p, -r), r, side="left") == pytest.approx(base, rel=1e-9)
        cumulants, null = permutation(r, (120, 80), (15, 4))
        t = float(z * cumulants.sd[0])
        assert p_of(t, *permutation(r + 100, (120, 80), (15, 4)), r + 100, accuracy=-1) == pytest.approx(p_of(t, cumulants, null, r, accuracy=-1), rel=1e-6)


def test_right_and_left_add_up():
    r, p = residuals("mixed", 300, 2), np.full(300, 0.1)
    cumulants, null = bernoulli(p, r)
    for z in (-3, -1, 0.4, 2):
        t = float(z * cumulants.sd[0])
        assert p_of(t, cumulants, null, r, side="right") + p_of(t, cumulants, null, r, side="left") == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("kind", ["normal", "gamma"])
@pytest.mark.parametrize("side", ["both", "left", "right"])
def test_series_and_saddlepoint_meet(kind, side):
    """Where the series is thought accurate, it and the saddlepoint agree to 0.5 %."""
    r, p = residuals(kind, 5000, 6), np.random.default_rng(6).uniform(0, 0.1, 5000)
    cumulants, null = bernoulli(p, r)
    n_series = 0
    for z in np.linspace(0.3, 4, 12) * (-1 if side == "left" else 1):
        t = float(z * cumulants.sd[0])
        found = score_pvalues(np.array([t]), cumulants, null, largest=np.array([np.abs(r).max()]), side=side)
        n_series += not found.by_saddlepoint[0]
        assert p_of(t, cumulants, null, r, accuracy=-1, side=side) == pytest.approx(float(np.exp(found.log_p[0])), rel=0.005)
    assert n_series >= (8 if kind == "normal" else 4)


@pytest.mark.parametrize("z", [-8.0, -1.0, 0.2, 3.0, 20.0])
def test_the_saddlepoint_solves_its_equation(z):
    """K′(ŝ) = t to 1e-6 SD, and the derivatives given are those at ŝ: the last part of the way is Taylor's series."""
    rng = np.random.default_rng(2)
    r, p = residuals("gamma", 3000, 2), rng.uniform(0, 0.05, 3000)
    cumulants, _ = bernoulli(p, r)
    sums, there = np.empty(5), np.empty(5)
    t = float(z * cumulants.sd[0])
    if z < -5:
        t = -0.97 * float(np.maximum(-r, 0).sum() + p @ r)  # near the lower end of the support
    s, start, target = (np.array([value]) for value in (t / float(cumulants.second[0]), t / float(cumulants.second[0]), t))
    low, high = np.where(target > 0, 0.0, -np.inf), np.where(target > 0, np.inf, 0.0)
    variance, status = np.zeros(1), np.full(1, kernels.RUNNING)
    for _ in range(60):
        kernels.bernoulli_tilt(p, r, s[0], sums)
        kernels.newton_steps(target, start, sums[None], s, low, high, variance, status)
        if status[0] != kernels.RUNNING:
            break
    kernels.bernoulli_tilt(p, r, s[0], there)
    assert status[0] == kernels.SOLVED and abs(there[1] - t) < 1e-6 * np.sqrt(there[2])
    np.testing.assert_allclose(sums[:3], there[:3], rtol=1e-6)
    np.testing.assert_allclose(sums[3:], there[3:], rtol=0.05)


@pytest.mark.parametrize("design", ["bernoulli", "permutation"])
def test_the_edge_of_the_support(design):
    """At the edge no tilt gives t: unsolved, NaN. Beyond it a tail is empty: the other one counts."""
    r = np.abs(residuals("gamma", 30, 2)) + 0.5
    p = np.full(30, 0.2)
    cumulants, null = bernoulli(p, r) if design == "bernoulli" else permutation(r, (30,), (6,))
    top = float(r.sum() - p @ r) if design == "bernoulli" else float(np.sort(r)[-6:].sum() - 6 * r.mean())
    found = score_pvalues(np.array([top]), cumulants, null, largest=np.array([r.max()]))
    assert found.unsolved[0] and np.isnan(found.log_p[0]) and not found.by_saddlepoint[0]
    bottom = float(p @ r) if design == "bernoulli" else float(6 * r.mean() - np.sort(r)[:6].sum())
    t = 0.5 * (min(top, bottom) + max(top, bottom))
    assert bottom < t < top
    both, right = (p_of(t, cumulants, null, r, side=side, accuracy=-1) for side in ("both", "right"))
    assert both == right > 0


def test_no_variance_is_no_test():
    cumulants = Cumulants(np.zeros(2), np.zeros(2), np.zeros(2))
    found = score_pvalues(np.array([0.0, 1.0]), cumulants, BernoulliNull(np.zeros(5), np.zeros(5)), largest=np.zeros(2))
    assert np.isnan(found.log_p).all() and not found.unsolved.any()
    with pytest.raises(InputError, match="side"):
        score_pvalues(np.zeros(2), cumulants, BernoulliNull(np.zeros(5), np.zeros(5)), largest=np.zeros(2), side="up")


def test_lugannani_rice_is_exact_for_the_normal():
    w = np.array([0.5, 3.0, -2.0, 40.0])
    with mp.workdps(30):
        want = [float(mp.log(mp.ncdf(-abs(x)))) for x in w]
    np.testing.assert_allclose(lugannani_rice(Saddle(w, w, np.zeros(4), np.zeros(4))), want, rtol=1e-12)


def test_cauchy_combination():
    p = np.array([[0.3, 1e-3, 1e-12, 1.0, 0.9], [0.4, 0.5, 1e-3, 1e-4, 0.95]])
    c = np.tan((0.5 - p) * np.pi).mean(0)
    np.testing.assert_allclose(np.exp(cauchy_combination(np.log(p)))[[0, 1, 2, 4]], (0.5 - np.arctan(c) / np.pi)[[0, 1, 2, 4]], rtol=1e-4)
    far = np.array([[-5000.0, -900.0], [-5000.0, -2.0]])
    np.testing.assert_allclose(cauchy_combination(far), [-5000.0, -900.0 + np.log(2)], rtol=1e-12)
    assert cauchy_combination(np.log(p))[3] <= 0
