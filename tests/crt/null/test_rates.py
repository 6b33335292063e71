"""Rates, SD of z and their tests: against scipy, and by simulation with a stated false-alarm rate."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, binomtest, norm

from crt.null.dependence import Dependence
from crt.null.rates import curve_figures, detectable_rate, expected_rate, independent_tests, rate_at, rate_interval, sd_of_z


def figures(z, two_sided=True, **options):
    """The figures of independent tests with these z scores, (units, programs)."""
    p = pd.DataFrame(2 * norm.sf(np.abs(z)) if two_sided else norm.sf(z))
    apart = Dependence(units=np.eye(len(z)), programs=np.eye(z.shape[1]))
    return curve_figures(p, apart, None, two_sided=two_sided, **{"z": 3.0, "sd_ratio": 1.05} | options)


def test_an_interval_of_a_whole_number_of_tests_is_exact():
    for hits in (0, 1, 7, 40):
        want = binomtest(hits, 40).proportion_ci(method="exact")
        assert rate_interval(hits / 40, 40) == pytest.approx((want.low, want.high), abs=1e-12)
    low, high = rate_interval(0.1, 36.5)
    assert rate_interval(0.1, 36)[0] < low < 0.1 < high < rate_interval(0.1, 36)[1]


def test_the_smallest_rate_that_is_significant():
    rate = detectable_rate(0.05, 300.0, 3.0)
    assert beta.cdf(0.05, 300 * rate, 300 - 300 * rate + 1) == pytest.approx(norm.sf(3.0)) and 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300) < rate < 0.1
    assert detectable_rate(0.05, 2.0, 3.0) == 1.0 and detectable_rate(0.05, 3.0, 3.0) < 1


def test_rates_of_a_grid_and_of_another_sd():
    assert expected_rate(0.05, 499) == 0.05 and expected_rate(0.001, 499) == 0.0 and expected_rate(0.01, 149) == 1 / 150 and expected_rate(0.001, None) == 0.001
    assert rate_at(0.05, 1.0, two_sided=True) == pytest.approx(0.05) and rate_at(0.05, 1 / 0.9, two_sided=True) == pytest.approx(0.0777, abs=1e-4)
    assert rate_at(0.05, 1.1, two_sided=False) == pytest.approx(norm.sf(1.6449 / 1.1), abs=1e-4)


@pytest.mark.parametrize("sd", [0.7, 1.0, 1.1, 2.0])
@pytest.mark.parametrize("two_sided", [True, False])
def test_the_sd_of_z(sd, two_sided):
    """Of 200,000 z scores; its standard error is below 0.4 %."""
    z = sd * np.random.default_rng(1).normal(size=200_000)
    p = 2 * norm.sf(np.abs(z)) if two_sided else norm.sf(z)
    assert sd_of_z(p, None, two_sided=two_sided) == pytest.approx(sd, rel=0.015)


def test_the_sd_of_p_values_without_variance():
    assert sd_of_z(np.full(10, 1e-9), None, two_sided=True) == sd_of_z(np.full(10, 1 / 500), 499, two_sided=True) == 100
    assert sd_of_z(np.ones(10), None, two_sided=True) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("n_resamples", [19, 99, 499])
def test_the_sd_of_empirical_p_values_is_that_of_their_grid(n_resamples):
    p = np.arange(1, n_resamples + 2) / (n_resamples + 1)
    assert sd_of_z(p, n_resamples, two_sided=True) == pytest.approx(1, abs=1e-9)


def test_a_few_outliers_do_not_determine_the_sd():
    z = np.random.default_rng(2).normal(size=(1000, 1))
    z[:3] = 30.0
    assert figures(z)["z_sd"] < 1.05 and figures(z)["rate_0.001"] >= 0.003


@pytest.mark.slow
@pytest.mark.parametrize("two_sided", [True, False])
def test_false_alarms(two_sided):
    """Eight tests at 0.00135 each, so at most 1.1 % of null distributions are off; 13 of 600 or more would be seen with probability 0.02 at that rate."""
    rng = np.random.default_rng(3)
    found = [figures(rng.normal(size=(40, 10)), two_sided) for _ in range(600)]
    assert sum(f["inflated"] or f["conservative"] for f in found) < 13


@pytest.mark.parametrize(("sd", "flag"), [(1 / 0.9, "inflated"), (1 / 1.1, "conservative")])
def test_ten_percent_of_the_sd_are_found_with_many_tests(sd, flag):
    """2,000 independent tests: the SD has a standard error of 1.6 %."""
    rng = np.random.default_rng(4)
    found = [figures(sd * rng.normal(size=(100, 20))) for _ in range(50)]
    other = {"inflated": "conservative", "conservative": "inflated"}[flag]
    assert sum(f[flag] for f in found) >= 48 and not any(f[other] for f in found)


def test_a_wrong_tail_is_found_where_the_sd_is_right():
    rng = np.random.default_rng(5)
    z = rng.normal(size=(500, 10))
    z[np.abs(z) > 3.0] *= 1.3
    found = figures(z)
    assert found["inflated"] and 1 / 1.05 < found["z_sd"] < 1.05 and figures(z, sd_ratio=1.5)["inflated"] == 0


def test_small_deviations_are_ignored_however_significant():
    z = 1.03 * np.random.default_rng(6).normal(size=(2000, 100))
    assert figures(z)["inflated"] == 0 and figures(z, sd_ratio=1.01)["inflated"] == 1


def test_clusters_of_small_p_values_are_few_tests():
    """Overlapping groups of four guides: counts at the lower levels are those of at most 1/mean(r²) tests."""
    overlapping = Dependence(units=np.full((4, 4), 2 / 3) + np.eye(4) / 3, programs=np.eye(6))
    n = independent_tests(overlapping, two_sided=True)
    assert n[0.05] > overlapping.squares() == pytest.approx(n[0.01]) == pytest.approx(n[0.001]) == pytest.approx(6 / (1 / 4 + 3 / 4 * 4 / 9))


def test_undefined_tests_do_not_count():
    z = np.random.default_rng(7).normal(size=(30, 4))
    z[:10], z[:, 1] = np.nan, np.nan
    assert figures(z)["independent_tests"] == pytest.approx(60) and figures(np.full((3, 2), np.nan)) == {}
