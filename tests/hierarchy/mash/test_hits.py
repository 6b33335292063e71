"""Ranked hits: patterns, agreement of guides, guides left out, and the rate of wrong calls on simulated screens."""

import dataclasses
import warnings

import numpy as np
import pytest
from scipy.stats import norm

from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from data_prep.errors import InputError, ScreenWarning
from hierarchy import FitSettings, call_hits, fit, hit_estimates, score_hits, summarise
from hierarchy.mash.hits import CALL_LFSR, HitEstimates, call_hits_jointly, contrast_covariance, errors_of
from hierarchy.mash.patterns import PATTERNS, classify, pattern_probabilities

SHAPES = {
    "constant": [1, 1, 1, 1],
    "early": [1, 1, 0, 0],
    "late": [0, 0, 0, 1],
    "transient": [0, 1, 0, 0],
    "sign change": [1, 0, 0, -1],
    "inactive": [0, 0, 0, 0],
}


def made(n_genes=120, n_guides=3, size=1.0, se=0.1, seed=0, shapes=SHAPES):
    """Estimates whose truth is one of the shapes by gene, each in 10 genes, with guides that agree; and the truth."""
    rng = np.random.default_rng(seed)
    theta = np.zeros((n_genes, 4))
    for i, shape in enumerate(shapes.values()):
        theta[10 * i : 10 * (i + 1)] = size * np.array(shape) * rng.choice([-1, 1], (10, 1))
    gene = np.repeat(np.arange(n_genes), n_guides)
    own = theta[gene] + rng.normal(0, se * n_guides**0.5, (gene.size, 4))
    total = own.reshape(n_genes, n_guides, 4)
    left = (total.sum(1, keepdims=True) - total) / max(n_guides - 1, 1) if n_guides > 1 else np.full(total.shape, np.nan)
    eye = np.eye(4)
    found = HitEstimates(
        contrast="MES:EC",
        days=("0h", "24h", "48h", "72h"),
        genes=np.array([f"G{i}" for i in range(n_genes)], dtype=object),
        betahat=total.mean(1),
        covariance=np.repeat(se**2 * eye[None], n_genes, 0),
        cells=np.full((n_genes, 4), 50),
        guides=np.array([f"G{g}_g{i}" for g in range(n_genes) for i in range(n_guides)], dtype=object),
        gene_of_guide=gene,
        guide_betahat=own,
        guide_covariance=np.repeat(n_guides * se**2 * eye[None], gene.size, 0),
        left_out=left.reshape(-1, 4),
        left_out_covariance=np.repeat((se**2 * n_guides / max(n_guides - 1, 1) if n_guides > 1 else np.nan) * eye[None], gene.size, 0),
    )
    return found, theta


@pytest.fixture(scope="module")
def hits():
    return call_hits(made()[0], seed=1)


@pytest.mark.parametrize(
    ("effects", "name"),
    [
        ([1, 1, 1], "constant"),
        ([-1, -0.4, -0.5], "constant"),
        ([1, 0.5, 0.1], "early"),
        ([0, 0.9, 1], "late"),
        ([0, 1, 0], "transient"),
        ([1, 0, 1], "transient"),
        ([1, 0, -0.5], "sign change"),
        ([1, 0, -0.2], "early"),
        ([0, 0, 0], "inactive"),
        ([0.04, -0.04, 0.04], "inactive"),
        ([0.06, 0, 0], "early"),
    ],
)
def test_patterns_of_known_effects(effects, name):
    assert PATTERNS[int(classify(np.array(effects, float)[None, None])[0, 0].argmax())] == name


@pytest.mark.parametrize(("effects", "name"), [([2.0], "constant"), ([0.0], "inactive"), ([0.0, 1.0], "late"), ([1.0, -1.0], "sign change")])
def test_patterns_of_one_and_two_days(effects, name):
    assert PATTERNS[int(classify(np.array(effects)[None, None])[0, 0].argmax())] == name


def test_clear_effects_have_their_days_signs_and_patterns(hits):
    """Effects of ten standard errors."""
    theta = made()[1]
    table = hits.table.set_index("gene").loc[[f"G{i}" for i in range(120)]]
    active = [";".join(np.array(["0h", "24h", "48h", "72h"])[row != 0]) for row in theta]
    assert (table["active_days"][:40] == active[:40]).mean() >= 0.96
    assert (table["pattern"][:50] == np.repeat(list(SHAPES)[:5], 10)).mean() >= 0.96 and (table["pattern"][60:] == "inactive").mean() >= 0.9
    assert (np.sign(table.filter(regex="^mean_d").to_numpy()[:50]) == np.sign(theta[:50]))[theta[:50] != 0].all()
    assert (table["guides_agree"][:50] >= 2).all() and (table["n_guides"] == 3).all() and (table["n_cells"] == 200).all()
    assert (table["lfsr_leave_one_guide_out"][:50] < CALL_LFSR).all()


