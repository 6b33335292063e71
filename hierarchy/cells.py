"""Sparse design matrices of the cells, built once for a screen: linear predictors and their transposes are single products."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.tensors import FateData


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellDesign:
    """Cells × columns: (guide, day) pairs in column g·D + d, then the M = D + R + 1 nuisance columns for days, replicates and the burden.

    Attributes
    ----------
    rows
        The design matrix as CSR, (N, G·D + M).
    cols
        Its transpose as CSR, (G·D + M, N).
    nuisance
        The nuisance columns as a dense matrix, (N, M).
    prob
        Fate probabilities, (N, F), the reference fate first.
    pair_cells
        Indicator of the cells that carry both guides of a pair of one gene's guides on one day, as CSR, (pairs, N).
    pair_cols
        The transpose of `pair_cells` as CSR, (N, pairs).
    pair_guides
        The two guides of each pair, int64 (pairs, 2).
    pair_day
        The day of each pair, int64 (pairs,).
    carried
        Fraction of the day's cells that carry each guide, float64 (G, D).
    guide_cells
        Number of cells that carry each guide on each day, int64 (G, D).
    gene_cells
        Number of cells that carry a guide of each gene on each day, int64 (L, D).
    group
        Day and replicate of each cell as day · R + replicate, int64 (N,).
    group_cells
        Number of cells of each day and replicate, float64 (D, R).
    """

    rows: Float[Tensor, "cells columns"]
    cols: Float[Tensor, "columns cells"]
    nuisance: Float[Tensor, "cells nuisance"]
    prob: Float[Tensor, "cells fates"]
    pair_cells: Float[Tensor, "pairs cells"]
    pair_cols: Float[Tensor, "cells pairs"]
    pair_guides: Int[Tensor, "pairs 2"]
    pair_day: Int[Tensor, " pairs"]
    carried: Float[Tensor, "guides days"]
    guide_cells: Int[Tensor, "guides days"]
    gene_cells: Int[Tensor, "genes days"]
    group: Int[Tensor, " cells"]
    group_cells: Float[Tensor, "days reps"]

    @property
    def n_nuisance(self) -> int:
        """M, the number of nuisance columns."""
        return self.nuisance.shape[1]


def cell_design(data: FateData, *, dtype: torch.dtype = torch.float32) -> CellDesign:
    """Build the design matrices of a screen on its device."""
    device = data.device
    offsets, guide, day, rep = (t.cpu().numpy() for t in (data.cell_offsets, data.cell_guides, data.day, data.rep))
    n, n_days = data.n_cells, data.n_days
    burden = data.guide_burden.cpu().numpy()
    own = sp.csr_matrix((np.ones(guide.size, np.float32), guide * n_days + np.repeat(day, np.diff(offsets)), offsets), shape=(n, data.n_guides * n_days))
    cell = np.arange(n)
    nuisance = np.zeros((n, n_days + data.n_reps + 1), np.float32)
    nuisance[cell, day] = 1.0
    nuisance[cell, n_days + rep] = 1.0
    nuisance[:, -1] = burden
    rows = sp.hstack([own, sp.csr_matrix(nuisance)], format="csr")
    pair_cells, pair_guides, pair_day = _same_gene_pairs(data, offsets, guide, day)
    prob = data.fate_prob.to(dtype).T.contiguous().T  # by column, whatever the source: the order of sums, so their last digits, depends on the layout
    in_day = np.maximum(np.bincount(day, minlength=n_days), 1)
    group = data.day * data.n_reps + data.rep
    guide_cells = np.bincount(own.indices, minlength=own.shape[1]).reshape(-1, n_days)
    return CellDesign(
        rows=_csr(rows, device, dtype),
        cols=_csr(rows.T.tocsr(), device, dtype),
        nuisance=torch.from_numpy(nuisance).to(device, dtype),
        prob=prob / prob.sum(1, keepdim=True),  # sums to 1 within the rounding of dtype: gradients assume it
        pair_cells=_csr(pair_cells, device, dtype),
        pair_cols=_csr(pair_cells.T.tocsr(), device, dtype),
        pair_guides=torch.from_numpy(pair_guides).to(device),
        pair_day=torch.from_numpy(pair_day).to(device),
        carried=torch.from_numpy(guide_cells / in_day).to(device),
        guide_cells=torch.from_numpy(guide_cells).to(device),
        gene_cells=torch.from_numpy(_gene_cells(data, offsets, guide, day)).to(device),
        group=group,
        group_cells=torch.bincount(group, minlength=n_days * data.n_reps).double().reshape(n_days, -1),
    )


def _gene_cells(data: FateData, offsets: np.ndarray, guide: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Number of cells that carry a guide of each gene on each day, (L, D); a cell with several of its guides counts once."""
    cell = np.repeat(np.arange(data.n_cells), np.diff(offsets))
    carried = np.unique(cell * np.int64(data.n_genes) + data.guide_to_gene.cpu().numpy()[guide])
    return np.bincount(carried % data.n_genes * data.n_days + day[carried // data.n_genes], minlength=data.n_genes * data.n_days).reshape(-1, data.n_days)


@contextmanager
def quiet_sparse() -> Iterator[None]:
    """Without torch's notes that its CSR tensors are in beta and that their invariants are not checked, which users cannot act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support is in beta|invariant checks are implicitly disabled)", UserWarning)
        yield


def _csr(matrix: sp.csr_matrix, device: torch.device, dtype: torch.dtype) -> Tensor:
    matrix.sort_indices()
    parts = (torch.from_numpy(matrix.indptr.astype(np.int64)), torch.from_numpy(matrix.indices.astype(np.int64)), torch.from_numpy(matrix.data).to(dtype))
    with quiet_sparse():
        return torch.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=False).to(device)


def _same_gene_pairs(data: FateData, offsets: np.ndarray, guide: np.ndarray, day: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Cells with two guides a < b of one gene: an indicator (pairs, N) with one row for each (a, b, day)."""
    n, n_guides = data.n_cells, data.n_guides
    gene = data.guide_to_gene.cpu().numpy()
    cell = np.repeat(np.arange(n), np.diff(offsets))
    order = np.lexsort((guide, gene[guide], cell))
    cell, guide = cell[order], guide[order]
    key = cell * np.int64(data.n_genes) + gene[guide]
    size = np.arange(key.size)
    group_end = np.searchsorted(key, key, side="right")
    later = group_end - size - 1  # entries of the same cell and gene after this one
    first = np.repeat(size, later)
    step = np.arange(first.size) - np.repeat(np.cumsum(later) - later, later) + 1
    a, b, where = guide[first], guide[first + step], cell[first]
    slot_key = (a * np.int64(n_guides) + b) * data.n_days + day[where]
    slots, slot = np.unique(slot_key, return_inverse=True)
    pairs = np.stack([slots // data.n_days // n_guides, slots // data.n_days % n_guides], 1)
    matrix = sp.csr_matrix((np.ones(slot.size, np.float32), (slot, where)), shape=(slots.size, n))
    return matrix, pairs, slots % data.n_days
