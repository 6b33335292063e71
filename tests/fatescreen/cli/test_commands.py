"""The commands as a user runs them: files out, exit codes, messages."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from data_prep import ScreenDesign, simulate_fate_screen
from tests import ROOT
from tests.commands import COMMANDS, command


def run(script, *args):
    return subprocess.run([sys.executable, ROOT / "scripts" / f"{script}.py", *map(str, args)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    out = tmp_path_factory.mktemp("screen")
    done = run("simulate_screen", "--out", out, "--cells", 500, "--genes", 5, "--guides-per-gene", "1-4", "--days", 3)
    assert done.returncode == 0, done.stderr
    return out


def test_simulate_fit_and_score(simulated, tmp_path):
    first = command(
        "fit-hierarchy", simulated / "screen.h5ad", "--guide-map", simulated / "guide_map.csv", "--out", tmp_path / "a", "--save-posterior", "--draws", 20
    )
    assert first.code == 0, first.err
    want = {"gene_daywise_for_mash.csv", "guide_daywise_for_mash.csv", "theta_posterior_summary.npz", "delta_posterior_summary.npz"}
    want |= {"gene_daywise_posterior.csv", "guide_daywise_posterior.csv", "effects.csv", "day_contrasts.csv", "theta_covariance.npz", "guide_estimates.npz"}
    want |= {"fit.png", "scales.csv", "check_composition.csv", "check_top_genes.csv", "check_family_by_gene.csv"}
    want |= {"qc_delta_mean_by_gene.csv", "qc_theta_beta_offset_by_gene.csv", "run.json", "posterior.nc", "report.html"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == want
    second = command("fit-hierarchy", simulated / "screen.h5ad", "--out", tmp_path / "b", "--cache", tmp_path / "tensors.pt", "--no-report")
    third = command("fit-hierarchy", simulated / "screen.h5ad", "--out", tmp_path / "c", "--cache", tmp_path / "tensors.pt", "--no-report")
    tables = [(tmp_path / d / "gene_daywise_for_mash.csv").read_bytes() for d in "abc"]
    assert second.code == third.code == 0 and tables[0] == tables[1] == tables[2]
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert set(record["likelihood_weights"]) == {"d0", "d1", "d2"} and set(record["likelihood_weights"]["d0"]) == {"rep1", "rep2"}
    assert record["settings"]["seed"] == 0 and record["options"]["ref_fate"] == "EC" and record["input"]["cells"] == 500
    scored = run("score_daywise", tmp_path / "a" / "gene_daywise_for_mash.csv", simulated / "truth.csv", "--out", tmp_path / "s")
    assert scored.returncode == 0 and list(pd.read_csv(tmp_path / "s" / "scores.csv")["day"]) == ["d0", "d1", "d2", "all"]


def test_columns_numbered_unlike_their_days_are_a_warning(tmp_path):
    screen = simulate_fate_screen(ScreenDesign(n_cells=400, n_genes=3), seed=1).adata
    screen.obs["day"] = screen.obs["day"].astype(str).map({"d0": "d0", "d1": "d1", "d2": "d3", "d3": "d07"})
    screen.write_h5ad(tmp_path / "screen.h5ad")
    done = command("fit-hierarchy", tmp_path / "screen.h5ad", "--out", tmp_path / "o")
    assert done.code == 0 and "warning: columns are numbered in the order of the days, not by their labels: _d2 is day d3, _d3 is day d07.\n" in done.err


def test_a_mean_field_fit_that_ends_before_its_first_window(simulated, tmp_path):
    done = command("fit-hierarchy", simulated / "screen.h5ad", "--out", tmp_path, "--posterior", "mean_field", "--max-steps", 20, "--draws", 20, "--no-report")
    assert done.code == 0 and "did not converge in 20 steps" in done.err
    assert json.loads((tmp_path / "run.json").read_text())["elbo"]["trace"] == []


def test_a_numerical_failure_is_one_message_with_advice_and_exit_1(simulated, tmp_path):
    words = ("fit-hierarchy", simulated / "screen.h5ad", "--out", tmp_path)
    assert command(*words, "--max-steps", 20).code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    failed = command(*words, "--likelihood-weight", 1e300)
    assert failed.code == 1 and "Traceback" not in failed.err and failed.err.count("error:") == 1, failed
    assert "is not positive definite" in failed.err and "(1 is the safest choice)" in failed.err and "--likelihood-weight" in failed.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before  # earlier results are kept


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--fate-key", "fates"], "obsm['fates'] is missing; obsm has: covar, guide, lineages_fwd"),
        (["--ref-fate", "ECC"], "'ECC' is not among the fates"),
        (["--ref-fate", "ec", "--contrast-fate", "x"], "the reference fate 'ec' is not among the fates: EC, MES, NEU. Did you mean 'EC'?"),
        (["--ref-fate", "ec", "--contrast-fate", "mes"], "the contrast 'mes' is not a non-reference fate"),
        (["--ref-fate", "ec", "--contrast-fate", "mes"], "Options: --contrast-fate, --ref-fate."),
        (["--ref-fate", "ECC", "--contrast-fate", "MES"], "'ECC' is not among the fates"),
        (["--day-key", "time", "--rep-key", "batch"], "Options: --day-key, --rep-key."),
        (["--contrast-fate", "EC"], "Choose among MES, NEU"),
        (["--likelihood-weight", "much"], "it must be 'auto', 'common' or a number, above 0"),
        (["--device", "tpu9"], "is not a device"),
        (["--guide-map", "no.csv"], "no.csv is not a file"),
        (["--posterior", "flow"], "flow"),
        (["--draws", "0"], "it must be a whole number, at least 2. The nearest is 2."),
        (["--seed", "-1"], "--seed is '-1'"),
        (["--out", __file__], "is not a folder"),
    ],
)
def test_wrong_settings_are_one_message_and_exit_2(simulated, tmp_path, args, message):
    done = command("fit-hierarchy", simulated / "screen.h5ad", "--out", tmp_path / "o", *args)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "o" / "gene_daywise_for_mash.csv").exists()


def test_a_missing_screen_and_a_wrong_table_are_exit_2(simulated, tmp_path):
    assert "does not exist" in (done := command("fit-hierarchy", tmp_path / "none.h5ad", "--out", tmp_path)).err and done.code == 2
    done = command("score-daywise", tmp_path / "none.csv", simulated / "truth.csv")
    assert done.code == 2 and "is not a file" in done.err
    for table, truth, message in (
        (simulated / "screen.h5ad", "truth.csv", "can't be read as a CSV"),
        (simulated / "truth.csv", "guide_map.csv", "has no column"),
    ):
        done = command("score-daywise", table, simulated / truth)
        assert done.code == 2 and message in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("args", "message"),
    [(["--seed", "-1"], "--seed is '-1'"), (["--moi", "inf"], "--moi is 'inf'; it must be a number, above 0"), (["--out", __file__], "is not a folder")],
)
def test_a_simulation_that_cannot_be_is_exit_2(tmp_path, args, message):
    done = command("simulate-screen", "--out", tmp_path / "s", "--cells", 20, *args)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err


@pytest.mark.parametrize("script", COMMANDS)
def test_help_tells_every_option(script):
    done = command(script, "--help")
    assert done.code == 0 and "--" in done.out and "default" in done.out


@pytest.mark.parametrize(
    ("screen", "ref", "contrast", "lowest"),
    [
        ("papalexi2021_eccite_thp1", "ifn_low", "ifn_high", {"IFNGR1", "IFNGR2", "JAK2", "STAT1"}),
        ("schraivogel2020_tapseq_k562", "hb_low", "hb_high", {"HS2_enh", "GATA1_enh"}),
    ],
)
def test_real_screens(shared, tmp_path, screen, ref, contrast, lowest):
    keys = ["--fate-key", "fateprob", "--guide-key", "guide_assignment", "--ref-fate", ref, "--contrast-fate", contrast]
    done = command("fit-hierarchy", shared / "data" / f"{screen}.h5ad", *keys, "--out", tmp_path)
    assert done.code == 0, done
    table = pd.read_csv(tmp_path / "gene_daywise_for_mash.csv").set_index("gene")
    z = (table["betahat_d0"] / table["se_d0"]).sort_values()
    assert set(z.index[: len(lowest)]) == lowest
    if "IRF1" in z.index:  # negative and smaller
        assert -20 < z["IRF1"] < -4 and z.index[4] == "IRF1" and z.iloc[5:].abs().max() < 4