def test_the_strongest_come_first_with_their_s_values(hits):
    table = hits.table
    assert table["min_lfsr"].is_monotonic_increasing and set(table["gene"][:50]) == {f"G{i}" for i in range(50)}
    np.testing.assert_allclose(table["svalue"], table["min_lfsr"].cumsum() / np.arange(1, 121))
    np.testing.assert_allclose(table["min_lfsr"], table.filter(regex="^lfsr_d").min(axis=1))
    best = [list(hits.estimates.days).index(day) for day in table["best_day"]]
    np.testing.assert_array_equal(table.filter(regex="^lfsr_d").to_numpy()[np.arange(120), best], table["min_lfsr"])


def test_both_signs_are_ranked_alike():
    """lfsr is exact far below the smallest difference from 1."""
    estimates, _ = made(se=0.05)
    both = dataclasses.replace(estimates, betahat=-estimates.betahat)
    plus, minus = (call_hits(own, covariances="canonical").table.set_index("gene") for own in (estimates, both))
    np.testing.assert_allclose(plus["min_lfsr"], minus.loc[plus.index, "min_lfsr"], rtol=1e-6)
    assert 0 < plus["min_lfsr"].iloc[0] < 1e-50


def test_one_guide_alone_does_not_make_a_robust_hit():
    estimates, _ = made(shapes={"none": [0, 0, 0, 0]})
    estimates.guide_betahat[:3, 2] = [6.0, 0.0, 0.0]
    estimates.betahat[0, 2] = 2.0
    estimates.left_out[:3, 2] = [0.0, 3.0, 3.0]
    row = call_hits(estimates, covariances="canonical").table.set_index("gene").loc["G0"]
    assert row["min_lfsr"] < 1e-6 and row["best_day"] == "48h" and row["lfsr_leave_one_guide_out"] > 0.5 and row["guides_agree"] == 1


def test_a_gene_with_a_single_guide_has_nothing_without_it():
    estimates, _ = made(n_guides=1)
    assert (call_hits(estimates, covariances="canonical").table["lfsr_leave_one_guide_out"] == 1).all()


def test_a_gene_without_cells_comes_last_with_the_reason():
    estimates, _ = made()
    estimates.betahat[3], estimates.covariance[3], estimates.cells[3] = np.nan, np.nan, 0
    estimates.guide_betahat[9:12], estimates.guide_covariance[9:12] = np.nan, np.nan
    estimates.left_out[9:12], estimates.left_out_covariance[9:12] = np.nan, np.nan
    with pytest.warns(ScreenWarning, match="1 genes have no estimate on any day"):
        row = call_hits(estimates, covariances="canonical").table.iloc[-1]
    assert row["gene"] == "G3" and row["reason"] == "no cells carry its guides" and row["min_lfsr"] == row["svalue"] == row["lfsr_leave_one_guide_out"] == 1
    assert row["best_day"] == row["active_days"] == row["pattern"] == "" and row["guides_agree"] == 0 and np.isnan(row["max_abs_mean"])


def test_a_day_without_cells_is_not_called():
    estimates, _ = made()
    estimates.betahat[0, 1] = np.nan
    estimates.covariance[0, 1], estimates.covariance[0, :, 1] = np.nan, np.nan
    row = call_hits(estimates, covariances="canonical").table.set_index("gene").loc["G0"]
    assert row["active_days"] == "0h;48h;72h" and row["lfsr_d1"] < CALL_LFSR  # inferred from the other days


def test_pattern_probabilities_do_not_depend_on_the_blocks(hits, monkeypatch):
    """Means of 2,000 draws: a difference of more than 0.08 has probability below 1e-6 in each of 720 entries."""
    whole = pattern_probabilities(hits.genes, n_draws=2000, seed=3)
    monkeypatch.setattr("hierarchy.mash.patterns.BLOCK_NUMBERS", 2000 * 4 * 7)
    parts = pattern_probabilities(hits.genes, n_draws=2000, seed=3)
    assert np.abs(whole - parts).max() < 0.08 and np.allclose(parts.sum(1), 1)


