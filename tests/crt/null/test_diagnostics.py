"""The diagnostics: columns against slow formulas, the verdict on screens built for each cause, files the same byte for byte."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.null_screens import KINDS, SCORING, TUNING, Kind, Plan, make
from crt import UnitSettings
from crt.null.dependence import Dependence
from crt.null.diagnostics import curve_summary, diagnose_null
from crt.null.ensemble import ntc_group_results
from crt.null.groups import make_ntc_groups_ensemble
from crt.null.units import UnitProbe, _tail_check, auc
from crt.null.verdict import NEXT_STEPS, TITLES, NullTests, Thresholds, judge
from crt.sampling.streams import unit_seed
from crt.statistic import draws
from data_prep.errors import InputError
from tests import ROOT
from tests.commands import command

OUTPUTS = {"diagnostics_units.csv", "diagnostics_summary.json", "diagnostics_summary.txt", "pvals_real.csv", "pvals_ntc_raw.csv", "pvals_ntc_skew.csv"}
OUTPUTS |= {"pvals_ntc_oracle_raw.csv", "qq_null.png", "qq_ntc_fit_vs_oracle.png", "pvals_real_skew.csv", "skew_normal_checks.csv"}
SPECIFIED = (
    "unit_id unit_type guide_count seed_base x_mean n_treated n_control u_norm den den_is_bad beta_obs_nan pmin_raw pvals_raw_eq1_frac pmin_skew".split()
)
SPECIFIED += "pvals_skew_eq1_frac skew_fallback_frac p_hat_mean p_hat_min p_hat_max p_hat_var propensity_separation_flag propensity_auc".split()
SPECIFIED += "propensity_converged null_nan_frac beta_null_mean beta_null_sd z_null_mean z_null_sd z_null_skewness z_obs p_raw p_skew".split()
SMALL = ("--cells", 1500, "--programs", 4, "--genes", 12, "--method", "resample", "--n-resamples", 99, "--n-ensemble", 3)


def found_in(kind: Kind, seed: int, **options):
    return diagnose_null(make(kind.plan, seed), kind.settings(seed), group_size=kind.group_size, n_ensemble=3, **options)


@pytest.fixture(scope="module")
def plain():
    """A calibrated screen and its diagnostics."""
    kind = KINDS["high MOI, 2 batches"]
    inputs = make(replace(kind.plan, cells=1200, programs=8, ntc_guides=30), 0)
    return inputs, diagnose_null(inputs, kind.settings(0, 199), group_size=3, n_ensemble=3)


def kinds(fits, every=1):
    """The kinds of screens that fit; those for tuning, and all but every n-th for scoring, run with the slow tests."""
    quick = [name for name, kind in SCORING.items() if fits(name, kind)][::every]
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name, kind in KINDS.items() if fits(name, kind)]


@pytest.mark.parametrize("name", kinds(lambda name, kind: name in TUNING or kind.truth[0] in "ABCD" or name in ("hidden confounder", "two groups")))
def test_verdicts(name):
    """Each alone is wrong with probability under 0.05 by the confusion benchmark (over 20 other seeds); the seed is fixed."""
    kind = KINDS[name]
    assert found_in(kind, 100).verdict.label == kind.truth


@pytest.mark.parametrize("name", kinds(lambda _, kind: kind.truth[0] not in "AC", every=3))
def test_verdicts_without_resamples(name):
    kind = KINDS[name]
    found = diagnose_null(make(kind.plan, 100), kind.saddlepoint(100), group_size=kind.group_size, n_ensemble=3)
    assert found.verdict.label == (kind.exact or kind.truth) and "skew_rate_0.05" not in found.verdict.figures


def test_kinds_for_tuning_are_not_those_for_scoring():
    assert not set(TUNING) & set(SCORING) and all(kind.plan != other.plan or kind.truth == "C" for kind in TUNING.values() for other in SCORING.values())


def test_columns_are_those_of_the_specification(plain):
    inputs, found = plain
    assert set(SPECIFIED) <= set(found.units.columns)
    assert set(found.units["unit_type"]) == {"real_gene", "ntc_group"} and (found.units["seed_base"] == 0).all()
    assert list(found.units["unit_id"][:20]) == list(inputs.genes) and (found.units["guide_count"] == 3).all()
    assert found.ntc_raw.shape == found.ntc_skew.shape == found.oracle_raw.shape == (30, 8) and found.real_raw.shape == (20, 8)


def test_a_row_against_slow_formulas(plain):
    inputs, found = plain
    row = found.units.set_index("unit_id").loc["G004"]
    treated = inputs.treated(inputs.gene_to_cols["G004"])
    x = np.zeros(inputs.all_cells.size)
    x[treated] = 1
    C = inputs.C.astype(float)
    u = C.T @ x
    drawn = draws(treated, inputs, sampler=KINDS["low MOI"].settings(0).sampler, n_resamples=199, seed=unit_seed(0, "G004"))
    p, null = drawn.propensity.p, drawn.null[:, 0].astype(float)
    residual = inputs.Y[:, 0] - C @ np.linalg.lstsq(C, inputs.Y[:, 0].astype(float), rcond=None)[0]
    sigma = np.sqrt(residual @ residual / (x.size - C.shape[1]))
    higher = p[treated][:, None] > p[x == 0]
    want = {
        "x_mean": x.mean(),
        "n_treated": x.sum(),
        "n_control": (1 - x).sum(),
        "u_norm": np.linalg.norm(u),
        "den": x.sum() - u @ np.linalg.solve(C.T @ C, u),
        "p_hat_mean": p.mean(),
        "p_hat_min": p.min(),
        "p_hat_max": p.max(),
        "p_hat_var": p.var(),
        "beta_null_mean": null.mean(),
        "beta_null_sd": null.std(),
        "z_null_sd": null.std() / (sigma / np.sqrt(drawn.den)),
        "z_null_skewness": stats.skew(null),
        "z_obs": (drawn.observed[0] - null.mean()) / null.std(),
        "null_nan_frac": 0.0,
        "p_raw": found.real_raw.loc["G004"].iloc[0],
        "pmin_raw": found.real_raw.loc["G004"].min(),
        "pmin_skew": found.real_skew.loc["G004"].min(),
        "pvals_raw_eq1_frac": (found.real_raw.loc["G004"] == 1).mean(),
    }
    for name, value in want.items():
        assert row[name] == pytest.approx(value, rel=2e-3, abs=1e-6), name
    assert row["propensity_auc"] == pytest.approx(higher.mean(), abs=2e-3)


def test_auc_with_ties():
    p, treated = np.array([0.1, 0.2, 0.2, 0.9]), np.array([1, 3])
    assert auc(p, treated) == pytest.approx((1.5 + 2) / 4) and auc(np.full(4, 0.3), treated) == 0.5


def test_tail_check_counts_resamples_in_the_tails_of_their_own_fit(plain):
    inputs, _ = plain
    settings = UnitSettings(n_resamples=1999, skew_normal=True)
    seen = []
    probe = UnitProbe.of(inputs, settings)
    ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=1, group_size=3, max_groups=2)
    for unit in ntc_group_results(inputs, ensemble, settings, group_size=3, keep=probe):
        columns = ensemble[0][unit.result.name]
        drawn = draws(inputs.treated(columns), inputs, sampler=settings.sampler, n_resamples=1999, seed=unit_seed(settings.seed, unit.result.name))
        r, hits, expected = unit.result, 0, 0.0
        for k in np.flatnonzero(~r.fallback):
            null = drawn.null[:, k].astype(float)
            sign = 1 if r.beta[k] >= np.sort(null)[(null.size - 1) // 2] else -1
            tail = stats.skewnorm.sf(sign * (null - r.xi[k]) / r.omega[k], sign * r.alpha[k])
            hits, expected = hits + int((2 * tail <= 1e-3).sum()), expected + 0.0005 * null.size
        assert abs(unit.row["skew_tail_hits"] - hits) <= 1 and unit.row["skew_tail_expected"] == pytest.approx(expected)
        seen.append(expected)
        assert _tail_check(replace(r, fallback=np.ones(8, bool)), drawn, settings.side) == {"skew_tail_hits": 0, "skew_tail_expected": 0.0}
    assert sum(seen) > 0


def test_the_oracle_uses_the_same_groups_resamples_and_seeds(plain):
    inputs, found = plain
    pd.testing.assert_index_equal(found.oracle_raw.index, found.ntc_raw.index)
    constant = diagnose_null(inputs, replace(KINDS["low MOI"].settings(0, 199), propensity_mode="oracle_const"), group_size=3, n_ensemble=3)
    pd.testing.assert_frame_equal(constant.ntc_raw, found.oracle_raw)
    assert not found.oracle_raw.equals(found.ntc_raw)


def test_workers_and_order_do_not_matter(plain):
    inputs, found = plain
    again = diagnose_null(inputs, KINDS["low MOI"].settings(0, 199), group_size=3, n_ensemble=3, n_jobs=2)
    pd.testing.assert_frame_equal(again.units, found.units)
    other = diagnose_null(inputs, KINDS["low MOI"].settings(1, 199), group_size=3, n_ensemble=3)
    assert not other.ntc_raw.equals(found.ntc_raw) and other.summary["seed_groups"] != found.summary["seed_groups"]


def test_summary(plain):
    _, found = plain
    units = found.units[found.units["unit_type"] == "ntc_group"]
    facts = found.summary["units"]["ntc_group"]
    assert facts["count"] == 30 and facts["quantiles"]["n_treated"]["0.5"] == units["n_treated"].median()
    assert facts["p_nan_fraction"] == 0 and facts["den_is_bad_fraction"] == 0
    curve = found.summary["curves"]["ntc_raw"]
    assert curve["tests"] == 240 and curve["p<=0.05"]["rate"] == (found.ntc_raw.to_numpy() <= 0.05).mean()
    assert found.summary["seed_base"] == 0 and found.summary["verdict"]["label"] == found.summary["verdict"]["outcome"] == "inconclusive"
    assert json.loads(json.dumps(found.summary, allow_nan=False)) == found.summary
    assert len(found.checks) == 12 and {"p_raw", "p_skew", "z_obs", "null_mean", "null_sd", "null_skewness"} <= set(found.checks)
    row = found.checks.iloc[0]
    unit = found.ntc_raw.xs(row["unit_id"], level="group").iloc[0]
    assert unit[row["program"]] == row["p_raw"]


def test_curve_summary_intervals():
    """Clopper–Pearson, with the number of independent tests; the grid of an empirical p does not count against uniformity."""
    p = np.arange(1, 101) / 100
    out = curve_summary(p, 99, {0.05: 100.0, 0.01: 20.0})
    assert out["ks_distance"] == pytest.approx(0.005) and out["p<=0.05"]["rate"] == 0.05
    want = stats.binomtest(5, 100).proportion_ci(method="exact")
    assert (out["p<=0.05"]["low"], out["p<=0.05"]["high"]) == pytest.approx((want.low, want.high))
    wide = stats.beta.ppf([0.025, 0.975], [0.2, 1.2], [20.8, 19.8])
    assert [out["p<=0.01"][k] for k in ("low", "high", "independent_tests")] == pytest.approx([*wide, 20.0])
    assert curve_summary(np.array([]), 99, {}) == {"tests": 0}


def test_every_cause_has_its_numbers_and_a_next_step():
    assert set(NEXT_STEPS) == set(TITLES) == {"A", "B", "C", "D", "unexplained", "inconclusive"}
    for name in ("A: near-empty groups", "B: separated", "C: groups too large", "D: heavy tails"):
        found = found_in(KINDS[name], 200).verdict
        assert [f.cause for f in found.findings] == [name[0]]
        for finding in found.findings:
            assert finding.figures and all(np.isfinite(v) for v in finding.figures.values()) and (finding.next_step, finding.arguments) == NEXT_STEPS[name[0]]
        assert found.lines()[-1] == f"verdict: off ({name[0]})" and any("next step:" in line for line in found.lines())


def test_a_conservative_tail_that_a_constant_propensity_removes_is_B(plain):
    """p-values that pile up at one half, and uniform ones with a constant propensity; all else as on a sound screen."""
    _, found = plain
    rng = np.random.default_rng(0)
    shape = found.ntc_raw.shape
    middle = pd.DataFrame(0.3 + 0.4 * rng.random(shape), found.ntc_raw.index, found.ntc_raw.columns)
    uniform = pd.DataFrame(rng.random(shape), found.ntc_raw.index, found.ntc_raw.columns)

    def label(raw, skew=None, oracle=None):
        curves = {"raw": raw, "skew": skew, "oracle": oracle}
        return judged(found, {name: p for name, p in curves.items() if p is not None}).label

    assert label(middle, middle, uniform) == "B"
    assert label(middle, middle, middle) == "unexplained"
    assert label(uniform, uniform, uniform) == "calibrated"
    assert label(uniform, uniform**2.5, uniform) == "D"
    assert label(uniform**2.5, uniform**2.5, uniform) == "unexplained"
    assert label(uniform) == "calibrated"


def judged(found, curves, *, rho=0.0, tail=1.0, **options):
    """The verdict on p-values of the groups of `found`, whose z scores have correlation `rho`; resamples are `tail` times as often in the tails as expected."""
    units = found.units[found.units["unit_type"] == "ntc_group"].assign(skew_tail_expected=10.0, skew_tail_hits=10 * tail)
    dependence = Dependence(units=np.eye(30) * (1 - rho) + rho, programs=np.eye(8))
    groups = NullTests(units=units, curves=curves, dependence=dependence, n_resamples=199, two_sided=True)
    return judge(groups, **{"gene_guides": 3.0, "n_ntc_guides": 30, "largest_size": 30} | options)


def test_thresholds_are_arguments(plain):
    _, found = plain
    curves = {"raw": found.ntc_raw}
    assert judged(found, curves, thresholds=replace(Thresholds(), few_cells=10_000)).label == "A"
    assert judged(found, curves, thresholds=replace(Thresholds(), detectable=0.06)).label == "inconclusive"


def test_groups_that_cannot_be_as_large_as_genes_are_not_C(plain):
    _, found = plain
    curves = {"raw": found.ntc_raw}
    assert judged(found, curves, gene_guides=8.0).label == "C"
    assert judged(found, curves, gene_guides=8.0, largest_size=5).label == "inconclusive"


def test_three_guides_have_a_way_through():
    """Each guide is compared with the others; random subsets of the NTC cells are tested instead of more groups."""
    inputs = make(SCORING["3 NTC guides"].plan, 7)
    found = diagnose_null(inputs, UnitSettings(method="saddlepoint"))
    assert found.verdict.outcome == found.verdict.label == "inconclusive" and found.summary["group_size"] == 1
    figures = found.verdict.figures
    assert figures["independent_units"] < 2.1 and figures["detectable_rate_0.05"] > 0.3 and figures["subset_independent_units"] > 50
    lines = found.verdict.lines()
    assert (
        lines[0].startswith("inconclusive: 3 NTC guides are too few to detect a miscalibration (n_ntc_guides 3, group_size 1,")
        and lines[-1] == "verdict: inconclusive"
    )
    with pytest.raises(InputError, match="the screen has 3 NTC guides and a group takes all of them") as error:
        diagnose_null(inputs, UnitSettings(method="saddlepoint"), group_size=3)
    assert error.value.arguments == ("group_size",)
    only = replace(inputs, ntc_cols=inputs.ntc_cols[:1])
    with pytest.raises(InputError, match="'complement'"):
        diagnose_null(only, UnitSettings(method="saddlepoint"))


def test_a_high_rate_of_few_tests_is_not_called_calibrated(plain):
    _, found = plain
    p = pd.DataFrame(np.full((30, 8), 0.5), found.ntc_raw.index)
    p.iloc[:10] = 0.03
    verdict = judged(found, {"raw": p}, rho=1.0, n_ntc_guides=3, largest_size=3)
    assert verdict.figures["raw_rate_0.05"] == pytest.approx(1 / 3) and verdict.figures["detectable_rate_0.05"] > 0.4 and verdict.label == "inconclusive"


def test_tails_of_one_group_are_not_D(plain):
    """Nor are tails after A: skew-normal fits of few cells are inaccurate."""
    _, found = plain
    curves = {"raw": found.ntc_raw, "skew": found.ntc_skew}
    assert judged(found, curves, tail=3.0).label == "D"
    assert judged(found, curves, tail=3.0, rho=1.0).label == "inconclusive"
    assert judged(found, curves, tail=3.0, thresholds=Thresholds(degenerate_share=-1.0)).label == "A"


def test_groups_have_the_genes_number_of_guides():
    inputs = make(Plan(guides_per_gene=4, genes=10, cells=800), 0)
    found = diagnose_null(inputs, UnitSettings(method="saddlepoint"), n_ensemble=1)
    assert found.summary["group_size"] == 4 and (found.units["guide_count"] == 4).all()


def test_all_units_degenerate_is_A_without_a_crash():
    found = found_in(Kind(truth="A", plan=Plan(cells=300, ntc_rarity=1e-9)), 0)
    assert found.verdict.label == "A" and found.ntc_raw.isna().all().all() and found.checks.empty


def test_settings_that_cannot_be(plain):
    inputs, _ = plain
    with pytest.raises(InputError, match="program is 8"):
        diagnose_null(inputs, UnitSettings(), group_size=3, program=8)


def test_the_script_and_the_command_write_the_same_bytes(tmp_path):
    script = [sys.executable, ROOT / "scripts" / "run_global_null_diagnostics.py", "--simulate", "--out", tmp_path / "a", *SMALL]
    first = subprocess.run(list(map(str, script)), capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    second = command("diagnose-null", "--simulate", "--out", tmp_path / "b", *SMALL, "--n-jobs", 2)
    assert {p.name for p in (tmp_path / "a").iterdir()} == OUTPUTS | {"run.json", "report.html"}
    for name in sorted(OUTPUTS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert first.stdout == second.out and first.stdout.splitlines()[-1] == "verdict: inconclusive"
    assert "NTC groups in 3 partitions; guides in a group: min 6, median 6, max 6" in first.stdout
    summary = json.loads((tmp_path / "a" / "diagnostics_summary.json").read_text())
    assert summary["seed_base"] == 0 and summary["verdict"]["outcome"] == summary["verdict"]["label"] == "inconclusive"
    units = pd.read_csv(tmp_path / "a" / "diagnostics_units.csv")
    assert set(SPECIFIED) <= set(units.columns) and (tmp_path / "a" / "diagnostics_summary.txt").read_text().endswith("verdict: inconclusive\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give one screen: SCREEN, or --h5ad FILE, or --simulate"),
        (("--simulate", "--h5ad", "x.h5ad"), "give one screen"),
        (("--simulate", *SMALL, "--group-size", 99), "group_size is 99"),
        (("--simulate", *SMALL, "--burden-key", "x"), "stratified_perm"),
        (("--simulate", *SMALL, "--targets", "NOGENE"), "no guide targets NOGENE"),
        (("--simulate", *SMALL, "--targets", ""), "the list of genes to test is empty"),
    ],
)
def test_one_clear_message(tmp_path, options, message):
    done = command("diagnose-null", "--out", tmp_path, *options)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err and done.err.count("error:") == 1


def test_a_simulated_screen_of_two_programs(tmp_path):
    options = ("--cells", 600, "--programs", 2, "--genes", 12, "--method", "resample", "--n-resamples", 19, "--n-ensemble", 1, "--no-report")
    done = command("diagnose-null", "--simulate", "--out", tmp_path, *options)
    assert done.code == 0 and len(pd.read_csv(tmp_path / "pvals_real.csv").columns) == 3, done


@pytest.mark.parametrize("screen", ["papalexi2021_eccite_thp1", "schraivogel2020_tapseq_k562"])
def test_real_screens(screens, tmp_path, screen):
    """Groups of four, as the genes; the sampler's other options are passed on. A group of six is of the wrong size there."""
    real = (
        "--h5ad",
        screens / f"{screen}.h5ad",
        "--control-group",
        "ntc_cells",
        "--method",
        "resample",
        "--statistic",
        "mean",
        "--n-resamples",
        199,
        "--n-ensemble",
        4,
    )
    done = command("diagnose-null", *real, "--out", tmp_path / "4", "--group-size", 4)
    expected = "inconclusive" if screen.startswith("papalexi") else "calibrated"
    assert done.code == 0 and done.out.splitlines()[-1] == f"verdict: {expected}", done
    assert command("diagnose-null", *real, "--out", tmp_path / "6", "--group-size", 6).out.splitlines()[-1] == "verdict: off (C)"
