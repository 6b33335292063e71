"""The runs: what they return, that nothing outside name, cells and settings matters, resuming, and the README's usage."""

import json
import os
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import crt.engine
from crt import prepare_crt_inputs, run_all_genes_union_crt, run_one_gene_union_crt, store_results_in_adata
from crt.burden import BURDEN_KEY
from crt.sampling.streams import unit_seed
from data_prep.errors import InputError, ScreenWarning
from tests import GOLDEN, ROOT
from tests.crt.problems import random_problem, tiny_inputs

STRATIFIED = {"resampling_method": "stratified_perm", "resampling_kwargs": {"n_bins": 20, "stratify_by_batch": True, "batch_key": "batch"}}
BURDEN = {
    "resampling_method": "stratified_perm",
    "resampling_kwargs": {
        "n_bins": 20, "stratify_by_batch": True, "batch_key": "batch", "burden_key": BURDEN_KEY, "n_burden_bins": 8, "burden_bin_method": "quantile",
    },
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, STRATIFIED, BURDEN], ids=["default", "stratified", "burden"])
def test_usage_of_the_readme(inputs, options):
    result = run_all_genes_union_crt(inputs, B=199, **options)
    assert (
        result.pvals_df.shape == result.betas_df.shape == (8, 5)
        and list(result.table.columns)
        == "target program beta z p_raw p_skew p_adj n_treated reason log10_p se ci_low ci_high p method statistic n_control".split()
    )
    assert result["pvals_df"] is result.pvals_df and result.pvals_raw_df is None and result.skew_params is None
    assert result.pvals_df.to_numpy().min() >= 1 / 200 and result.table["p_adj"].between(0, 1).all()
    assert (result.table["p_skew"].isna()).all() and not result.treated_df["reason"].any()
    with pytest.raises(KeyError, match="pvals_df"):
        result["pvals"]


def test_effects_are_found(screen, inputs):
    result = run_all_genes_union_crt(inputs, B=999, calibrate_skew_normal=True, return_raw_pvals=True, return_skew_normal=True)
    truth = screen.uns["true_effects"]
    assert len(truth) == 2
    for gene, program, effect in truth.itertuples(index=False):
        assert result.pvals_df.loc[gene, program] < 1e-6 and np.sign(result.betas_df.loc[gene, program]) == np.sign(effect)
        assert result.pvals_raw_df.loc[gene, program] == 1 / 1000
    assert result.pvals_skew_df.equals(result.pvals_df) and list(result.skew_params.columns) == ["target", "program", "xi", "omega", "alpha", "fallback"]
    best = result.table.sort_values("log10_p").iloc[0]
    assert best["log10_p"] == pytest.approx(np.log10(best["p_skew"]))


def test_one_gene_is_its_row_of_the_run(inputs):
    for options in ({}, BURDEN):
        every = run_all_genes_union_crt(inputs, B=99, calibrate_skew_normal=True, **options)
        one = run_one_gene_union_crt("GENE5", inputs, B=99, calibrate_skew_normal=True, **options)
        np.testing.assert_array_equal(one.p_skew, every.pvals_df.loc["GENE5"])
        np.testing.assert_array_equal(one.beta, every.betas_df.loc["GENE5"])
        assert one.n_treated == every.treated_df.loc["GENE5", "n_treated"]


@pytest.mark.parametrize("control", ["complement", "ntc_cells"])
@pytest.mark.parametrize("options", [{}, BURDEN], ids=["bernoulli", "burden"])
def test_workers_order_and_batches_do_not_matter(screen, options, control, monkeypatch):
    inputs = prepare_crt_inputs(screen, control_group=control)
    serial = run_all_genes_union_crt(inputs, B=99, return_skew_normal=True, **options)
    threads = run_all_genes_union_crt(inputs, B=99, return_skew_normal=True, n_jobs=3, **options)
    pd.testing.assert_frame_equal(serial.table, threads.table, check_exact=True)
    monkeypatch.setattr(crt.engine, "BATCH", 3)
    backwards = run_all_genes_union_crt(inputs, genes=inputs.genes[::-1][:5], B=99, n_jobs=2, **options)
    pd.testing.assert_frame_equal(backwards.pvals_df, serial.pvals_df.loc[list(inputs.genes[::-1][:5])], check_exact=True)
    other = run_all_genes_union_crt(inputs, B=99, base_seed=124, **options)
    assert (other.pvals_df != serial.pvals_df).to_numpy().any()


