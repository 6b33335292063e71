"""The same results wherever the blocks of cells are, and however many."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from data_prep import InputError, ScreenDesign, ScreenKeys, ScreenWarning, build_fate_data, read_screen, simulate_fate_screen
from data_prep.blocks.cluster import connect
from data_prep.blocks.place import Files, Memory, Workers
from hierarchy import FitSettings, check_fit, check_ntc, check_permuted, fit, summarise, summarise_guides
from hierarchy.cells import cell_design, whole_block

SANDWICH = FitSettings(se="sandwich")


@pytest.fixture(scope="module")
def screen():
    design = ScreenDesign(n_cells=600, n_genes=6, guides_per_gene=(1, 4), n_ntc_guides=20, n_days=3, moi=4.0)
    adata = simulate_fate_screen(design, seed=3).adata
    adata.obs["clone"] = np.random.default_rng(0).integers(0, 40, 600).astype(str)
    return read_screen(adata, keys=ScreenKeys(cluster="clone"))


@pytest.fixture
def blocks_of_150(monkeypatch):
    """Four blocks, of 600 cells, and covariances between genes from probes, as on large screens."""
    monkeypatch.setattr("data_prep.blocks.base.BLOCK_CELLS", 150)
    monkeypatch.setattr("hierarchy.inference.marginals.DENSE_LIMIT", 0)


def arrays_of(value):
    """All arrays and numbers of a result, in order."""
    if dataclasses.is_dataclass(value):
        return [array for field in dataclasses.fields(value) for array in arrays_of(getattr(value, field.name))]
    if isinstance(value, pd.DataFrame):
        return [value.select_dtypes("number").to_numpy()]
    return [np.asarray(value)] if isinstance(value, (np.ndarray, float)) and np.asarray(value).dtype.kind in "fi" else []


def results(screen, place, settings=None, *, permuted=False, by_cell=False):
    """Everything that is computed from the cells of a screen."""
    data = build_fate_data(screen, ref_fate="EC")
    data = dataclasses.replace(data, cluster=None) if by_cell else data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        fitted = fit(data, settings=settings, place=place)
    found = [summarise(fitted), summarise_guides(fitted, ["MES", "NEU:MES"]), check_fit(fitted, n_draws=8), check_ntc(fitted, screen)]
    found += [check_permuted(fitted)] if permuted else []
    return [np.array(fitted.elbo), fitted.weight_table.numpy(), *(array for one in found for array in arrays_of(one))]


def bytes_of(arrays):
    return [array.tobytes() for array in arrays]


def test_designs_of_blocks_are_parts_of_the_whole(screen, blocks_of_150):
    data = build_fate_data(screen, ref_fate="EC")
    split, one = cell_design(data), cell_design(data, size=600)
    whole = whole_block(data, split)
    assert len(split.cells) == 4 and len(split.pair_day) and whole_block(data, one) is one.cells.items[0]
    for name in ("rows", "nuisance", "prob", "pair_cols"):
        parts = [getattr(block, name) for block in split.cells.items]
        dense = [part.to_dense() if "csr" in str(part.layout) else part for part in [*parts, getattr(whole, name)]]
        assert torch.equal(torch.cat(dense[:-1]), dense[-1])
    for block in split.cells.items:
        assert torch.equal(block.cols.to_dense(), block.rows.to_dense().T) and torch.equal(block.pair_cells.to_dense(), block.pair_cols.to_dense().T)
    for name in ("pair_guides", "pair_day", "carried", "guide_cells", "gene_cells", "group_cells"):
        assert torch.equal(getattr(split, name), getattr(one, name))
    genes = torch.stack([(whole.rows.to_dense()[:, data.n_days * guide : data.n_days * (guide + 1)]) for guide in range(data.n_guides)])
    gene = torch.stack([genes[data.guide_to_gene == g].amax(0).sum(0) for g in range(data.n_genes)])
    assert torch.equal(split.gene_cells, gene.long())


@pytest.mark.parametrize(("settings", "by_cell"), [(None, False), (SANDWICH, False), (SANDWICH, True)], ids=["posterior", "clusters", "cells"])
def test_several_blocks_are_one_within_rounding(screen, monkeypatch, settings, by_cell):
    one = results(screen, Memory(), settings, by_cell=by_cell)
    monkeypatch.setattr("data_prep.blocks.base.BLOCK_CELLS", 150)
    for a, b in zip(one, results(screen, None, settings, by_cell=by_cell), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


def test_files_change_no_byte(screen, blocks_of_150, tmp_path):
    assert bytes_of(results(screen, Files(tmp_path), permuted=True)) == bytes_of(results(screen, Memory(), permuted=True))


def test_files_change_no_byte_of_sandwich_errors(screen, blocks_of_150, tmp_path):
    assert bytes_of(results(screen, Files(tmp_path), SANDWICH)) == bytes_of(results(screen, Memory(), SANDWICH))


def test_a_cluster_changes_no_byte(screen, blocks_of_150, tmp_path):
    with connect("local:2") as client:
        found = results(screen, Workers(client, Files(tmp_path)), SANDWICH)
    assert bytes_of(found) == bytes_of(results(screen, Memory(), SANDWICH))


def test_what_needs_all_cells_in_memory_is_refused_elsewhere(small, tmp_path):
    with pytest.raises(InputError, match="'mean_field' needs all cells in memory. Choose 'gene_block'"):
        fit(small, settings=FitSettings(posterior="mean_field"), place=Files(tmp_path))
