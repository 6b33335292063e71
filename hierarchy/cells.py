"""Sparse design matrices of the cells in blocks, built once for a screen: linear predictors and their transposes are products with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.blocks.base import CellBlocks, block_slices
from data_prep.blocks.disk import csr_tensor
from data_prep.blocks.place import Memory, Place
from data_prep.tensors import FateData


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellBlock:
    """Cells × columns: (guide, day) pairs in column g·D + d, then the M = D + R + 1 nuisance columns for days, replicates and the burden.

    Attributes
    ----------
    first
        Position of the block's first cell among all cells.
    rows
        The design matrix as CSR, (n, G·D + M).
    cols
        Its transpose as CSR, (G·D + M, n).
    nuisance
        The nuisance columns as a dense matrix, (n, M).
    prob
        Fate probabilities, (n, F), the reference fate first.
    pair_cells
        Indicator of the cells that carry both guides of a pair of one gene's guides on one day, as CSR, (pairs, n).
    pair_cols
        The transpose of `pair_cells` as CSR, (n, pairs).
    group
        Day and replicate of each cell as day · R + replicate, int32 (n,).
    """

    first: int
    rows: Float[Tensor, "cells columns"]
    cols: Float[Tensor, "columns cells"]
    nuisance: Float[Tensor, "cells nuisance"]
    prob: Float[Tensor, "cells fates"]
    pair_cells: Float[Tensor, "pairs cells"]
    pair_cols: Float[Tensor, "cells pairs"]
    group: Int[Tensor, " cells"]

    def carried(self) -> tuple[Int[Tensor, " entries"], Int[Tensor, " entries"]]:
        """The cell, counted from the block's first, and the column of each guide in a cell."""
        start, column = self.rows.crow_indices(), self.rows.col_indices()
        cell = torch.repeat_interleave(torch.arange(len(self.prob), device=column.device), start.diff())
        own = column < self.rows.shape[1] - self.nuisance.shape[1]
        return cell[own], column[own].long()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellDesign:
    """The cells in blocks, and counts of all of them together.

    Attributes
    ----------
    cells
        The blocks.
    place
        Where they are.
    slices
        The cells of each block.
    pair_guides
        The two guides of each pair of one gene's guides that a cell carries, int64 (pairs, 2).
    pair_day
        The day of each pair, int64 (pairs,).
    carried
        Fraction of the day's cells that carry each guide, float64 (G, D).
    guide_cells
        Number of cells that carry each guide on each day, int64 (G, D).
    gene_cells
        Number of cells that carry a guide of each gene on each day, int64 (L, D).
    group_cells
        Number of cells of each day and replicate, float64 (D, R).
    n_nuisance
        M, the number of nuisance columns.
    dtype
        Type of the matrices of the blocks.
    """

    cells: CellBlocks[CellBlock]
    place: Place
    slices: tuple[slice, ...]
    pair_guides: Int[Tensor, "pairs 2"]
    pair_day: Int[Tensor, " pairs"]
    carried: Float[Tensor, "guides days"]
    guide_cells: Int[Tensor, "guides days"]
    gene_cells: Int[Tensor, "genes days"]
    group_cells: Float[Tensor, "days reps"]
    n_nuisance: int
    dtype: torch.dtype

    @property
    def largest(self) -> int:
        """Number of cells of the largest block."""
        return self.slices[0].stop

    def split(self, values: Any) -> CellBlocks[Any]:
        """An array, tensor or matrix with a row for each cell, in the same blocks at the same place."""
        return self.cells.place(values[own] for own in self.slices)


