"""The test without resamples in runs: against resampling, in every design, and what it refuses."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

import crt.linear.score_test
import crt.tails.saddlepoint
from crt import (
    BernoulliIndex,
    StratifiedPermutation,
    UnitSettings,
    compute_ntc_group_null_pvals_parallel,
    crt_pvals_for_ntc_groups_ensemble,
    diagnose_null,
    make_ntc_groups_ensemble,
    make_sceptre_style_synth,
    prepare_crt_inputs,
    run_all_genes_union_crt,
    run_one_gene_union_crt,
    store_results_in_adata,
)
from crt.engine import all_units
from crt.linear.units import ScoreTest
from crt.null.units import UnitProbe
from crt.pvalues import empirical_pvalues
from crt.statistic import Compared, observe
from data_prep.errors import InputError
from tests.crt.problems import random_problem, tiny_inputs

SADDLEPOINT = {"method": "saddlepoint"}
STRATIFIED = {"resampling_method": "stratified_perm", "resampling_kwargs": {"n_bins": 5, "stratify_by_batch": False}}
MODES = {"fit": "fit", "constant": "oracle_const", "function": lambda treated, C: 1 / (1 + np.exp(3 - 0.5 * C[:, 1]))}


@pytest.fixture(scope="module")
def high_moi():
    """2,000 cells, 5 programs, 18 genes, the first of which shifts the first program; an NTC guide in a quarter of the cells."""
    C, Y, rng = random_problem(2000, 3, 5)
    sets = {f"g{t:02d}": np.flatnonzero(rng.random(2000) < 1 / (1 + np.exp(3 - 0.5 * C[:, 1]))) for t in range(18)}
    Y[sets["g00"], 0] += 0.6
    return tiny_inputs(C, Y, sets)


@pytest.fixture(scope="module")
def low_moi():
    """Each of 1,500 cells carries one guide, and 600 of them an NTC guide."""
    C, Y, rng = random_problem(1500, 3, 4, seed=2)
    which = np.repeat(np.arange(7), [600, *[150] * 6])
    sets = {name: np.flatnonzero(which == j) for j, name in enumerate(["ntc", *(f"g{t}" for t in range(6))])}
    Y[sets["g0"], 1] -= 0.5
    return tiny_inputs(C, Y, sets, control_group="ntc_cells")


@pytest.mark.parametrize("sampler", [{}, STRATIFIED], ids=["bernoulli", "stratified"])
@pytest.mark.parametrize("screen", ["high_moi", "low_moi"])
def test_p_and_errors_agree_with_resampling(screen, sampler, request):
    """One-sided: two-sided, resampling compares |β| and this method |β − its null mean|."""
    inputs = request.getfixturevalue(screen)
    drawn = run_all_genes_union_crt(inputs, B=4999, side="right", **sampler).table
    exact = run_all_genes_union_crt(inputs, side="right", **SADDLEPOINT, **sampler).table
    p = exact["p"].to_numpy()
    assert exact["p_raw"].isna().all() and exact["p_skew"].isna().all() and (exact["p_adj"] >= exact["p"]).all()
    assert (np.abs(drawn["p"] - p) < 4.5 * np.sqrt(p * (1 - p) / 5000) + 2 / 5000 + 0.01 * p).all()
    pd.testing.assert_series_equal(exact["beta"], drawn["beta"], check_exact=True)
    np.testing.assert_allclose(exact["se"], drawn["se"], rtol=0.05)
    np.testing.assert_allclose(exact["ci_low"], drawn["ci_low"], atol=0.1 * drawn["se"].max())
    np.testing.assert_allclose(exact["ci_high"] - exact["ci_low"], 2 * 1.959964 * exact["se"], rtol=1e-6)
    np.testing.assert_allclose(10.0 ** exact["log10_p"], p)


@pytest.mark.parametrize("sampler", [{}, STRATIFIED], ids=["bernoulli", "stratified"])
@pytest.mark.parametrize("screen", ["high_moi", "low_moi"])
@pytest.mark.parametrize("statistic", ["normal_scores", "cauchy"])
def test_scores_agree_with_resampling(screen, sampler, statistic, request):
    """Two-sided, too: of scores, T itself is resampled. Under "cauchy", two empirical p-values are combined, whose errors add up."""
    inputs = request.getfixturevalue(screen)
    drawn = run_all_genes_union_crt(inputs, B=4999, statistic=statistic, calibrate_skew_normal=True, return_raw_pvals=True, **sampler)
    exact = run_all_genes_union_crt(inputs, statistic=statistic, **SADDLEPOINT, **sampler).table
    p, raw, skew = exact["p"].to_numpy(), drawn.table["p_raw"].to_numpy(), drawn.table["p_skew"].to_numpy()
    error = (2 if statistic == "cauchy" else 1) * (4.5 * np.sqrt(p * (1 - p) / 5000) + 2 / 5000) + 0.01 * p
    assert (np.abs(raw - p) < error).all() and (np.abs(skew - p) < error + 0.02).all() and not np.array_equal(raw, skew)
    for name in ("beta", "se", "ci_low", "ci_high"):
        pd.testing.assert_series_equal(exact[name], drawn.table[name], check_exact=True)
    np.testing.assert_allclose(drawn.table["z"], exact["z"], atol=0.15 + 0.03 * exact["z"].abs().max())


@pytest.mark.parametrize("mode", MODES)
def test_every_propensity_model(high_moi, mode):
    drawn = run_all_genes_union_crt(high_moi, B=1999, statistic="normal_scores", propensity_mode=MODES[mode]).table
    p = run_all_genes_union_crt(high_moi, statistic="normal_scores", propensity_mode=MODES[mode], **SADDLEPOINT).table["p"].to_numpy()
    assert (np.abs(drawn["p"] - p) < 4.5 * np.sqrt(p * (1 - p) / 2000) + 2 / 2000 + 0.01 * p).all()


@pytest.mark.parametrize("statistic", ["mean", "normal_scores", "cauchy"])
@pytest.mark.parametrize("screen", ["high_moi", "low_moi"])
def test_one_gene_is_its_row_and_workers_do_not_matter(screen, statistic, request):
    inputs = request.getfixturevalue(screen)
    every = run_all_genes_union_crt(inputs, statistic=statistic, **SADDLEPOINT)
    shared = run_all_genes_union_crt(inputs, statistic=statistic, n_jobs=2, **SADDLEPOINT)
    pd.testing.assert_frame_equal(every.table, shared.table, check_exact=True)
    for gene in ("g00", "g03") if screen == "high_moi" else ("g0", "g3"):
        one = run_one_gene_union_crt(gene, inputs, statistic=statistic, **SADDLEPOINT)
        np.testing.assert_array_equal(one.p, every.pvals_df.loc[gene])
        np.testing.assert_array_equal(one.se, every.table.set_index("target").loc[gene, "se"])
    assert every.table["p"].idxmin() == (0 if screen == "high_moi" else 1) and every.settings["statistic"] == statistic


def test_an_effect_is_covered_and_p_has_no_floor(high_moi):
    C, Y, rng = random_problem(2000, 3, 5)
    treated = np.sort(rng.choice(2000, 300, replace=False))
    Y[treated, 2] += 4.0
    one = run_one_gene_union_crt("g", tiny_inputs(C, Y, {"g": treated}), **SADDLEPOINT)
    assert one.log10_p[2] < -100 and one.p[2] > 0 and abs(one.beta[2] - one.null_mean[2] - 4) < 1.96 * one.se[2]


@pytest.mark.parametrize("sampler", [{}, STRATIFIED], ids=["bernoulli", "stratified"])
@pytest.mark.parametrize("screen", ["high_moi", "low_moi"])
@pytest.mark.parametrize("statistic", ["mean", "cauchy"])
def test_an_unsolved_equation_falls_back_to_resampling(screen, sampler, statistic, request, monkeypatch):
    """Newton's method is not given a step: p of the tests that need the saddlepoint are by resampling of the same statistic, and counted."""
    inputs = request.getfixturevalue(screen)
    options = {"B": 1999, "statistic": statistic, **sampler, **SADDLEPOINT}
    solved = run_all_genes_union_crt(inputs, **options)
    assert not solved.treated_df["n_resampled"].any() and not solved.treated_df["n_resamples"].any()
    monkeypatch.setattr(crt.tails.saddlepoint, "MAX_ITER", 0)
    drawn = run_all_genes_union_crt(inputs, **options)
    unsolved = drawn.treated_df["n_resampled"]
    assert unsolved.any() and (drawn.treated_df["n_resamples"] >= 1999 * (unsolved > 0)).all()
    p, q = solved.pvals_df, drawn.pvals_df
    assert (np.abs(q - p) < 4.5 * np.sqrt(p * (1 - p) / 2000) + 2 / 2000).all(axis=None) and not q.equals(p)


