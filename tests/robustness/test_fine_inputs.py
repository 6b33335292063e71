"""Unusual but valid inputs: exit code 0 and correct numbers."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from tests.commands import command
from tests.robustness.inputs import FEW, Workspace

NAMES = {"Greek": "βλ_{}", "accents, quotes and commas": 'é"{},\n', "long": "x" * 5000 + "{}", "emoji": "🧬{}", "spaces": " {} ", "markup": "<b>{}</b>&"}

SIMILAR = ("long", "emoji", "spaces")  # to other names; run with the slow tests
KINDS = [pytest.param(kind, marks=pytest.mark.slow if kind in SIMILAR else ()) for kind in NAMES]


def done(workspace, *arguments):
    ended = command(workspace.name, *arguments, "--out", workspace.out.parent / "new")
    assert ended.code == 0, ended
    return workspace.out.parent / "new"


def renamed(pattern, names):
    return [name if name == "non-targeting" else pattern.format(name) for name in names]


def rename_map(adata, key, pattern):
    table = adata.uns[key]
    adata.uns[key] = table.assign(gene_name=renamed(pattern, table["gene_name"]), guide_name=renamed(pattern, table["guide_name"]))
    adata.uns["guide_names"] = np.array(renamed(pattern, adata.uns["guide_names"]), dtype=object)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_genes_guides_and_fates(kind, valid_inputs, tmp_path):
    """The same numbers, under those names, in every table, summary and the record."""
    workspace, pattern = Workspace(valid_inputs, tmp_path, "fit-hierarchy"), NAMES[kind]

    def change(adata):
        rename_map(adata, "guide_map", pattern)
        table = adata.obsm["lineages_fwd"]
        adata.obsm["lineages_fwd"] = table.to_numpy()
        adata.uns["fate_names"] = np.array(renamed(pattern, table.columns), dtype=object)

    fates = ["--ref-fate", pattern.format("EC"), "--contrast-fate", pattern.format("MES")]
    out = done(workspace, workspace.screen(change), *fates)
    for name in ("gene_daywise_for_mash.csv", "guide_daywise_for_mash.csv"):
        here, plain = pd.read_csv(out / name, keep_default_na=False), pd.read_csv(workspace.out / name)
        texts = [c for c in plain if plain[c].dtype.kind in "OUT" or pd.api.types.is_string_dtype(plain[c])]
        for column in texts:
            assert list(here[column]) == renamed(pattern, plain[column])
        np.testing.assert_array_equal(here.drop(columns=texts), plain.drop(columns=texts))
    with np.load(out / "theta_posterior_summary.npz", allow_pickle=False) as held:
        assert list(held["genes"]) == renamed(pattern, [f"GENE{i}" for i in range(4)])
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["contrast_fate"] == [pattern.format("MES")]
    assert (out / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_targets_and_programs(kind, valid_inputs, tmp_path):
    workspace, pattern = Workspace(valid_inputs, tmp_path, "run-crt"), NAMES[kind]

    def change(adata):
        known = adata.uns["guide2gene"]
        adata.uns["guide2gene"] = pd.DataFrame({"guide_name": list(known), "gene_name": renamed(pattern, known.values())})
        adata.uns["program_names"] = np.array([pattern.format(p) for p in adata.uns["program_names"]], dtype=object)

    out = done(workspace, workspace.screen(change), *FEW)
    here, plain = (pd.read_csv(folder / "betas.csv", index_col=0, keep_default_na=False) for folder in (out, workspace.out))
    assert list(here.index) == renamed(pattern, plain.index) and list(here.columns) == renamed(pattern, plain.columns)
    np.testing.assert_array_equal(here, plain)  # p-values come from a stream of the gene's name
    first = (out / "crt_results.csv").read_bytes()
    assert command("run-crt", workspace.inputs / "screen.h5ad", *FEW, "--out", out).code == 0  # from finished targets
    assert (out / "crt_results.csv").read_bytes() == first


@pytest.mark.parametrize("name", ["fit-hierarchy", "run-crt"])
@pytest.mark.parametrize("called", ["Ünïcødé ☃", "with space", "%s {0} $HOME", "x" * 200, "'quoted\"", "-dash"])
def test_names_of_files(name, called, valid_inputs, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, name)
    folder = tmp_path / called
    folder.mkdir()
    screen = folder / f"{called}.h5ad"
    shutil.copy(workspace.valid_arguments()[0], screen)
    config = folder / f"{called}.yaml"
    config.write_text(
        json.dumps(
            {"screen": str(screen), "out": str(folder / "ö"), "report": False} | ({"method": "resample", "n_resamples": 19} if name == "run-crt" else {})
        )
    )
    ended = command(name, "--config", config)
    assert ended.code == 0, ended
    table = {"fit-hierarchy": "gene_daywise_for_mash.csv", "run-crt": "crt_results.csv"}[name]
    assert (folder / "ö" / table).read_bytes() == (workspace.out / table).read_bytes()


def one_day(adata):
    adata.obs["day"] = pd.Categorical(["d7"] * adata.n_obs)


def days_unsorted(adata):
    adata.obs["day"] = [{"d0": "day 9", "d1": "day 10"}[d] for d in adata.obs["day"]]


def one_gene(adata):
    table = adata.uns["guide_map"]
    adata.uns["guide_map"] = table.assign(gene_name=["non-targeting" if ntc else "G" for ntc in table["is_ntc"]])


def one_replicate(adata):
    adata.obsm["covar"]["rep"] = "r"


def no_ntc(adata):
    table = adata.uns["guide_map"]
    adata.uns["guide_map"] = table.assign(gene_name=[g if not n else "OTHER" for g, n in zip(table["gene_name"], table["is_ntc"], strict=True)], is_ntc=False)


def dense_guides(adata):
    adata.obsm["guide"] = adata.obsm["guide"].toarray()


def counts_for_presence(adata):
    adata.obsm["guide"] = sp.csr_matrix(adata.obsm["guide"] * 7)


def shuffled_map(adata):
    adata.uns["guide_map"] = adata.uns["guide_map"].iloc[::-1].reset_index(drop=True)


def one_guide_each(adata):
    table = adata.uns["guide_map"]
    adata.uns["guide_map"] = table.assign(gene_name=["non-targeting" if n else g for g, n in zip(table["guide_name"], table["is_ntc"], strict=True)])


SAME = [dense_guides, counts_for_presence, shuffled_map, days_unsorted]


@pytest.mark.parametrize(
    "change", [*SAME, one_day, one_gene, no_ntc, *(pytest.param(change, marks=pytest.mark.slow) for change in (one_replicate, one_guide_each))]
)
def test_screens(change, valid_inputs, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, "fit-hierarchy")
    out = done(workspace, workspace.screen(change))
    table = pd.read_csv(out / "gene_daywise_for_mash.csv")
    numbers = table.drop(columns="gene").to_numpy()
    assert np.isfinite(numbers).all() and (table.filter(like="se_") > 0).all().all()
    rows = {one_gene: 1, no_ntc: 5, one_guide_each: 10}.get(change, 4)
    assert table.shape == (rows, 3 if change is one_day else 5)
    if change in SAME:
        np.testing.assert_array_equal(numbers, pd.read_csv(workspace.out / "gene_daywise_for_mash.csv").drop(columns="gene"))


def test_one_target(valid_inputs, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, "run-crt")
    out = done(workspace, *workspace.valid_arguments(), "--targets", "GENE2")
    table, every = pd.read_csv(out / "crt_results.csv"), pd.read_csv(workspace.out / "crt_results.csv")
    pd.testing.assert_frame_equal(table.drop(columns="p_adj"), every[every["target"] == "GENE2"].drop(columns="p_adj").reset_index(drop=True))


def test_one_outcome(valid_inputs, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, "run-crt")

    def change(adata):
        adata.obsm["cnmf_usage"] = np.asarray(adata.obsm["cnmf_usage"])[:, :1]
        adata.uns["program_names"] = np.array(["only"], dtype=object)

    table = pd.read_csv(done(workspace, workspace.screen(change), *FEW, "--transform", "none") / "crt_results.csv")
    assert list(table["program"].unique()) == ["only"] and table["p_raw"].between(0.05, 1).all()


@pytest.mark.parametrize("sizes", [("--cells", 1), ("--cells", 5, "--genes", 1, "--days", 1, "--reps", 1), ("--cells", 20, "--fates", "α,β")])
def test_small_simulations(sizes, valid_inputs, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, "simulate-screen")
    out = done(workspace, *sizes)
    assert sorted(p.name for p in out.iterdir()) == ["guide_map.csv", "run.json", "screen.h5ad", "truth.csv"]