def cell_design(data: FateData, *, dtype: torch.dtype = torch.float32, place: Place | None = None, size: int | None = None) -> CellDesign:
    """Build the design matrices of a screen on its device.

    Parameters
    ----------
    data
        The screen's tensors.
    dtype
        Type of the matrices.
    place
        Where the blocks are; in memory by default.
    size
        Number of cells of each block but the last; by default that of all computations.
    """
    place, slices = place or Memory(), block_slices(data.n_cells, size)
    index, n_days = _Index.of(data), data.n_days
    pairs = [index.pairs(own) for own in slices]
    slots = np.unique(np.concatenate([np.unique(key) for key, _ in pairs]))
    guide_cells, gene_cells = np.zeros((data.n_guides, n_days), np.int64), np.zeros((data.n_genes, n_days), np.int64)
    for own in slices:
        guide_cells += np.bincount(index.columns(own), minlength=guide_cells.size).reshape(guide_cells.shape)
        gene_cells += index.gene_cells(own)
    group_cells = np.bincount(index.day.astype(np.int64) * data.n_reps + index.rep, minlength=n_days * data.n_reps).reshape(n_days, -1)
    return CellDesign(
        cells=place.put(index.block(own, np.searchsorted(slots, key), where, slots.size, dtype) for own, (key, where) in zip(slices, pairs, strict=True)),
        place=place,
        slices=slices,
        pair_guides=torch.tensor(np.stack([slots // n_days // data.n_guides, slots // n_days % data.n_guides], 1), device=data.device),
        pair_day=torch.tensor(slots % n_days, device=data.device),
        carried=torch.tensor(guide_cells / np.maximum(group_cells.sum(1), 1), device=data.device),
        guide_cells=torch.tensor(guide_cells, device=data.device),
        gene_cells=torch.tensor(gene_cells, device=data.device),
        group_cells=torch.tensor(group_cells, dtype=torch.float64, device=data.device),
        n_nuisance=n_days + data.n_reps + 1,
        dtype=dtype,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Index:
    """The guides, days and replicates of all cells as arrays on the host."""

    data: FateData
    offsets: np.ndarray
    guides: np.ndarray
    gene: np.ndarray
    day: np.ndarray
    rep: np.ndarray

    @classmethod
    def of(cls, data: FateData) -> "_Index":
        offsets, guides, gene, day, rep = (t.cpu().numpy() for t in (data.cell_offsets, data.cell_guides, data.guide_to_gene, data.day, data.rep))
        return cls(data=data, offsets=offsets, guides=guides, gene=gene, day=day, rep=rep)

    def entries(self, own: slice) -> tuple[np.ndarray, np.ndarray]:
        """The cell, counted from the first of a block, and the guide of each guide in a cell."""
        offsets = self.offsets[own.start : own.stop + 1]
        return np.repeat(np.arange(own.stop - own.start), np.diff(offsets)), self.guides[offsets[0] : offsets[-1]].astype(np.int64)

    def columns(self, own: slice) -> np.ndarray:
        """The column of each guide in a cell of a block."""
        cell, guide = self.entries(own)
        return guide * self.data.n_days + self.day[own][cell]

    def gene_cells(self, own: slice) -> np.ndarray:
        """Number of a block's cells that carry a guide of each gene on each day, (L, D); a cell with several of its guides counts once."""
        data, (cell, guide) = self.data, self.entries(own)
        carried = np.unique(cell * np.int64(data.n_genes) + self.gene[guide])
        key = carried % data.n_genes * data.n_days + self.day[own][carried // data.n_genes]
        return np.bincount(key, minlength=data.n_genes * data.n_days).reshape(data.n_genes, -1)

    def pairs(self, own: slice) -> tuple[np.ndarray, np.ndarray]:
        """The cells of a block with two guides a < b of one gene: the key (a·G + b)·D + day of each, and the cell."""
        data, (cell, guide) = self.data, self.entries(own)
        key = cell * np.int64(data.n_genes) + self.gene[guide]
        order = np.lexsort((guide, key))
        cell, guide, key = cell[order], guide[order], key[order]
        size = np.arange(key.size)
        later = np.searchsorted(key, key, side="right") - size - 1  # entries of the same cell and gene after this one
        first = np.repeat(size, later)
        step = np.arange(first.size) - np.repeat(np.cumsum(later) - later, later) + 1
        a, b, where = guide[first], guide[first + step], cell[first]
        return (a * data.n_guides + b) * data.n_days + self.day[own][where], where

    def block(self, own: slice, slot: np.ndarray, where: np.ndarray, n_pairs: int, dtype: torch.dtype) -> CellBlock:
        """A block, with its pairs by their slots and cells."""
        data, n = self.data, own.stop - own.start
        device, n_days, n_beta = data.device, data.n_days, data.n_guides * data.n_days
        day, rep = self.day[own].astype(np.int64), self.rep[own].astype(np.int64)
        nuisance = np.zeros((n, n_days + data.n_reps + 1), np.float32)
        nuisance[np.arange(n), day] = 1.0
        nuisance[np.arange(n), n_days + rep] = 1.0
        nuisance[:, -1] = data.guide_burden[own].cpu().numpy()
        rows = _with_nuisance(self.offsets[own.start : own.stop + 1], self.columns(own), nuisance, np.stack([day, n_days + rep], 1) + n_beta, n_beta)
        pair_cells = sp.csr_matrix((np.ones(slot.size, np.float32), (slot, where)), shape=(n_pairs, n))
        prob = data.fate_prob[own].to(dtype).contiguous()  # by row, whatever the source: the order of sums, so their last digits, depends on the layout
        return CellBlock(
            first=own.start,
            rows=_csr(rows, device, dtype),
            cols=_csr(rows.T.tocsr(), device, dtype),
            nuisance=torch.from_numpy(nuisance).to(device, dtype),
            prob=prob / prob.sum(1, keepdim=True),  # sums to 1 within the rounding of dtype: gradients assume it
            pair_cells=_csr(pair_cells, device, dtype),
            pair_cols=_csr(pair_cells.T.tocsr(), device, dtype),
            group=torch.from_numpy((day * data.n_reps + rep).astype(np.int32)).to(device),
        )


def _with_nuisance(offsets: np.ndarray, columns: np.ndarray, nuisance: np.ndarray, ones: np.ndarray, n_beta: int) -> sp.csr_matrix:
    """The design matrix of cells from the columns of their guides, the nuisance columns, and the columns of their day and replicate."""
    n, width = nuisance.shape
    more = ones.shape[1] + 1
    starts = offsets - offsets[0] + more * np.arange(n + 1)
    indices = np.empty(starts[-1], np.int32)
    values = np.ones(starts[-1], np.float32)
    last = starts[1:]
    indices[np.arange(columns.size) + more * np.repeat(np.arange(n), np.diff(offsets))] = columns
    for i in range(ones.shape[1]):
        indices[last - more + i] = ones[:, i]
    indices[last - 1] = n_beta + width - 1
    values[last - 1] = nuisance[:, -1]
    return sp.csr_matrix((values, indices, starts), shape=(n, n_beta + width))


def whole_block(data: FateData, design: CellDesign) -> CellBlock:
    """All cells of a screen as one block in memory."""
    found = design if isinstance(design.place, Memory) and len(design.cells) == 1 else cell_design(data, dtype=design.dtype, size=data.n_cells)
    items: Sequence[CellBlock] = found.cells.items  # type: ignore[attr-defined]
    return items[0]


def _csr(matrix: sp.csr_matrix, device: torch.device, dtype: torch.dtype) -> Tensor:
    matrix.sort_indices()
    start, column, value = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return csr_tensor(start.int(), column.int(), value.to(dtype), matrix.shape).to(device)  # products take indices of 32 bits as they are
