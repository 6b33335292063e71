"""Results do not depend on where the cells are: in memory, in files, on the workers of a cluster."""

import gc
import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import crt
import data_prep
from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
from crt.cells.block import CellBlock, MeanScores, Tilts, logistic_sums, null_sums, tilt_sums
from crt.cells.device import OnDevice
from crt.linear.scores import mean_scores
from data_prep.blocks.cluster import ClusterLost, connect
from data_prep.blocks.place import Files, Memory, Workers
from data_prep.errors import InputError

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
    monkeypatch.setattr("data_prep.blocks.base.GROUP_BLOCKS", 1)


def same(one, other):
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    pd.testing.assert_frame_equal(one.treated_df, other.treated_df, check_exact=True)


CASES = [("complement", run) for run in RUNS] + [(reading, run) for reading in ("ntc_cells", "burden", "plain") for run in ("cauchy", "resamples")]


@pytest.mark.parametrize(("reading", "run"), CASES)
def test_files_give_the_bytes_of_memory(screen, tmp_path, small_blocks, reading, run):
    here, there = (prepare_crt_inputs(screen, place=place, **READING[reading]) for place in (Memory(), Files(tmp_path)))
    assert isinstance(there.rows, np.memmap) and len(here.blocks()) == 5
    same(run_all_genes_union_crt(there, n_jobs=2, **RUNS[run]), run_all_genes_union_crt(here, **RUNS[run]))


def test_files_of_inputs_are_deleted_with_them(screen, tmp_path):
    inputs = prepare_crt_inputs(screen, place=Files(tmp_path))
    crt.centred_effects(inputs, run_all_genes_union_crt(inputs, **CAUCHY), fdr=1.1, **CAUCHY)
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 2  # the rows and the columns of the inputs
    del inputs
    gc.collect()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("run", ["cauchy", "resamples"])
def test_several_blocks_agree_with_one(screen, monkeypatch, run):
    inputs = prepare_crt_inputs(screen)
    whole = run_all_genes_union_crt(inputs, **RUNS[run])
    monkeypatch.setattr("data_prep.blocks.base.BLOCK_CELLS", 256)
    parts = run_all_genes_union_crt(inputs, **RUNS[run])
    for name in ("beta", "se", "p", "ci_low"):
        np.testing.assert_allclose(parts.table[name], whole.table[name], rtol=2e-4, atol=1e-9)


def on_cluster(client, screen, folder, run, reading="complement"):
    return run_all_genes_union_crt(prepare_crt_inputs(screen, place=Workers(client, Files(folder)), **READING[reading]), **RUNS[run])


def test_a_cluster_gives_the_bytes_of_memory(screen, tmp_path, small_blocks):
    with connect("local:2") as client:
        client.run(setattr, data_prep.blocks.base, "BLOCK_CELLS", 256)
        client.run(setattr, data_prep.blocks.base, "GROUP_BLOCKS", 1)
        for run, reading in (("cauchy", "complement"), ("resamples", "complement"), ("resamples", "ntc_cells")):
            here = run_all_genes_union_crt(prepare_crt_inputs(screen, **READING[reading]), **RUNS[run])
            same(on_cluster(client, screen, tmp_path, run, reading), here)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_no_byte(screen, tmp_path, small_blocks):
    here = run_all_genes_union_crt(prepare_crt_inputs(screen), **CAUCHY)
    with connect("local:2") as client:
        for seconds in (0.2, 0.5, 1.0, 1.5, 2.0):
            killer = threading.Timer(seconds, lambda: os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL))
            killer.start()
            same(on_cluster(client, screen, tmp_path, "cauchy"), here)
            killer.cancel()


@pytest.mark.slow
def test_a_lost_scheduler_keeps_finished_targets(screen, tmp_path, small_blocks, monkeypatch):
    """The same call resumes, in memory too, and gives the same bytes."""
    monkeypatch.setattr(crt.engine, "STORED_BATCH", 1)
    here = run_all_genes_union_crt(prepare_crt_inputs(screen), **CAUCHY)
    with connect("local:1") as client:
        inputs, real = prepare_crt_inputs(screen, place=Workers(client, Files(tmp_path))), crt.engine.run_batch

        def stops(names, *rest):
            if names == ["GENE3"]:
                client.cluster.close()
            return real(names, *rest)

        monkeypatch.setattr(crt.engine, "run_batch", stops)
        with pytest.raises(ClusterLost, match="run the same command again"):
            run_all_genes_union_crt(inputs, out_dir=tmp_path / "out", **CAUCHY)
    monkeypatch.setattr(crt.engine, "run_batch", real)
    assert len(list((tmp_path / "out" / "finished").glob("*.npz"))) == 3
    same(run_all_genes_union_crt(prepare_crt_inputs(screen), out_dir=tmp_path / "out", resume=True, **CAUCHY), here)


DEVICES = [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("run", ["cauchy", "mean", "permuted", "constant", "resampled scores"])
def test_a_device_agrees(screen, small_blocks, device, run):
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    here, there = (run_all_genes_union_crt(prepare_crt_inputs(screen, place=place), **RUNS[run]).table for place in (Memory(), OnDevice(device)))
    np.testing.assert_allclose(np.log10(there["p"]), np.log10(here["p"]), atol=1e-3)
    for name in ("beta", "se"):
        np.testing.assert_allclose(there[name], here[name], rtol=1e-5)


def test_a_function_as_the_propensity_needs_memory(screen, tmp_path):
    inputs = prepare_crt_inputs(screen, place=Files(tmp_path))
    with pytest.raises(InputError, match="needs the screen in memory"):
        run_all_genes_union_crt(inputs, propensity_mode=lambda treated, C: np.full(len(C), 0.1), **CAUCHY)


class Transfers(TorchDispatchMode):
    """Counts what leaves the device or waits for it, and tensors that are made elsewhere. "meta" stands for a device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.found.append(function)
        return function(*args, **(kwargs or {}))


def test_sums_on_a_device_never_wait_for_the_host(screen):
    inputs = prepare_crt_inputs(screen, place=OnDevice(torch.device("cpu")))
    blocks, mean = inputs.blocks(), mean_scores(inputs.blocks())
    (block,), beta = blocks.items, np.zeros((2, len(inputs.covar_names)))
    tilts = Tilts(unit=np.array([0, 1]), column=np.array([0, 3]), s=np.array([0.1, -0.1]), beta=beta)
    assert isinstance(block, CellBlock) and isinstance(mean, MeanScores)
    with Transfers() as seen:
        found = [*logistic_sums(block, beta, np.ones(2, bool)), null_sums(block, None, mean, beta, 5).low, tilt_sums(block, None, mean, tilts)]
    assert not seen.found and all(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in found)