def test_errors_that_are_not_a_covariance_name_the_gene():
    estimates, _ = made()
    estimates.covariance[5] = 0.01
    with pytest.raises(InputError, match=r"not positive definite for row 5 \(G5\)"):
        call_hits(estimates)


def test_correlated_errors_are_not_taken_for_effects():
    """Nulls whose errors are common to all days: taken as independent, four z-scores of 2 would be strong evidence."""
    estimates, _ = made(n_genes=600, shapes={"none": [0, 0, 0, 0]})
    rng = np.random.default_rng(4)
    estimates.betahat[:] = 0.1 * (np.sqrt(0.9) * rng.normal(size=(600, 1)) + np.sqrt(0.1) * rng.normal(size=(600, 4)))
    independent = call_hits(estimates, covariances="canonical").called.sum()
    estimates.covariance[:] = 0.01 * (0.9 + 0.1 * np.eye(4))
    assert call_hits(estimates, covariances="canonical").called.sum() == 0 and independent > 0


def in_two_contrasts(seed=0):
    """The same effects in two contrasts whose errors correlate by 0.5, and the covariance of these errors; one contrast has larger errors."""
    first, theta = made(seed=seed)
    rng = np.random.default_rng(seed + 1)
    error = 0.5 * (first.betahat - theta) / 0.1 + 0.75**0.5 * rng.normal(size=theta.shape)
    second = dataclasses.replace(first, contrast="NEU:EC", betahat=theta + 0.5 * error, covariance=25 * first.covariance)
    covariance = np.kron(np.array([[0.01, 0.025], [0.025, 0.25]]), np.eye(4))
    return [first, second], np.repeat(covariance[None], len(theta), 0), theta


@pytest.mark.filterwarnings("ignore::data_prep.errors.ScreenWarning")  # too few strong genes
def test_a_joint_analysis_finds_effects_that_one_contrast_does_not_show():
    """Effects of two standard errors in the second contrast, of ten in the first: of 110 gene-days, fewer than 40 are found in the second alone."""
    estimates, covariance, theta = in_two_contrasts()
    first, second = call_hits_jointly(estimates, covariance)
    alone = call_hits(estimates[1])
    assert second.estimates.contrast == "NEU:EC" and first.genes.lfsr.shape == second.genes.mean.shape == theta.shape
    np.testing.assert_array_equal(second.genes.betahat, estimates[1].betahat)
    found = [int(((own.genes.lfsr < CALL_LFSR) & (theta != 0)).sum()) for own in (second, alone)]
    assert found[0] > 90 > 40 > found[1]
    wrong = (second.genes.lfsr < CALL_LFSR) & (np.sign(second.genes.mean) != np.sign(theta))
    assert wrong.sum() <= 0.05 * found[0] and (second.patterns.argmax(1) == first.patterns.argmax(1))[:50].mean() > 0.8


def test_draws_and_units_of_one_contrast_of_a_joint_fit():
    estimates, covariance, _ = in_two_contrasts()
    second = call_hits_jointly(estimates, covariance, covariances="canonical")[1].genes
    whole = second.of_conditions(slice(None))
    np.testing.assert_array_equal(second.sample(3, seed=1), whole.sample(3, seed=1)[..., 4:])
    wide = np.full((120, 8), np.nan)
    wide[:, 4:] = estimates[1].betahat
    expected = whole.posterior_of(wide, np.where(np.isnan(wide), np.nan, 0.5))
    np.testing.assert_allclose(second.posterior_of(estimates[1].betahat, np.full((120, 4), 0.5)).mean, expected.mean[:, 4:])


def test_covariances_over_contrasts():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 6, 6))
    weights = np.array([[1.0, 0.0], [-1.0, 1.0]])
    over = np.kron(weights, np.eye(3))
    np.testing.assert_allclose(contrast_covariance(root @ root.transpose(0, 2, 1), weights), over @ root @ root.transpose(0, 2, 1) @ over.T)


def cells_with(data, guide):
    cell = np.repeat(np.arange(data.n_cells), data.cell_offsets.diff().numpy())
    out = np.zeros(data.n_cells, bool)
    out[cell[data.cell_guides.numpy() == guide]] = True
    return out