@pytest.mark.parametrize("sampler", [BernoulliIndex(), StratifiedPermutation(n_bins=5, stratify_by_batch=False)], ids=["bernoulli", "stratified"])
def test_few_treated_cells_and_outliers(sampler, monkeypatch):
    """Against 100,000 resamples: where one cell can shift T by several SDs, p by saddlepoint is off by more than 15 % somewhere, and the p of a run is not."""
    rng = np.random.default_rng(3)
    C, Y = np.column_stack([np.ones(3000), rng.normal(size=3000)]), rng.standard_t(3, size=(3000, 12))
    inputs = tiny_inputs(C, Y, {"g": np.sort(rng.choice(3000, 10, replace=False))})
    settings = UnitSettings(method="saddlepoint", sampler=sampler)
    compared = Compared.of_screen(inputs)
    score = ScoreTest.of(inputs, settings, sampler.bind(inputs), compared=compared)
    (unit,) = score.scored(observe([inputs.treated(inputs.gene_to_cols["g"])], inputs, settings, compared))
    drawn = score.draws(unit, 100_000, 1)
    exact = empirical_pvalues(drawn.observed, drawn.null)
    found = score.without_resamples(["g"], [unit])[0]
    error = np.abs(10.0**found.log10_p - exact)
    assert found.resampled.sum() >= 6 and (error < 4.5 * np.sqrt(exact * (1 - exact) / 1024) + 0.01).all()
    monkeypatch.setattr(crt.linear.score_test, "REACH", np.inf)
    rough = score.without_resamples(["g"], [unit])[0]
    assert not rough.resampled.any() and (np.abs(10.0**rough.log10_p / exact - 1) > 0.15).any()


