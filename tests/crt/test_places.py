"""Results do not depend on where the cells are: in memory, in files, on the workers of a cluster."""

import numpy as np
import pandas as pd
import pytest

from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
from data_prep.blocks.place import Files, Memory

CAUCHY = {"method": "saddlepoint", "statistic": "cauchy"}
RUNS = {
    "cauchy": CAUCHY,
    "mean": {"method": "saddlepoint"},
    "permuted": {"method": "saddlepoint", "statistic": "normal_scores", "resampling_method": "stratified_perm"},
    "resamples": {"B": 99, "calibrate_skew_normal": True},
    "resampled scores": {"B": 49, "statistic": "cauchy"},
    "permuted resamples": {"B": 49, "resampling_method": "stratified_perm"},
    "constant": {**CAUCHY, "propensity_mode": "oracle_const"},
}
READING = {
    "complement": {},
    "ntc_cells": {"control_group": "ntc_cells", "multiple_guides": "keep"},
    "burden": {"burden": "others"},
    "plain": {"transform": "none"},
}


@pytest.fixture(scope="module")
def screen():
    return make_sceptre_style_synth(N=1100, K=5, n_target_genes=5, guides_per_gene=2, seed=3)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("data_prep.blocks.base.BLOCK_CELLS", 256)


def same(one, other):
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    pd.testing.assert_frame_equal(one.treated_df, other.treated_df, check_exact=True)


@pytest.mark.parametrize("reading", READING)
@pytest.mark.parametrize("run", RUNS)
def test_files_give_the_bytes_of_memory(screen, tmp_path, small_blocks, reading, run):
    if reading != "complement" and run not in ("cauchy", "resamples"):
        pytest.skip("the control group and the burden are independent of the method")
    here, there = (prepare_crt_inputs(screen, place=place, **READING[reading]) for place in (Memory(), Files(tmp_path)))
    assert isinstance(there.rows, np.memmap) and len(here.blocks()) == 5
    same(run_all_genes_union_crt(there, n_jobs=2, **RUNS[run]), run_all_genes_union_crt(here, **RUNS[run]))


@pytest.mark.parametrize("run", ["cauchy", "resamples"])
def test_several_blocks_agree_with_one(screen, monkeypatch, run):
    inputs = prepare_crt_inputs(screen)
    whole = run_all_genes_union_crt(inputs, **RUNS[run])
    monkeypatch.setattr("data_prep.blocks.base.BLOCK_CELLS", 256)
    parts = run_all_genes_union_crt(inputs, **RUNS[run])
    for name in ("beta", "se", "p", "ci_low"):
        np.testing.assert_allclose(parts.table[name], whole.table[name], rtol=2e-4, atol=1e-9)
