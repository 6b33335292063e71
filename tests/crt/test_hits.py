"""Agreement of guides, leave-one-guide-out, and effects relative to the gene's median."""

import numpy as np
import pytest

from crt import centred_effects, guide_tests, make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
from tests.crt.problems import inputs_of, random_problem, tiny_inputs

OPTIONS = {"method": "saddlepoint", "statistic": "cauchy"}


@pytest.fixture(scope="module")
def screen():
    """Gene A: three guides with the same effect on program 0. Gene B: one of three guides has an effect on program 1. Gene C: one guide. D: none."""
    C, Y, rng = random_problem(4000, 3, 4)
    guides = rng.random((4000, 11)) < 0.05
    genes = ["A"] * 3 + ["B"] * 3 + ["C"] + ["D"] * 3 + ["ntc"]
    Y[guides[:, :3].any(1), 0] += 0.9
    Y[guides[:, 4], 1] -= 1.5
    Y[guides[:, 6], 2] += 1.2
    return inputs_of(C, Y, guides.astype(float), genes)


@pytest.fixture(scope="module")
def found(screen):
    result = run_all_genes_union_crt(screen, **OPTIONS)
    return result, guide_tests(screen, result, **OPTIONS)


def test_which_hits_depend_on_one_guide(found):
    hits = found[1].hits.set_index(["target", "program"])
    assert hits.loc[("A", "p0"), ["n_guides", "guides_agree", "robust"]].tolist() == [3, 3, True]
    assert not hits.loc[("B", "p1"), "robust"] and hits.loc[("B", "p1"), "p_leave_one_out"] > 1e-3
    assert hits.loc[("C", "p2"), "n_guides"] == 1 and hits.loc[("C", "p2"), "robust"] is None and np.isnan(hits.loc[("C", "p2"), "p_leave_one_out"])
    assert "D" not in hits.index.get_level_values(0) or hits.loc["D", "p"].min() > 1e-4


def test_each_number_is_that_of_a_run(screen, found):
    result, tests = found
    row = tests.guides[(tests.guides["guide"] == "guide_4") & (tests.guides["program"] == "p1")].iloc[0]
    alone = tiny_inputs(screen.C.astype(float), screen.Y.astype(float), {"g": screen.treated([4]), "others": screen.treated([3, 5])})
    table = run_all_genes_union_crt(alone, **OPTIONS).table.set_index(["target", "program"])
    assert row["target"] == "B" and row["p"] == pytest.approx(table.loc[("g", "p1"), "p"], rel=1e-3)
    assert row["p_without"] == pytest.approx(table.loc[("others", "p1"), "p"], rel=1e-3)
    assert len(tests.guides) == 10 * 4 and set(tests.guides["target"]) == {"A", "B", "C", "D"}
    assert tests.guides.loc[tests.guides["target"] == "C", "p_without"].isna().all()
    again = guide_tests(screen, result, n_jobs=2, **OPTIONS)
    assert again.hits.equals(tests.hits) and again.guides.equals(tests.guides)


def test_without_hits_there_are_no_rows(screen):
    result = run_all_genes_union_crt(screen, ["D"], **OPTIONS)
    tests = guide_tests(screen, result, fdr=1e-9, **OPTIONS)
    assert tests.hits.empty and len(tests.guides) == 3 * 4


def test_spread_of_a_strong_effect_is_not_called_after_centring():
    """CLR outcomes: an effect of 3 on one of eight programs shifts the other seven by −3/7. Against the median these are null: p ≤ 0.05 in 5 % of 140 tests,
    all of which are hits before."""
    spread, own, p = [], [], []
    for seed in range(20):
        C, Y, rng = random_problem(3000, 3, 8, seed=seed)
        treated = np.sort(rng.choice(3000, 500, replace=False))
        Y[treated, 0] += 3.0
        Y -= Y.mean(1, keepdims=True)
        inputs = tiny_inputs(C, Y, {"g": treated})
        result = run_all_genes_union_crt(inputs, **OPTIONS)
        table = centred_effects(inputs, result, fdr=0.999, **OPTIONS)
        p.append(result.table["p"][1:])
        own.append(table["p_centred"][0])
        spread.append(table["p_centred"][1:])
        assert table["beta_centred"][0] == pytest.approx(3.0, abs=0.25) and abs(table["beta_centred"][1:]).max() < 0.3
    assert np.mean(np.array(p) < 1e-3) > 0.95 and max(own) < 1e-50
    assert (np.array(spread) <= 0.05).mean() < 0.12 and np.nanmedian(spread) > 0.3


def test_only_hits_are_tested_against_the_median():
    inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    result = run_all_genes_union_crt(inputs, **OPTIONS)
    table = centred_effects(inputs, result, **OPTIONS)
    assert (table["p_centred"].notna() == (result.table["p_adj"] < 0.1)).all() and table["beta_centred"].notna().all()
