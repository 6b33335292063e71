"""call-hits as a user runs it: files, contents, messages."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.commands import command, snapshot

COLUMNS = [
    *["gene", "contrast", "n_guides", "n_cells", "best_day", "active_days", "pattern", "pattern_prob", "max_abs_mean", "min_lfsr", "svalue", "guides_agree"],
    "lfsr_leave_one_guide_out",
    *[f"{name}_d{d}" for name in ("mean", "sd", "lfsr") for d in range(3)],
    "reason",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A simulated screen and its fit in two contrasts."""
    out = tmp_path_factory.mktemp("hits")
    words = ("--cells", 6000, "--genes", 30, "--days", 3, "--effects", "late", "--guides-per-gene", "1-5")
    assert command("simulate-screen", "--out", out, *words).code == 0
    done = command("fit-hierarchy", out / "screen.h5ad", "--out", out / "fit", "--contrast-fate", "MES,MES:NEU", "--no-report")
    assert done.code == 0, done
    return out


@pytest.fixture(scope="module")
def hits(folder):
    done = command("call-hits", folder / "fit", "--truth", folder / "truth.csv")
    assert done.code == 0, done
    return done, folder / "fit" / "hits"


def test_files_and_columns(hits):
    done, out = hits
    files = {"hits.csv", "mash_gene.csv", "mash_guide.csv", "mash_weights.csv", "hits_scores.csv", "report.html", "run.json"}
    assert {path.name for path in out.iterdir()} == files
    table = pd.read_csv(out / "hits.csv", keep_default_na=False, na_values={"pattern_prob": [""]})
    assert list(table.columns) == COLUMNS and list(dict.fromkeys(table["contrast"])) == ["MES:EC", "MES:NEU"] and len(table) == 60
    assert table.groupby("contrast")["min_lfsr"].apply(lambda x: x.is_monotonic_increasing).all()
    guides = pd.read_csv(out / "mash_guide.csv")
    assert list(guides.columns[:3]) == ["guide", "gene", "contrast"] and (table.groupby("gene")["n_guides"].first().sum() * 2) == len(guides)
    weights = pd.read_csv(out / "mash_weights.csv", keep_default_na=False)
    np.testing.assert_allclose(weights.groupby(["contrast", "level"])["weight"].sum(), 1, rtol=1e-6)
    assert "MES:EC: " in done.out and "genes are hits (lfsr below 0.05)" in done.out and f"results: {out / 'hits.csv'}" in done.out
    record = json.loads((out / "run.json").read_text())
    assert record["contrasts"]["MES:EC"]["genes"] == 30 and record["contrasts"]["MES:EC"]["optimality_gap"]["gene"] < 1e-3


def test_estimates_are_those_of_the_fit(folder, hits):
    ours = pd.read_csv(hits[1] / "mash_gene.csv")
    of_fit = pd.read_csv(folder / "fit" / "gene_daywise_for_mash.csv")
    own = ours[ours["contrast"] == "MES:EC"].reset_index(drop=True)
    for name in ("betahat", "se"):
        np.testing.assert_allclose(own.filter(regex=f"^{name}_d"), of_fit.filter(regex=f"^{name}_d"), rtol=1e-8)
    guides = pd.read_csv(hits[1] / "mash_guide.csv").query("contrast == 'MES:EC'").reset_index(drop=True)
    of_guides = pd.read_csv(folder / "fit" / "guide_daywise_for_mash.csv")
    np.testing.assert_allclose(guides.filter(regex="^(betahat|se)_d"), of_guides.filter(regex="^(betahat|se)_d"), rtol=1e-8)


def test_scores_count_every_call(hits):
    scores, table = pd.read_csv(hits[1] / "hits_scores.csv"), pd.read_csv(hits[1] / "hits.csv")
    assert list(scores["day"]) == ["d0", "d1", "d2", "all"] * 2
    calls = [(table[table["contrast"] == name].filter(regex="^lfsr_d") < 0.05).to_numpy().sum() for name in ("MES:EC", "MES:NEU")]
    assert scores[scores["day"] == "all"]["called"].tolist() == calls and (scores["called"] == scores["right"] + scores["null"] + scores["wrong_sign"]).all()


