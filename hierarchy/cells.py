"""The cells' sparse designs, built once for a screen: linear predictors and their transposes are single products."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from data_prep.tensors import FateData


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellDesign:
    """Cells × columns, where the columns are (guide, day) pairs g·D + d, then D days, R replicates and the burden.

    Attributes
    ----------
    rows, cols
        The design as CSR (N, G·D + M), M = D + R + 1, and its transpose, float32.
    nuisance
        The last M columns, dense (N, M).
    prob
        Fate probabilities (N, F), the reference first.
    pair_cells, pair_cols
        CSR (pairs, N), cells that carry both guides of a pair of one gene on a day, and its transpose.
    pair_guides, pair_day
        int64 (pairs, 2) and (pairs,).
    carried
        float64 (G, D), the fraction of the day's cells that carry each guide.
    """

    rows: Tensor
    cols: Tensor
    nuisance: Tensor
    prob: Tensor
    pair_cells: Tensor
    pair_cols: Tensor
    pair_guides: Tensor
    pair_day: Tensor
    carried: Tensor

    @property
    def n_nuisance(self) -> int:
        """M."""
        return self.nuisance.shape[1]


def cell_design(data: FateData, *, dtype: torch.dtype = torch.float32) -> CellDesign:
    """Build the designs of a screen on its device."""
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
    prob = data.fate_prob.to(dtype)
    in_day = np.maximum(np.bincount(day, minlength=n_days), 1)
    carried = np.bincount(own.indices, minlength=own.shape[1]).reshape(-1, n_days) / in_day
    return CellDesign(
        rows=_csr(rows, device, dtype),
        cols=_csr(rows.T.tocsr(), device, dtype),
        nuisance=torch.from_numpy(nuisance).to(device, dtype),
        prob=prob / prob.sum(1, keepdim=True),  # to the last digit of dtype: gradients take the sum for 1
        pair_cells=_csr(pair_cells, device, dtype),
        pair_cols=_csr(pair_cells.T.tocsr(), device, dtype),
        pair_guides=torch.from_numpy(pair_guides).to(device),
        pair_day=torch.from_numpy(pair_day).to(device),
        carried=torch.from_numpy(carried).to(device),
    )


def _csr(matrix: sp.csr_matrix, device: torch.device, dtype: torch.dtype) -> Tensor:
    matrix.sort_indices()
    parts = (torch.from_numpy(matrix.indptr.astype(np.int64)), torch.from_numpy(matrix.indices.astype(np.int64)), torch.from_numpy(matrix.data).to(dtype))
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