def test_python_hash_seed_does_not_matter(tmp_path, screen, inputs):
    screen.write_h5ad(tmp_path / "s.h5ad")
    code = (
        "import sys; from crt import *; i = prepare_crt_inputs(sys.argv[1]);"
        "print(run_all_genes_union_crt(i, genes=['GENE1', 'GENE0'], B=49).table.to_csv(float_format='%.17g'))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}  # this process has a random one
    command = [sys.executable, "-c", code, str(tmp_path / "s.h5ad")]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert there == run_all_genes_union_crt(inputs, genes=["GENE1", "GENE0"], B=49).table.to_csv(float_format="%.17g") + "\n"


def test_seeds_are_pinned():
    """A change here changes every user's results."""
    assert unit_seed(123, "STAT1") == 16001509993285747947
    assert len({unit_seed(s, n) for s in range(20) for n in "ABCDE"}) == 100


def test_undefined_units_are_left_out(tmp_path):
    C, Y, rng = random_problem(120, 3, 2)
    C[:, 2] = np.arange(120) < 9
    sets = {"A": np.sort(rng.choice(120, 30, replace=False)), "all": np.arange(120), "none": np.array([], int), "same": np.arange(9)}
    result = run_all_genes_union_crt(tiny_inputs(C, Y, sets), B=99, return_skew_normal=True, calibrate_skew_normal=True)
    assert result.treated_df["reason"].to_dict() == {"A": "", "all": "all_treated", "none": "no_treated", "same": "singular"}
    undefined = result.table["reason"] != ""
    assert result.table.loc[undefined, ["beta", "z", "p_raw", "p_skew", "p_adj"]].isna().all(axis=None)
    alone = run_all_genes_union_crt(tiny_inputs(C, Y, {"A": sets["A"]}), B=99, calibrate_skew_normal=True)
    np.testing.assert_array_equal(result.table.loc[~undefined, "p_adj"], alone.table["p_adj"])


@pytest.mark.parametrize("interrupted", [1, 2])
def test_resuming(inputs, tmp_path, monkeypatch, interrupted):
    monkeypatch.setattr(crt.engine, "BATCH", 3)
    whole = run_all_genes_union_crt(inputs, B=49, calibrate_skew_normal=True)
    real, calls = crt.engine.run_batch, []

    def stops(names, *args, **kwargs):
        calls.extend(names)
        if len(calls) > 3 * interrupted:
            raise KeyboardInterrupt
        return real(names, *args, **kwargs)

    monkeypatch.setattr(crt.engine, "run_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        run_all_genes_union_crt(inputs, B=49, calibrate_skew_normal=True, out_dir=tmp_path)
    assert len(list((tmp_path / "finished").glob("*.npz"))) == interrupted
    calls.clear()
    monkeypatch.setattr(crt.engine, "run_batch", lambda names, *a, **k: (calls.extend(names), real(names, *a, **k))[1])
    again = run_all_genes_union_crt(inputs, B=49, calibrate_skew_normal=True, out_dir=tmp_path)
    assert len(calls) == 8 - 3 * interrupted
    pd.testing.assert_frame_equal(again.table, whole.table, check_exact=True)
    pd.testing.assert_frame_equal(again.treated_df, whole.treated_df, check_exact=True)


def test_results_of_another_run_are_set_aside(inputs, tmp_path):
    """With a warning; they can be moved back. Only a run that must resume is refused."""
    run_all_genes_union_crt(inputs, B=19, out_dir=tmp_path)
    earlier = {path.name: path.read_bytes() for path in [*tmp_path.glob("finished/*.npz"), tmp_path / "run_fingerprint.json"]}
    with pytest.warns(ScreenWarning, match="n_resamples: 19 there, 29 now.*the finished targets are moved to finished_earlier"):
        again = run_all_genes_union_crt(inputs, B=29, out_dir=tmp_path)
    pd.testing.assert_frame_equal(again.table, run_all_genes_union_crt(inputs, B=29).table)
    assert {path.name: path.read_bytes() for path in (tmp_path / "finished_earlier").iterdir()} == earlier
    run_all_genes_union_crt(inputs, B=29, out_dir=tmp_path, resume=True)  # its own


def test_a_run_that_must_resume_refuses_another(screen_copy, inputs, tmp_path):
    run_all_genes_union_crt(inputs, B=19, out_dir=tmp_path)
    with pytest.raises(InputError, match="n_resamples: 19 there, 29 now"):
        run_all_genes_union_crt(inputs, B=29, out_dir=tmp_path, resume=True)
    screen_copy.obsm["cnmf_usage"] = screen_copy.obsm["cnmf_usage"][:, ::-1].copy()
    with pytest.raises(InputError, match="another screen"):
        run_all_genes_union_crt(prepare_crt_inputs(screen_copy), B=19, out_dir=tmp_path, resume=True)
    fresh = run_all_genes_union_crt(inputs, B=29, out_dir=tmp_path, resume=False)
    pd.testing.assert_frame_equal(fresh.table, run_all_genes_union_crt(inputs, B=29).table)


def test_adaptive_runs_redraw_small_p(inputs, screen, monkeypatch):
    monkeypatch.setattr("crt.settings.STAGES", (499, 1999))
    plain = run_all_genes_union_crt(inputs, B=99)
    result = run_all_genes_union_crt(inputs, B=99, adaptive=True)
    units = result.treated_df
    assert set(units["n_resamples"]) <= {99, 499, 1999}
    for gene in screen.uns["true_effects"]["gene"]:
        assert units.loc[gene, "n_stages"] == 3 and result.pvals_df.loc[gene].min() == 1 / 2000
    one_stage = units.index[units["n_stages"] == 1]
    pd.testing.assert_frame_equal(result.pvals_df.loc[one_stage], plain.pvals_df.loc[one_stage])
    assert (plain.treated_df["n_stages"] == 1).all()


def test_sides(inputs, screen):
    gene, program, effect = next(screen.uns["true_effects"].itertuples(index=False))
    with_effect, against = ("right", "left") if effect > 0 else ("left", "right")
    assert run_all_genes_union_crt(inputs, [gene], B=199, side=with_effect).pvals_df.loc[gene, program] == 1 / 200
    assert run_all_genes_union_crt(inputs, [gene], B=199, side=against, calibrate_skew_normal=True).pvals_df.loc[gene, program] > 0.9
    code = {"left": -1, "right": 1}[with_effect]
    by_code = run_all_genes_union_crt(inputs, [gene], B=199, skew_normal_side_code=code)
    pd.testing.assert_frame_equal(by_code.pvals_df, run_all_genes_union_crt(inputs, [gene], B=199, side=with_effect).pvals_df)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genes": ["GENE11"]}, "no guide targets GENE11. Similar to 'GENE11'"),
        ({"genes": ["GENE1", "GENE1"]}, "listed twice: GENE1"),
        ({"B": 0}, "resamples"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"base_seed": -1}, "seed"),
        ({"side": "up"}, "'left', 'both', 'right'"),
        ({"side": "left", "skew_normal_side_code": 1}, "Give one"),
        ({"skew_normal_side_code": 2}, "−1"),
        ({"propensity_mode": "none"}, "oracle_const"),
        ({"resampling_method": "permute"}, "stratified_perm"),
        ({"resampling_method": "stratified_perm", "resampling_kwargs": {"n_bin": 3}}, "stratified_perm has no option n_bin in"),
        ({"resampling_method": "stratified_perm", "resampling_kwargs": {"batch_key": "lane"}}, "no batch column 'lane'"),
    ],
)
def test_errors(inputs, options, message):
    with pytest.raises(InputError, match=message):
        run_all_genes_union_crt(inputs, **{"B": 9, **options})