def test_contrasts_jointly(folder, hits, tmp_path):
    done = command("call-hits", folder / "fit", "--out", tmp_path / "a", "--joint", "--no-report")
    assert done.code == 0, done
    joint, apart = (pd.read_csv(path / "hits.csv") for path in (tmp_path / "a", hits[1]))
    assert list(joint.columns) == COLUMNS and list(dict.fromkeys(joint["contrast"])) == ["MES:EC", "MES:NEU"]
    assert not np.allclose(joint["min_lfsr"], apart["min_lfsr"])
    done = command("call-hits", folder / "fit", "--out", tmp_path / "b", "--joint", "--contrast-fate", "MES,MES:EC")
    assert done.code == 2 and "follow from each other, so they can't be analysed jointly" in done.err and not (tmp_path / "b").exists()


def test_the_same_bytes_again_and_one_contrast(folder, hits, tmp_path):
    words = ("call-hits", folder / "fit", "--out", tmp_path / "a", "--contrast-fate", "MES", "--no-report")
    assert command(*words).code == 0
    before = snapshot(tmp_path / "a")
    assert command(*words).code == 0 and snapshot(tmp_path / "a") == before
    one, both = (pd.read_csv(path / "hits.csv") for path in (tmp_path / "a", hits[1]))
    pd.testing.assert_frame_equal(one, both[both["contrast"] == "MES:EC"])


def test_a_gene_named_na(folder, tmp_path):
    own = tmp_path / "fit"
    shutil.copytree(folder / "fit", own, ignore=shutil.ignore_patterns("hits"))
    table = pd.read_csv(own / "effects.csv")
    table["gene"] = table["gene"].replace("GENE00", "NA")
    table.to_csv(own / "effects.csv", index=False)
    for name in ("theta_covariance.npz", "guide_estimates.npz"):
        arrays = dict(np.load(own / name))
        arrays["genes"] = np.where(arrays["genes"] == "GENE00", "NA", arrays["genes"])
        np.savez(own / name, **arrays)
    done = command("call-hits", own, "--no-report")
    assert done.code == 0 and "NA" in set(pd.read_csv(own / "hits" / "hits.csv", keep_default_na=False)["gene"])


def _without(name):
    def change(folder):
        (folder / name).unlink()

    return change


def _cut(folder):
    path = folder / "guide_estimates.npz"
    path.write_bytes(path.read_bytes()[:2000])


def _other_fit(folder):
    table = pd.read_csv(folder / "effects.csv")
    table.iloc[:-3].to_csv(folder / "effects.csv", index=False)


def _zero_error(folder):
    arrays = dict(np.load(folder / "theta_covariance.npz"))
    arrays["covariance"][4] = 0.0
    np.savez(folder / "theta_covariance.npz", **arrays)


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (_without("run.json"), [], "has no run.json of fit-hierarchy. Run fit-hierarchy again"),
        (_without("guide_estimates.npz"), [], "guide_estimates.npz is missing: it was removed, or the fit is of an earlier version."),
        (_cut, [], "guide_estimates.npz can't be read"),
        (_other_fit, [], "do not belong to the same fit, or one was changed"),
        (_zero_error, [], "se must be positive and finite, or NaN where missing; 3 entries are not (row 4 (GENE04), column 0: 0"),
        (None, ["--contrast-fate", "NEU"], "the fit has no contrast 'NEU'; it has MES:EC, MES:NEU."),
        (None, ["--truth", "no.csv"], "no.csv is not a file"),
        (None, ["--null-weight", 0.5], "--null-weight is '0.5'; it must be a number, at least 1"),
        (None, ["--covariances", "pca"], "it must be 'auto', 'mashr' or 'canonical'"),
    ],
)
def test_wrong_input_is_one_message(folder, tmp_path, change, words, message):
    own = tmp_path / "fit"
    shutil.copytree(folder / "fit", own, ignore=shutil.ignore_patterns("hits"))
    if change is not None:
        change(own)
    done = command("call-hits", own, *words)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err and not (own / "hits").exists(), done


def test_a_folder_that_is_not_there(tmp_path):
    done = command("call-hits", tmp_path / "none")
    assert done.code == 2 and "has no run.json of fit-hierarchy" in done.err and not list(tmp_path.iterdir())


def test_a_truth_of_another_screen(folder, tmp_path):
    truth = pd.read_csv(folder / "truth.csv").assign(gene=lambda table: "X" + table["gene"])
    truth.to_csv(tmp_path / "truth.csv", index=False)
    done = command("call-hits", folder / "fit", "--out", tmp_path / "o", "--truth", tmp_path / "truth.csv")
    assert done.code == 2 and "genes of the table are not in the truth" in done.err and not (tmp_path / "o").exists()