def test_undefined_units_have_a_reason():
    C, Y, rng = random_problem(300, 3, 2)
    sets = {"A": np.sort(rng.choice(300, 30, replace=False)), "all": np.arange(300), "none": np.arange(0)}
    result = run_all_genes_union_crt(tiny_inputs(C, Y, sets), **SADDLEPOINT)
    assert result.treated_df["reason"].to_dict() == {"A": "", "all": "all_treated", "none": "no_treated"}
    assert result.table.loc[result.table["reason"] != "", ["p", "se", "ci_low", "ci_high", "p_adj"]].isna().all(axis=None)


def test_a_run_resumes_and_is_stored(tmp_path):
    adata = make_sceptre_style_synth(N=800, K=4, n_target_genes=6, guides_per_gene=2, seed=1)
    inputs = prepare_crt_inputs(adata)
    whole = run_all_genes_union_crt(inputs, statistic="cauchy", out_dir=tmp_path, **SADDLEPOINT)
    again = run_all_genes_union_crt(inputs, statistic="cauchy", out_dir=tmp_path, **SADDLEPOINT)
    pd.testing.assert_frame_equal(again.table, whole.table, check_exact=True)
    pd.testing.assert_frame_equal(again.treated_df, whole.treated_df, check_exact=True)
    with pytest.raises(InputError, match="method: saddlepoint there, resample now"):
        run_all_genes_union_crt(inputs, out_dir=tmp_path, resume=True)
    store_results_in_adata(adata, whole)
    adata.write_h5ad(tmp_path / "stored.h5ad")
    stored = ad.read_h5ad(tmp_path / "stored.h5ad").uns["crt"]
    np.testing.assert_array_equal(stored["table"][["p", "se", "ci_low", "ci_high"]], whole.table[["p", "se", "ci_low", "ci_high"]])
    assert stored["settings"]["method"] == "saddlepoint"


def test_ntc_groups():
    inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=2, group_size=2, max_groups=3)
    drawn = crt_pvals_for_ntc_groups_ensemble(inputs, ensemble, group_size=2, B=1999)
    exact = crt_pvals_for_ntc_groups_ensemble(inputs, ensemble, group_size=2, **SADDLEPOINT)
    assert np.abs(drawn - exact).max(axis=None) < 0.06


@pytest.mark.parametrize(
    ("options", "message", "arguments"),
    [
        ({"method": "exact"}, "method is 'exact'", ("method",)),
        ({"statistic": "rank"}, "statistic is 'rank'", ("statistic",)),
        ({"adaptive": True, **SADDLEPOINT}, "further resamples", ("adaptive", "method")),
        ({"calibrate_skew_normal": True, **SADDLEPOINT}, "skew-normal", ("calibrate_skew_normal", "method")),
        ({"propensity_penalty": -1.0}, "penalty is -1", ("propensity_penalty",)),
    ],
)
def test_what_contradicts_is_refused(high_moi, options, message, arguments):
    with pytest.raises(InputError, match=message) as found:
        run_all_genes_union_crt(high_moi, **options)
    assert found.value.arguments == arguments


