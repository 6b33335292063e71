"""Detectable effects and power curves, against simulated tests."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import norm

from crt import UnitSettings, detectable_effects, power_curve, prepare_crt_inputs, run_all_genes_union_crt
from crt.engine import all_units
from crt.hits.power import PlannedTest, ShiftResponse, discovery_threshold, grid
from crt.tails.saddlepoint import cauchy_combination
from data_prep.errors import InputError
from data_prep.simulate.usage import make_sceptre_style_synth

STATISTICS = ("mean", "normal_scores", "cauchy")


@pytest.fixture(scope="module")
def screen():
    """Usage with many near-zero entries."""
    return prepare_crt_inputs(make_sceptre_style_synth(N=2500, K=6, n_target_genes=20, guides_per_gene=2, moi_mean=4.0, frac_causal_genes=0.0, seed=5))


def test_the_detectable_effect_of_the_mean_has_a_closed_form(screen):
    result = run_all_genes_union_crt(screen, method="saddlepoint", statistic="mean")
    z = norm.isf(discovery_threshold(result) / 2) + norm.ppf(0.8)
    np.testing.assert_allclose(detectable_effects(screen, result), z * result.table["se"], rtol=1e-12)


@pytest.mark.parametrize("statistic", [pytest.param(name, marks=pytest.mark.slow if name == "mean" else ()) for name in STATISTICS])
def test_the_detectable_effect_is_found_with_its_power(screen, statistic):
    """200 tests with treated cells drawn again: their power has a standard error of 0.028, and deviates by 0.12 in one of 40,000 runs."""
    result = run_all_genes_union_crt(screen, method="saddlepoint", statistic=statistic)
    mde, rng, found = detectable_effects(screen, result).reshape(result.pvals_df.shape), np.random.default_rng(3), []
    threshold, settings = discovery_threshold(result), UnitSettings(method="saddlepoint", statistic=statistic)
    for test in range(200):
        gene, program = rng.integers(mde.shape[0]), rng.integers(mde.shape[1])
        treated = np.sort(rng.choice(2500, screen.treated(screen.gene_to_cols[screen.genes[gene]]).size, replace=False)).astype(np.int32)
        alone = replace(screen, guides=sp.csc_matrix((np.ones(treated.size), treated, [0, treated.size]), shape=(2500, 1)))
        shifted = alone.with_shift(treated, (-1) ** test * mde[gene, program], np.array([program]))
        found.append(all_units({"g": np.zeros(1, np.int64)}, shifted, settings, keep=lambda unit: unit.result.p)[0][0] <= threshold)
    assert abs(np.mean(found) - 0.8) < 0.12, np.mean(found)


@pytest.mark.parametrize("side", ["both", "left", "right"])
def test_power_of_the_combination_against_simulated_z_scores(side):
    """One million z scores, with a standard error of 0.0005."""
    rho, m, v, mean = 0.8, 2.2, 0.7, 2.6
    sign = -1.0 if side == "left" else 1.0
    response = ShiftResponse(sd=np.ones(2), correlation=np.full(2, rho), response=np.tile(np.stack([grid() * 0 + sign * m, grid() * 0 + v], -1), (2, 7, 1, 1)))
    test = PlannedTest(statistic="cauchy", threshold=0.01, side=side)
    one = np.ones(1)
    found = response.power(sign * mean * one, one, 0 * one, np.zeros(1, np.int64), test)[0]
    rng = np.random.default_rng(0)
    first = rng.normal(size=1_000_000)
    z = np.stack([sign * mean + first, sign * m + np.sqrt(v) * (rho * first + np.sqrt(1 - rho**2) * rng.normal(size=first.size))])
    log_p = np.log(2) + norm.logsf(np.abs(z)) if side == "both" else norm.logsf(sign * z)
    assert abs((cauchy_combination(log_p) <= np.log(0.01)).mean() - found) < 0.003


def test_more_cells_and_larger_effects_have_more_power(screen):
    for statistic in STATISTICS:
        power = power_curve(screen, n_treated=[20, 80, 320], effects=[0.0, 0.3, 1.0, 4.0], threshold=0.01, statistic=statistic)
        grid = power.groupby(["n_treated", "effect"])["power"].median().unstack()
        assert (np.diff(grid.to_numpy(), axis=1) > 0).all() and (np.diff(grid.to_numpy()[:, 1:3], axis=0) > 0).all()
        np.testing.assert_allclose(grid[0.0], 0.01, rtol=0.15)
        assert (grid[4.0] > 0.99).all()


def test_undefined_tests_and_coarse_resamples_have_none(screen):
    few = run_all_genes_union_crt(screen, method="saddlepoint", statistic="cauchy", min_treated=300)
    np.testing.assert_array_equal(np.isnan(detectable_effects(screen, few)), few.table["p"].isna())
    assert np.isnan(detectable_effects(screen, run_all_genes_union_crt(screen, B=19))).all()
    assert np.isfinite(detectable_effects(screen, run_all_genes_union_crt(screen, B=99, calibrate_skew_normal=True))).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_treated": [1]}, "n_treated and n_control must be at least 2; they are"),
        ({"threshold": 0.0}, "threshold is 0.0; it must be between 0 and 1"),
        ({"statistic": "median"}, "statistic is 'median'; choose"),
        ({"side": "up"}, "side is 'up'; choose"),
    ],
)
def test_wrong_settings_of_power_curves(screen, settings, message):
    with pytest.raises(InputError, match=message):
        power_curve(screen, **({"n_treated": [10], "effects": [1.0]} | settings))
