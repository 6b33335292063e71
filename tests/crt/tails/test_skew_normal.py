"""The skew-normal calibration against the numbers that SCEPTRE's compiled code returned, and against quadrature where those are round-off."""

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
from scipy.stats import skewnorm

from crt.pvalues import empirical_pvalues
from crt.tails.skew_normal import CLAMPED, fit_skew_normal, log_upper_tail, skew_normal_pvalues
from tests import ORACLES

VECTORS = pd.read_csv(ORACLES / "sceptre_oracle_null_vectors.csv.gz")
FITS = pd.read_csv(ORACLES / "sceptre_oracle_fits.csv").set_index("vector")
PVALUES = pd.read_csv(ORACLES / "sceptre_oracle_pvalues.csv")
SIDES = {-1: "left", 0: "both", 1: "right"}
# Where we differ on purpose. "clamp": skewness below −0.995, where SCEPTRE clamps on one side only and its fit is not finite.
CLAMPED_BY_US = {"gamma3neg_B1000", "gamma3neg_B5000", "exp_neg_B5000"}


def null_of(name):
    return VECTORS[name].dropna().to_numpy()


@pytest.mark.parametrize("name", list(VECTORS))
def test_fit(name):
    fit, theirs = fit_skew_normal(null_of(name)[:, None]), FITS.loc[name]
    assert fit.mean[0] == pytest.approx(theirs["mean"], rel=1e-8, abs=1e-14) and fit.sd[0] == pytest.approx(theirs["sd"], rel=1e-8)
    assert fit.median[0] == theirs["median"]
    if name in CLAMPED_BY_US:
        assert np.isnan(theirs["alpha"]) and fit.skewness[0] < -0.995
        mirrored = fit_skew_normal(-null_of(name)[:, None])
        assert fit.alpha[0] == pytest.approx(-mirrored.alpha[0]) and fit.omega[0] == pytest.approx(mirrored.omega[0])
        assert skewnorm.stats(fit.alpha[0], moments="s") == pytest.approx(-CLAMPED, rel=1e-6)
        return
    if not theirs["finite"]:
        assert not np.isfinite(fit.alpha[0])
        return
    for ours, column in ((fit.xi, "xi"), (fit.omega, "omega"), (fit.alpha, "alpha"), (fit.skewness, "raw_gamma1")):
        assert ours[0] == pytest.approx(theirs[column], rel=1e-8)
    assert [fit.outlier_ok[0], fit.right_ok[0], fit.left_ok[0]] == [bool(theirs[c]) for c in ("outlier_ok", "right_tail_ok", "left_tail_ok")]


@pytest.mark.parametrize("name", list(VECTORS))
@pytest.mark.parametrize("side", [-1, 0, 1])
def test_pvalues(name, side):
    rows = PVALUES[(PVALUES["vector"] == name) & (PVALUES["side"] == side)]
    z, null = rows["z_orig"].to_numpy(), null_of(name)[:, None]
    ours = skew_normal_pvalues(z, np.repeat(null, z.size, axis=1), side=SIDES[side])
    raw = empirical_pvalues(z, np.repeat(null, z.size, axis=1), side=SIDES[side])
    assert (ours.p <= 1).all() and (ours.p > 0).all()
    np.testing.assert_array_equal(ours.p[ours.fallback], raw[ours.fallback])
    if side:
        np.testing.assert_allclose(raw, rows["p_empirical"], rtol=1e-12)
    if name in CLAMPED_BY_US:
        assert not rows["accepted"].any()
        return
    np.testing.assert_array_equal(~ours.fallback, rows["accepted"])
    theirs = np.minimum(rows["p_sn"].to_numpy(), 1)  # their two-sided p can pass 1
    sound = rows["accepted"].to_numpy() & (theirs > 1e-14)
    np.testing.assert_allclose(ours.p[sound & (theirs > 1e-10)], theirs[sound & (theirs > 1e-10)], rtol=1e-6)
    np.testing.assert_allclose(ours.p[sound], theirs[sound], rtol=1e-3)


def test_quirks_are_in_the_tables():
    """The differences we make on purpose are there to be seen: p over 1, fits lost below −0.995."""
    assert (PVALUES["p_sn"] > 1).any()
    assert set(FITS.index[(FITS["finite"] == 0) & (FITS["sd"] > 0)]) == CLAMPED_BY_US