@pytest.mark.parametrize("statistic", ["mean", "cauchy"])
def test_diagnose_null_tests_by_the_method_of_the_run(statistic):
    inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, effect_size=0.0, seed=1))
    plan = {"group_size": 2, "n_ensemble": 3}
    drawn = diagnose_null(inputs, UnitSettings(n_resamples=1999, statistic=statistic), **plan)
    exact = diagnose_null(inputs, UnitSettings(method="saddlepoint", statistic=statistic), **plan)
    whole = run_all_genes_union_crt(inputs, statistic=statistic, **SADDLEPOINT)
    pd.testing.assert_frame_equal(exact.real_raw, whole.pvals_df, check_names=False)
    assert exact.verdict.label == drawn.verdict.label == "inconclusive" and exact.checks.empty and exact.ntc_skew.isna().all(axis=None)
    assert np.abs(exact.ntc_raw - drawn.ntc_raw).max(axis=None) < 0.08 and np.abs(exact.oracle_raw - drawn.oracle_raw).max(axis=None) < 0.08
    for name in ("z_null_mean", "z_null_sd"):
        np.testing.assert_allclose(exact.units[name], drawn.units[name], atol=0.1)
    assert exact.units["z_null_skewness"].isna().all() and exact.units["null_nan_frac"].eq(0).all()


def test_resamples_against_one_another_under_cauchy():
    inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    groups = make_ntc_groups_ensemble(inputs, n_ensemble=1, group_size=2, max_groups=3)[0]
    p = compute_ntc_group_null_pvals_parallel(inputs, groups, group_size=2, B=499, statistic="cauchy")
    assert p.shape == (3, 499, 4) and kstest(p[:, :, 0].ravel()[::7], "uniform").pvalue > 1e-3 and 0.03 < (p <= 0.05).mean() < 0.06


@pytest.mark.parametrize("statistic", ["normal_scores", "mean"])
def test_outcomes_of_two_values_are_reported(statistic):
    C, Y, rng = random_problem(600, 3, 3)
    Y[:, 1] = Y[:, 1] > 1
    inputs = tiny_inputs(C, Y, {"A": np.sort(rng.choice(600, 60, replace=False))})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        table = run_all_genes_union_crt(inputs, statistic=statistic, **SADDLEPOINT).table
    messages = [str(w.message) for w in found]
    assert table["p"].notna().all() and len(messages) == (statistic == "normal_scores")
    assert all(f"{inputs.program_names[1]} have fewer than three distinct values" in m for m in messages)


def test_a_test_without_variance_has_a_reason_of_its_own(high_moi):
    C, Y, rng = random_problem(600, 3, 3)
    Y[:, 1] = 4 - 2 * C[:, 2]
    table = run_all_genes_union_crt(tiny_inputs(C, Y, {"A": np.sort(rng.choice(600, 60, replace=False))}), **SADDLEPOINT).table
    assert table["reason"].tolist() == ["", "constant", ""] and table["p"].isna().tolist() == [False, True, False]


def test_misfit_counts_levels():
    """A propensity that ignores a batch on which treatment depends: the statistic of two levels is that of a 2 × 2 table; a fit reproduces them."""
    rng = np.random.default_rng(6)
    batch = (np.arange(2000) % 2).astype(float)
    C, Y = np.column_stack([np.ones(2000), batch, rng.normal(size=2000)]), rng.normal(size=(2000, 2))
    sets = {"A": np.flatnonzero(rng.random(2000) < 0.05 + 0.1 * batch), "ntc_1": np.flatnonzero(rng.random(2000) < 0.1)}
    inputs = tiny_inputs(C, Y, sets)
    misfit = {}
    for mode in ("fit", "oracle_const"):
        settings = UnitSettings(method="saddlepoint", propensity_mode=mode)
        (unit,) = all_units({"A": inputs.gene_to_cols["A"]}, inputs, settings, keep=UnitProbe.of(inputs, settings))
        misfit[mode] = unit.row["misfit"]
    n, x = sets["A"].size, int(batch[sets["A"]].sum())
    share = n / 2000
    assert misfit["oracle_const"] - misfit["fit"] > 0.9 * ((x - n / 2) ** 2 + (n - x - n / 2) ** 2) / (1000 * share * (1 - share)) - 20 > 0


def test_the_penalty_reaches_the_fit(high_moi):
    weak, strong = (run_one_gene_union_crt("g01", high_moi, propensity_penalty=penalty, **SADDLEPOINT) for penalty in (0.01, 1e5))
    assert strong.propensity_max - strong.propensity_min < 0.1 * (weak.propensity_max - weak.propensity_min)
