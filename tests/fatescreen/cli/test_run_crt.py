"""run-crt from the outside, and the real screens."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from crt import UnitSettings, detectable_effects, diagnose_null, make_sceptre_style_synth, ntc_pvalues, prepare_crt_inputs, run_all_genes_union_crt
from data_prep.errors import ScreenWarning
from tests import ROOT
from tests.commands import command as here

MEANS = ("--method", "resample", "--statistic", "mean")


def command(*arguments):
    return subprocess.run([sys.executable, str(ROOT / "scripts" / "run_crt.py"), *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def file(screen, tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    screen.write_h5ad(path)
    return path


def test_a_run(file, inputs, tmp_path):
    done = command(file, "--out", tmp_path, "--targets", "GENE1,GENE4", *MEANS, "--n-resamples", 99, "--skew-normal", "--n-jobs", 2)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "crt_results.csv")
    assert list(table.columns) == [
        "target",
        "program",
        "beta",
        "z",
        "p_raw",
        "p_skew",
        "p_adj",
        "n_treated",
        "reason",
        "log10_p",
        "se",
        "ci_low",
        "ci_high",
        "p",
        "method",
        "statistic",
        "n_control",
        "mde80",
        "beta_centred",
        "p_centred",
    ]
    python = run_all_genes_union_crt(inputs, ["GENE1", "GENE4"], B=99, calibrate_skew_normal=True)
    np.testing.assert_allclose(table["p_skew"], python.table["p_skew"], rtol=1e-9)
    np.testing.assert_allclose(pd.read_csv(tmp_path / "pvals.csv", index_col=0), python.pvals_df, rtol=1e-9)
    np.testing.assert_allclose(pd.read_csv(tmp_path / "betas.csv", index_col=0), python.betas_df, rtol=1e-9)
    lines = done.stdout.splitlines()
    first = lines[next(i for i, line in enumerate(lines) if line.split()[:2] == ["target", "program"]) + 1].split()
    smallest = table[table["log10_p"] == table["log10_p"].min()]
    best = smallest.loc[smallest["z"].abs().idxmax()]
    assert first[:2] == [best["target"], best["program"]]
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["settings"]["seed"] == 123 and record["settings"]["n_resamples"] == 99 and record["targets"] == 2
    before = (tmp_path / "crt_results.csv").read_bytes()
    assert here("run-crt", file, "--out", tmp_path, "--targets", "GENE1,GENE4", *MEANS, "--n-resamples", 99, "--skew-normal").code == 0
    assert (tmp_path / "crt_results.csv").read_bytes() == before


def test_the_saddlepoint_from_the_command(file, inputs, tmp_path):
    done = here("run-crt", file, "--out", tmp_path, "--method", "saddlepoint", "--statistic", "cauchy", "--propensity-penalty", 0.5)
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "crt_results.csv")
    python = run_all_genes_union_crt(inputs, method="saddlepoint", statistic="cauchy", propensity_penalty=0.5).table
    for name in ("p", "se", "ci_low", "ci_high", "log10_p"):
        np.testing.assert_allclose(table[name], python[name], rtol=1e-8)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["settings"]["method"] == "saddlepoint" and record["settings"]["logistic"]["penalty"] == 0.5 and record["resampled"] == 0
    page = (tmp_path / "report.html").read_text()
    assert "saddlepoint (tests of the mean and of normal scores combined)" in page and "With this number of resamples" not in page
    again = here("run-crt", file, "--out", tmp_path, "--config", tmp_path / "run.json")
    assert again.code == 0, again.err


def test_discovery_calibration_and_power_in_one_run(tmp_path):
    adata = make_sceptre_style_synth(
        N=1500, K=4, n_target_genes=12, guides_per_gene=2, ntc_frac_guides=0.7, frac_causal_genes=0.2, n_effect_programs=1, effect_size=1.5, seed=1
    )
    adata.write_h5ad(tmp_path / "screen.h5ad")
    truth = adata.uns["true_effects"]
    pd.DataFrame({"target": truth["gene"], "program": truth["program"]}).to_csv(tmp_path / "known.csv", index=False)
    checks = ("--check-calibration", "--positive-controls", tmp_path / "known.csv", "--formula", "~ batch * log_depth")
    done = here("run-crt", tmp_path / "screen.h5ad", "--out", tmp_path / "out", *checks)
    assert done.code == 0, done.err
    table, known = pd.read_csv(tmp_path / "out" / "crt_results.csv"), pd.read_csv(tmp_path / "out" / "crt_positive_controls.csv")
    inputs = prepare_crt_inputs(adata, formula="~ batch * log_depth")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["design"] == list(inputs.covar_names) and len(inputs.covar_names) == 4
    python = run_all_genes_union_crt(inputs, method="saddlepoint", statistic="cauchy", min_treated=7, min_control=7)
    found = diagnose_null(inputs, UnitSettings(method="saddlepoint", statistic="cauchy", min_treated=7, min_control=7))
    np.testing.assert_allclose(table["p_ntc"], ntc_pvalues(python, found)["p_ntc"], rtol=1e-8)
    np.testing.assert_allclose(table["mde80"], detectable_effects(inputs, python), rtol=1e-8)
    np.testing.assert_allclose(pd.read_csv(tmp_path / "out" / "pvals_ntc_raw.csv", index_col=[0, 1]), found.ntc_raw, rtol=1e-8)
    assert known["found"].all() and sorted(zip(known["target"], known["program"], strict=True)) == sorted(zip(truth["gene"], truth["program"], strict=True))
    assert "positive controls: 2 of 2 are discoveries" in done.out + done.err and "verdict: " in done.out + done.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 of 2 positive controls are discoveries" in page and "p-values relative to NTC groups" in page and "by q_ntc" in page


def test_few_ntc_groups_are_reported(file, tmp_path):
    done = here("run-crt", file, "--out", tmp_path, "--check-calibration", "--unit", "guide", "--targets", "GENE1")
    assert done.code == 0, done.err
    reason = "4 independent NTC groups of 1 guide are too few for p-values relative to them; 20 are needed."
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["p_ntc"] == reason and reason in (tmp_path / "report.html").read_text()
    assert record["verdict"]["figures"]["size_ratio"] == 1  # NTC groups of one guide, as the units of the run
    assert "p_ntc" not in pd.read_csv(tmp_path / "crt_results.csv")


def test_stratified_options(file, tmp_path):
    options = ("--resampling-method", "stratified_perm", "--n-bins", 5, "--no-stratify-by-batch", "--burden-key", "log_depth", "--n-burden-bins", 3)
    done = here("run-crt", file, "--out", tmp_path, *MEANS, "--n-resamples", 19, "--side", "left", "--propensity-mode", "oracle_const", *options)
    assert done.code == 0, done.err
    sampler = json.loads((tmp_path / "run.json").read_text())["settings"]["sampler"]
    assert sampler["n_bins"] == 5 and sampler["stratify_by_batch"] is False and sampler["burden_key"] == "log_depth" and sampler["n_burden_bins"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--targets", "GEN1"), "no guide targets GEN1"),
        (("--targets", ""), "the list of genes to test is empty"),
        (("--covar-key", "covars"), "obsm['covars'] is missing; obsm has:"),
        (("--burden-key", "x"), "stratified_perm"),
        (("--method", "resample", "--n-resamples", 0), "resamples"),
        (("--n-resamples", 99), "--n-resamples contradicts --method saddlepoint (the default)"),
        (("--method", "saddlepoint", "--n-resamples", 99), "--n-resamples contradicts --method saddlepoint"),
        (("--method", "saddlepoint", "--adaptive", "--skew-normal"), "--adaptive, --skew-normal contradicts --method saddlepoint"),
        (("--statistic", "normal_scores"), "'normal-scores'"),
        (("--propensity-penalty", -1), "--propensity-penalty"),
        (("--formula", "~ batch + depth"), "obs['depth'] is missing; obs has: none. The formula names it. obsm['covar'] has: batch, log_depth"),
        (("--formula", "batch ~ depth"), "several parts, such as a left-hand side"),
        (("--formula", "~ batch", "--covariates", "batch"), "covariates and a formula are given. Give one of the two"),
        (("--positive-controls", "none.csv"), "none.csv is not a file"),
    ],
)
def test_one_clear_message(file, tmp_path, options, message):
    done = here("run-crt", file, "--out", tmp_path, *options)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err and done.err.count("error:") == 1


def test_papalexi(screens):
    """IFNGR1, IFNGR2, JAK2 and STAT1 first, on program 2; SMAD4 on program 7."""
    path = screens / "papalexi2021_eccite_thp1.h5ad"
    with pytest.warns(ScreenWarning, match=r"n_guides \(constant\)"):
        inputs = prepare_crt_inputs(path, control_group="ntc_cells")
    genes = ["IFNGR1", "IFNGR2", "JAK2", "STAT1", "SMAD4", "ATF2", "CAV1", "CD86", "UBE2L6", "STAT2"]
    table = run_all_genes_union_crt(inputs, genes, calibrate_skew_normal=True, n_jobs=2).table.sort_values("log10_p", kind="stable")
    top = table.head(5)
    assert set(top["target"][:4]) == {"IFNGR1", "IFNGR2", "JAK2", "STAT1"} and (top["program"][:4] == inputs.program_names[2]).all() and (top["z"] < -10).all()
    assert top.iloc[4]["target"] == "SMAD4" and top.iloc[4]["program"] == inputs.program_names[7]
    quiet = table[~table["target"].isin({"IFNGR1", "IFNGR2", "JAK2", "STAT1", "SMAD4"})]
    assert quiet["z"].abs().max() < 5


def test_papalexi_with_the_complement_is_warned_of(screens):
    with pytest.warns(ScreenWarning, match="low-MOI screen.*ntc_cells"), pytest.warns(ScreenWarning, match="constant"):
        prepare_crt_inputs(screens / "papalexi2021_eccite_thp1.h5ad")


def test_schraivogel(screens):
    inputs = prepare_crt_inputs(screens / "schraivogel2020_tapseq_k562.h5ad", control_group="ntc_cells")
    z = run_all_genes_union_crt(inputs, B=499, n_jobs=2).table.pivot(index="target", columns="program", values="z")
    name = dict(enumerate(inputs.program_names))
    strongest = z.abs().max(1).sort_values(ascending=False)
    assert set(strongest.index[:2]) == {"UBR5", "FAM83A"} and z.loc["UBR5", name[15]] < -9 and z.loc["FAM83A", name[11]] < -9
    for gene, program in (("GATA1_enh", 11), ("STK3", 9), ("RIPK2", 6), ("CPQ", 8)):
        assert abs(z.loc[gene, name[program]]) > 3.5
    assert (strongest[["CCNE2", "OXR1", "PHF20L1"]] < 3.5).all()