def tail_by_quadrature(z, a):
    """log P(Z > z) to about 1e-12: Φ(−z) + 2 T(z, a) with Owen's T; for a < 0 < z, where these would cancel, the integral of T beyond |a|."""
    with mp.workdps(25):
        z, a = mp.mpf(z), mp.mpf(a)

        def integrand(x):
            return mp.exp(-z * z * (1 + x * x) / 2) / (1 + x * x) / mp.pi

        if a < 0 < z:
            step = 1 / (z * z * -a + z)
            return float(mp.log(mp.quad(integrand, [-a + step * k for k in (0, 0.5, 1, 2, 4, 7, 11, 16, 24, 36, 50)] + [mp.inf])))
        edges = [0, *(k / abs(z) for k in (0.5, 1, 2, 3, 4, 6, 8, 10, 13) if z and k / abs(z) < abs(a)), abs(a)]
        return float(mp.log(mp.ncdf(-z) + mp.sign(a) * mp.quad(integrand, edges)))


@pytest.mark.parametrize("alpha", [-6.14, -3.0, -1.0, -0.3, -0.01, 0.0, 0.01, 0.3, 1.0, 3.0, 6.14])
def test_tails_by_quadrature(alpha):
    """To 1e-9 relative, from the middle to p = 1e-250 and beyond."""
    z = np.array([-0.4, 0.0, 0.5, 1.0, 2.0, 3.5, 5.0, 8.0, 12.0, 20.0, 33.5, 60.0])
    ours = log_upper_tail(z, np.full(z.size, alpha))
    np.testing.assert_allclose(ours, [tail_by_quadrature(x, alpha) for x in z], rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", ["sn_pos4_B5000", "gamma8_B5000", "norm_B5000", "sn_pos4_B1000"])
def test_far_pvalues_of_the_tables_by_quadrature(name):
    """Where SCEPTRE's own tail is round-off ours is still right."""
    fit = FITS.loc[name]
    rows = PVALUES[(PVALUES["vector"] == name) & (PVALUES["side"] == 0) & (PVALUES["p_sn"] < 1e-10)]
    z = rows["z_orig"].to_numpy()
    assert z.size
    ours = skew_normal_pvalues(z, np.repeat(null_of(name)[:, None], z.size, axis=1))
    for x, log10_p in zip(z, ours.log10_p, strict=True):
        t, a = (x - fit["xi"]) / fit["omega"], fit["alpha"]
        truth = tail_by_quadrature(t, a) if x >= fit["median"] else tail_by_quadrature(-t, -a)
        assert log10_p == pytest.approx((truth + np.log(2)) / np.log(10), rel=1e-9)


def test_standardising_first_makes_the_outlier_check_indifferent_to_the_mean():
    """SCEPTRE's ratios are max/(mean + sd·√(2 log B)): moving the null away from zero hides an outlier. Ours do not move."""
    null = np.append(np.random.default_rng(0).normal(size=999), 9.0)[:, None]
    for shift in (0.0, 100.0, -100.0):
        assert not fit_skew_normal(null + shift).outlier_ok[0]
    reach = np.sqrt(2 * np.log(1000)) * (null + 100).std()
    assert (null.max() + 100) / (100 + null.mean() + reach) < 1.5  # theirs would pass it


def test_an_undefined_resample_does_not_turn_the_fit_off():
    null = np.random.default_rng(0).normal(size=(500, 2))
    whole = skew_normal_pvalues(np.array([3.0, -2.0]), null)
    holed = skew_normal_pvalues(np.array([3.0, -2.0]), np.vstack([null, np.full((4, 2), np.nan)]))
    np.testing.assert_array_equal(whole.p, holed.p)
    assert not holed.fallback.any()


@pytest.mark.parametrize("B", [1, 2, 5, 50, 99])
def test_few_resamples(B):
    null = np.random.default_rng(B).normal(size=(B, 3))
    p = skew_normal_pvalues(np.array([0.0, 1.0, -4.0]), null).p
    assert ((p > 0) & (p <= 1)).all()


def test_a_constant_null_falls_back():
    out = skew_normal_pvalues(np.array([1.0]), np.full((100, 1), 0.5))
    assert out.fallback[0] and out.p[0] == 1 / 101