@pytest.mark.parametrize(
    "design",
    [
        pytest.param({}, id="precision 50", marks=pytest.mark.slow),
        pytest.param({"concentration": None}, id="one-hot", marks=pytest.mark.slow),
        pytest.param({"guides_per_gene": (2, 5), "n_genes": 8}, id="2-5 guides"),
    ],
)
def test_a_guide_left_out_is_a_fit_without_its_cells(design):
    """Within 0.5 standard errors, and errors within 6 %: the refit learns other scales, and cells with two guides of a gene count once."""
    adata = simulate_fate_screen(ScreenDesign(**({"n_cells": 6000, "n_genes": 30, "n_days": 3, "effects": "model"} | design)), seed=1).adata
    data = build_fate_data(read_screen(adata), ref_fate="EC")
    fitted = fit(data)
    estimates = hit_estimates(fitted, "MES")
    for guide in (0, 7, 17):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the guide is in no cell
            screen = read_screen(adata[~cells_with(data, guide)].copy())
        without = build_fate_data(screen, ref_fate="EC")
        again = summarise(fit(without, settings=FitSettings(likelihood_weight=fitted.weight)))
        gene = list(again.genes).index(estimates.genes[estimates.gene_of_guide[guide]])
        refit, se = again.of_genes("MES"), errors_of(estimates.left_out_covariance[[guide]])[0][0]
        assert np.abs(estimates.left_out[guide] - refit.estimate[gene]).max() < 0.5 * refit.se[gene].min()
        np.testing.assert_allclose(se, refit.se[gene], rtol=0.06)


def test_sandwich_errors_of_guides_left_out():
    """Where the model is right they are close to the model's."""
    adata = simulate_fate_screen(ScreenDesign(n_cells=6000, n_genes=20, n_days=2), seed=1).adata
    data = build_fate_data(read_screen(adata), ref_fate="EC")
    plain, robust = (errors_of(hit_estimates(fit(data, settings=FitSettings(se=se)), "MES").left_out_covariance)[0] for se in ("posterior", "sandwich"))
    assert 0.9 < np.median(robust / plain) < 1.1


def test_a_screen_with_late_effects_and_its_truth():
    """One screen of 20,000 cells: of about 20 calls at lfsr < 0.05, 1 is expected to be wrong; 5 or more in one screen of 300."""
    simulated = simulate_fate_screen(ScreenDesign(effects="late", n_days=3), seed=2)
    hits = call_hits(hit_estimates(fit(build_fate_data(read_screen(simulated.adata), ref_fate="EC")), "MES"), covariances="canonical")
    score = score_hits(hits.table, simulated.truth).set_index("day").loc["all"]
    assert score["called"] == score["right"] + score["null"] + score["wrong_sign"] and score["null"] + score["wrong_sign"] < 5
    assert score["missed"] <= 2 and score["patterns_right"] >= 0.8
    best = hits.table.iloc[0]
    assert best["pattern"] == "late" and best["guides_agree"] >= 5


def test_scores_of_contrasts_with_and_without_the_reference():
    simulated = simulate_fate_screen(ScreenDesign(n_cells=4000, n_genes=20, n_days=2, effects="model"), seed=0)
    fitted = fit(build_fate_data(read_screen(simulated.adata), ref_fate="EC"))
    tables = [call_hits(hit_estimates(fitted, contrast), covariances="canonical").table for contrast in ("MES", "EC:MES", "NEU:MES")]
    rmse = [score_hits(table, simulated.truth)["rmse"].iloc[-1] for table in tables]
    assert rmse[0] == pytest.approx(rmse[1], rel=1e-6) and max(rmse) < 0.12


def test_z_and_lfsr_agree_for_a_single_day():
    """With one day, lfsr falls with |z|, and calls of nulls alone are rare: 1,000 nulls, at most 5."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(1000, 1))
    estimates = dataclasses.replace(
        made()[0],
        days=("0h",),
        genes=np.arange(1000).astype(str).astype(object),
        betahat=z,
        covariance=np.ones((1000, 1, 1)),
        cells=np.ones((1000, 1), int),
        guides=np.arange(1000).astype(str).astype(object),
        gene_of_guide=np.arange(1000),
        guide_betahat=z,
        guide_covariance=np.ones((1000, 1, 1)),
        left_out=np.full((1000, 1), np.nan),
        left_out_covariance=np.full((1000, 1, 1), np.nan),
    )
    hits = call_hits(estimates)
    assert hits.called.sum() <= 5 and (np.diff(hits.genes.lfsr[np.argsort(np.abs(z[:, 0])), 0]) <= 1e-9).all()
    assert norm.sf(np.abs(z).max()) < 0.01