def test_results_survive_the_file(inputs, screen_copy, tmp_path):
    result = run_all_genes_union_crt(inputs, B=49, calibrate_skew_normal=True, return_raw_pvals=True, return_skew_normal=True)
    store_results_in_adata(screen_copy, result)
    screen_copy.write_h5ad(tmp_path / "out.h5ad")
    held = ad.read_h5ad(tmp_path / "out.h5ad").uns["crt"]
    for name in ("pvals_df", "betas_df", "pvals_raw_df", "pvals_skew_df"):
        pd.testing.assert_frame_equal(held[name], result[name], check_names=False, check_index_type=False, check_column_type=False)
    pd.testing.assert_frame_equal(held["table"].reset_index(drop=True), result.table, check_dtype=False)
    assert held["settings"]["n_resamples"] == 49
    odd = result.pvals_df.rename(columns={"program_0": "a/b"})
    with pytest.warns(ScreenWarning, match=r"stored as '\|'"):
        store_results_in_adata(screen_copy, type(result)(**{n: odd if n == "pvals_df" else result[n] for n in result.__dataclass_fields__}))


def test_golden():
    """The default output on a fixed screen. Made by `python -m tests.crt.make_golden`; a change here changes users' results and needs a changelog line."""
    from tests.crt.make_golden import golden_table

    golden = pd.read_csv(GOLDEN / "crt_default.csv", keep_default_na=True)
    golden["reason"] = golden["reason"].fillna("")
    new = golden_table()
    pd.testing.assert_frame_equal(new, golden, rtol=1e-4, atol=1e-9, check_dtype=False)
    assert json.loads((GOLDEN / "crt_default.json").read_text())["made_by"] == "python -m tests.crt.make_golden"
