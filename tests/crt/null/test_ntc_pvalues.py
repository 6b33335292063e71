"""p-values relative to NTC groups."""

import numpy as np
import pytest
from scipy.stats import norm

from crt import UnitSettings, diagnose_null, make_sceptre_style_synth, ntc_pvalues, prepare_crt_inputs, run_all_genes_union_crt
from crt.null.ntc_pvalues import fit_ntc_null
from crt.pvalues import signed_z
from data_prep.errors import InputError

GROUPS, PROGRAMS = 25, 20


def drawn(rng, n, location, scale):
    return location + scale * rng.normal(size=(n, PROGRAMS))


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_calibrated_under_any_location_and_scale(spread):
    """Over 200 screens, p ≤ 0.05 and p ≤ 0.01 in 0.9 to 1.1 times the nominal number of tests; the standard errors of both ratios are below 0.03."""
    rng, rates = np.random.default_rng(0), []
    for _ in range(200):
        location, scale = rng.normal(0, 2 * spread, PROGRAMS), 1.4 * np.exp(rng.normal(0, spread, PROGRAMS))
        null = fit_ntc_null(drawn(rng, GROUPS, location, scale), n_groups=GROUPS, n_tests=GROUPS * PROGRAMS)
        p = np.exp(null.log_p(drawn(rng, 100, location, scale), side="both"))
        rates.append([(p <= 0.05).mean() / 0.05, (p <= 0.01).mean() / 0.01])
    assert (np.std(rates, axis=0) / np.sqrt(200) < 0.03).all() and (np.abs(np.mean(rates, axis=0) - 1) < 0.1).all(), np.mean(rates, axis=0)


def test_intervals_cover_the_p_value_of_the_true_null():
    rng, covered = np.random.default_rng(1), []
    for _ in range(200):
        location, scale = rng.normal(0, 0.4, PROGRAMS), 1.4 * np.exp(rng.normal(0, 0.2, PROGRAMS))
        null = fit_ntc_null(drawn(rng, GROUPS, location, scale), n_groups=GROUPS, n_tests=GROUPS * PROGRAMS)
        z = location + 3 * scale
        low, high = (null.log_p(z[None], side="right", deviation=d) for d in (-1.96, 1.96))
        true = np.log(0.0013498980316301)
        covered.append(((low <= true) & (true <= high)).mean())
    assert 0.9 < np.mean(covered) < 1.0


def test_one_sided_p_values_are_halves():
    rng = np.random.default_rng(2)
    null = fit_ntc_null(rng.normal(size=(GROUPS, PROGRAMS)), n_groups=GROUPS, n_tests=500)
    z = np.full((1, PROGRAMS), 2.5)
    right, left, both = (np.exp(null.log_p(z, side=side)) for side in ("right", "left", "both"))
    np.testing.assert_allclose(right + left, 1)
    np.testing.assert_allclose(both, 2 * np.minimum(left, right))


def test_signed_z_inverts_tiny_p_values():
    z = np.array([-40.0, -1.0, 0.5, 5.0])
    log10_p = (np.log(2) + norm.logsf(np.abs(z))) / np.log(10)
    np.testing.assert_allclose(signed_z(log10_p, z), z, rtol=1e-9)
    np.testing.assert_allclose(signed_z(norm.logcdf(z) / np.log(10), -z, side="left"), z, rtol=1e-9)
    np.testing.assert_allclose(signed_z(norm.logcdf(z) / np.log(10), z, side="right"), -z, rtol=1e-9)
    assert 8 < signed_z(np.zeros(1), np.ones(1), side="left")[0] < 9


def test_of_a_run():
    """Noise that NTC groups share widens their null: p_ntc is near p on a clean screen, and needs 20 groups."""
    inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1500, K=4, n_target_genes=12, guides_per_gene=2, ntc_frac_guides=0.5, seed=1))
    settings = UnitSettings(method="saddlepoint")
    result = run_all_genes_union_crt(inputs, method="saddlepoint")
    table = ntc_pvalues(result, diagnose_null(inputs, settings, group_size=1, n_ensemble=1))
    assert len(table) == len(result.table) and np.corrcoef(np.log(table["p_ntc"]), np.log(result.table["p"]))[0, 1] > 0.9
    assert (table["p_ntc_low"] <= table["p_ntc_high"]).all() and (table["p_ntc"] <= table["q_ntc"]).all() and (table["q_ntc_low"] <= table["q_ntc_high"]).all()
    few = diagnose_null(inputs, settings, group_size=2, n_ensemble=1)
    with pytest.raises(InputError, match="^12 independent NTC groups of 2 guides are too few .*; 20 are needed"):
        ntc_pvalues(result, few)


def test_undefined_tests_stay_undefined():
    inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1500, K=4, n_target_genes=12, guides_per_gene=2, ntc_frac_guides=0.5, seed=1))
    found = diagnose_null(inputs, UnitSettings(method="saddlepoint"), group_size=1, n_ensemble=1)
    result = run_all_genes_union_crt(inputs, method="saddlepoint", min_treated=int(np.median([inputs.treated(c).size for c in inputs.gene_to_cols.values()])))
    assert 0 < result.table["p"].isna().sum() < len(result.table)
    np.testing.assert_array_equal(ntc_pvalues(result, found)["q_ntc"].isna(), result.table["p"].isna())
