"""The same results wherever the blocks of cells are, and however many."""

import dataclasses
import gc
import os
import signal
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from data_prep import InputError, ScreenDesign, ScreenKeys, ScreenWarning, build_fate_data, read_screen, simulate_fate_screen
from data_prep.blocks.cluster import connect
from data_prep.blocks.place import Files, Memory, Workers
from hierarchy import FitSettings, Priors, check_fit, check_ntc, check_permuted, fit, summarise, summarise_guides
from hierarchy.cells import cell_design, whole_block
from hierarchy.inference.natural import natural_step, start
from hierarchy.problem import Problem


@pytest.fixture(scope="module")
def screen():
    design = ScreenDesign(n_cells=600, n_genes=6, guides_per_gene=(1, 4), n_ntc_guides=20, n_days=3, moi=4.0)
    adata = simulate_fate_screen(design, seed=3).adata
    adata.obs["clone"] = np.random.default_rng(0).integers(0, 40, 600).astype(str)
    return read_screen(adata, keys=ScreenKeys(cluster="clone"))


@pytest.fixture(scope="module")
def several():
    """Six blocks in three groups, of 600 cells, and covariances between genes from probes, as on large screens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.blocks.base.BLOCK_CELLS", 100)
        patch.setattr("data_prep.blocks.base.GROUP_BLOCKS", 2)
        patch.setattr("hierarchy.inference.marginals.DENSE_LIMIT", 0)
        yield


@pytest.fixture(scope="module")
def in_memory(screen, several):
    return bytes_of(results(screen, Memory(), permuted=True))


def arrays_of(value):
    """All arrays and numbers of a result, in order."""
    if dataclasses.is_dataclass(value):
        return [array for field in dataclasses.fields(value) for array in arrays_of(getattr(value, field.name))]
    if isinstance(value, pd.DataFrame):
        return [value.select_dtypes("number").to_numpy()]
    return [np.asarray(value)] if isinstance(value, (np.ndarray, float)) and np.asarray(value).dtype.kind in "fi" else []


def results(screen, place, *, permuted=False, by_cell=False):
    """Everything that is computed from the cells of a screen, with sandwich errors, which need all that the posterior's do."""
    data = build_fate_data(screen, ref_fate="EC")
    data = dataclasses.replace(data, cluster=None) if by_cell else data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        fitted = fit(data, settings=FitSettings(se="sandwich"), place=place)
    found = [summarise(fitted), summarise_guides(fitted, ["MES", "NEU:MES"]), check_fit(fitted, n_draws=4), check_ntc(fitted, screen)]
    found += [check_permuted(fitted)] if permuted else []
    return [np.array(fitted.elbo), fitted.weight_table.numpy(), *(array for one in found for array in arrays_of(one))]


def bytes_of(arrays):
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("by_cell", [False, True], ids=["clusters", "cells"])
def test_several_blocks_are_one_within_rounding(screen, monkeypatch, by_cell):
    one = results(screen, Memory(), by_cell=by_cell)
    monkeypatch.setattr("data_prep.blocks.base.BLOCK_CELLS", 220)
    for a, b in zip(one, results(screen, None, by_cell=by_cell), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


def test_designs_of_blocks_are_parts_of_the_whole(screen, several):
    data = build_fate_data(screen, ref_fate="EC")
    split, one = cell_design(data), cell_design(data, size=600)
    whole = whole_block(data, split)
    assert len(split.cells) == 6 and len(split.pair_day) and whole_block(data, one) is one.cells.items[0]
    for name in ("rows", "nuisance", "prob", "pair_cols"):
        parts = [getattr(block, name) for block in split.cells.items]
        dense = [part.to_dense() if "csr" in str(part.layout) else part for part in [*parts, getattr(whole, name)]]
        assert torch.equal(torch.cat(dense[:-1]), dense[-1])
    for block in split.cells.items:
        assert torch.equal(block.cols.to_dense(), block.rows.to_dense().T) and torch.equal(block.pair_cells.to_dense(), block.pair_cols.to_dense().T)
    for name in ("pair_guides", "pair_day", "carried", "guide_cells", "gene_cells", "group_cells"):
        assert torch.equal(getattr(split, name), getattr(one, name))
    by_guide = whole.rows.to_dense()[:, : data.n_guides * data.n_days].reshape(600, data.n_guides, data.n_days)
    of_genes = torch.stack([by_guide[:, data.guide_to_gene == gene].amax(1).sum(0) for gene in range(data.n_genes)])
    assert torch.equal(split.gene_cells, of_genes.long())


def test_files_change_no_byte(screen, several, in_memory, tmp_path):
    assert bytes_of(results(screen, Files(tmp_path), permuted=True)) == in_memory
    gc.collect()
    assert not any(tmp_path.iterdir())  # what nothing refers to is deleted


def test_a_cluster_changes_no_byte(screen, several, in_memory, tmp_path):
    with connect("local:2") as client:
        place = Workers(client, Files(tmp_path))
        assert bytes_of(results(screen, place)) == in_memory[:-3]
        cells = cell_design(build_fate_data(screen, ref_fate="EC"), place=place).cells
        for _ in range(20):
            cells.map_reduce(_n_cells)
        holders = client.who_has(cells.futures)
        assert [holders[future.key] for future in cells.futures] == [(worker,) for worker in cells.near] and len(set(cells.near)) == 2  # sums move no blocks


def _n_cells(block):
    return len(block.prob)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_no_byte(screen, several, in_memory, tmp_path):
    with connect("local:2") as client:
        for seconds in (0.5, 1.5, 3.0, 4.5, 6.0):
            killer = threading.Timer(seconds, _kill_one, [client])
            killer.start()
            assert bytes_of(results(screen, Workers(client, Files(tmp_path)))) == in_memory[:-3]
            killer.cancel()


def _kill_one(client):
    pids = client.run(os.getpid)
    os.kill(next(iter(pids.values())), signal.SIGKILL)


def test_what_needs_all_cells_in_memory_is_refused_elsewhere(small, tmp_path):
    with pytest.raises(InputError, match="'mean_field' needs all cells in memory. Choose 'gene_block'"):
        fit(small, settings=FitSettings(posterior="mean_field"), place=Files(tmp_path))


class _Reads(TorchDispatchMode):
    """Counts values that the host waits for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_steps_read_no_values_from_blocks(screen):
    """The host waits for a device a few times in a step, however many blocks there are."""
    data, counts = build_fate_data(screen, ref_fate="EC"), []
    for size in (600, 100):
        problem = Problem.of(data, Priors(), FitSettings())
        problem = dataclasses.replace(problem, design=cell_design(data, size=size))
        state = natural_step(problem, start(problem))
        with _Reads() as reads:
            natural_step(problem, state)
        counts.append(reads.count)
    assert counts[0] == counts[1] <= 12, counts
