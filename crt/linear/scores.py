"""Outcome scores: what the linear statistic T_k = Σ_i r_ik (x_i − p_i) is made of, the outcome itself or its normal scores, residualised on the covariates."""

from functools import lru_cache, partial, singledispatch

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int
from scipy.special import ndtri

from crt.cells.block import CellBlock, MeanScores, moment_sums, wide_residuals
from crt.cells.stored import Matrix, cell_blocks, new_matrix, some_rows
from crt.inputs import CRTInputs
from data_prep.blocks.base import CellBlocks, block_slices
from data_prep.blocks.place import MEMORY

Scores = Float32[np.ndarray, "cells programs"]
TIE = 2.0**36  # steps of an SD in which residuals are ranked: rounding errors are smaller
TOGETHER = 4  # programs that are ranked together: one pass over the cells serves all of them


def mean_scores(blocks: CellBlocks[CellBlock]) -> MeanScores:
    """Scores of `statistic="mean"`: the outcome as it is, residualised."""
    return _least_squares(blocks, None)


def normal_scores(blocks: CellBlocks[CellBlock], mean: MeanScores, scratch: Matrix, *, n_jobs: int = 1) -> CellBlocks[Scores]:
    """Scores of `statistic="normal_scores"`: Φ⁻¹(rank/(n + 1)) of the outcome's residuals, residualised once more; float32 (cells, K) for each block.

    Tied residuals (equal to 1e-11 SD) share the mean of their ranks. With these scores a linear statistic is, against shifts, never less efficient than the
    mean of the outcome, and as efficient where the residuals are normal (Chernoff & Savage 1958, "Asymptotic normality and efficiency of certain
    nonparametric test statistics").

    Parameters
    ----------
    blocks
        The cells.
    mean
        The outcomes as scores.
    scratch
        Receives the scores by program, (K, cells); its file is deleted when the scores are.
    n_jobs
        Number of worker threads.
    """
    K = scratch.shape[0]
    groups = [np.arange(first, min(first + TOGETHER, K)) for first in range(0, K, TOGETHER)]
    for _ in blocks.spread(_rank_programs, groups, mean, scratch, n_jobs=n_jobs):
        pass
    raw = blocks.load([partial(_by_cell, scratch, cells) for cells in block_slices(scratch.shape[1])])
    return blocks.map(scores_again, raw, _least_squares(blocks, raw))


def _rank_programs(blocks: CellBlocks[CellBlock], programs: Int[np.ndarray, " some"], mean: MeanScores, scratch: Matrix) -> None:
    """Write Φ⁻¹ of the ranks of some programs' residuals."""
    steps, out = np.empty((programs.size, scratch.shape[1])), scratch.open()
    first = 0
    for own in blocks.each(_steps, mean, programs):
        steps[:, first : first + own.shape[1]] = own
        first += own.shape[1]
    own = np.empty(scratch.shape[1], np.float32)
    for k, values in zip(programs, steps, strict=True):
        order, twice = sorted_midranks(values)
        own[order] = _table(values.size)[1::2] if twice is None else _table(values.size)[twice - 1]
        out[k] = own


def _steps(block: CellBlock, mean: MeanScores, programs: Int[np.ndarray, " some"]) -> Float64[np.ndarray, "some cells"]:
    """Residuals of some programs, rounded to what differs for certain."""
    return np.rint(wide_residuals(block, None, mean, programs, slice(0, len(block))) * TIE)


@lru_cache(maxsize=1)
def _table(n: int) -> Float32[np.ndarray, " ranks"]:
    """At j, the score of rank (j + 1)/2 among n."""
    out = np.empty(2 * n + 1, np.float32)
    for first in range(0, out.size, 2**20):
        own = out[first : first + 2**20]
        own[:] = ndtri(np.arange(first + 1, first + own.size + 1) / (2 * n + 2))
    return out


def _by_cell(scratch: Matrix, cells: slice) -> Float32[np.ndarray, "_ programs"]:
    """The scores of some cells, by cell."""
    return np.ascontiguousarray(scratch.open()[:, cells].T)


@singledispatch
def scores_again(block: CellBlock, raw: Float32[np.ndarray, "cells programs"], scores: MeanScores) -> Float32[np.ndarray, "cells programs"]:
    """The scores, residualised."""
    return scores.residuals(block.C, raw)


def sorted_midranks(values: Float[np.ndarray, " cells"]) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " cells"] | None]:
    """The order of the values, and in this order twice the rank of each, ties sharing the mean of their ranks: whole numbers; None for 2, 4, … 2n."""
    order = np.argsort(values)
    key = values[order]
    differs = key[1:] != key[:-1]
    del key  # of as many bytes as the values, as all that follows
    if differs.all():
        return order, None
    twice = np.flatnonzero(np.concatenate([[True], differs]))
    size = np.diff(twice, append=values.size)
    twice *= 2
    twice += size + 1
    return order, np.repeat(twice, size)


def sampled_scores(inputs: CRTInputs, cells: Int[np.ndarray, " cells"], *, normal: bool) -> tuple[MeanScores, Float32[np.ndarray, "cells programs"]]:
    """Scores computed on some of the cells alone: what residuals of the outcomes are made of, and the normal scores, or the residuals."""
    K = len(inputs.program_names)
    blocks = cell_blocks(MEMORY, some_rows(inputs.rows, cells), np.ascontiguousarray(inputs.columns[:, cells]), K)
    mean = mean_scores(blocks)
    parts = normal_scores(blocks, mean, new_matrix(MEMORY, K, cells.size)).each(np.asarray) if normal else blocks.each(_mean_residuals, mean)
    return mean, np.concatenate(list(parts))


def _mean_residuals(block: CellBlock, mean: MeanScores) -> Float32[np.ndarray, "cells programs"]:
    return mean.residuals(block.C, block.Y)


def few_valued(blocks: CellBlocks[CellBlock]) -> Int[np.ndarray, " few"]:
    """The programs with fewer than three distinct values, whose normal scores are the outcome itself on another scale."""
    low, high = blocks.map_reduce(_extremes, combine=_wider)
    return np.flatnonzero(blocks.map_reduce(_only_extremes, low, high, combine=np.logical_and))


def _extremes(block: CellBlock) -> tuple[Float32[np.ndarray, " programs"], Float32[np.ndarray, " programs"]]:
    return block.Y.min(0), block.Y.max(0)


def _wider(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(first[0], second[0]), np.maximum(first[1], second[1])


def _only_extremes(block: CellBlock, low: Float32[np.ndarray, " programs"], high: Float32[np.ndarray, " programs"]) -> Bool[np.ndarray, " programs"]:
    return ((block.Y == low) | (block.Y == high)).all(0)


def _least_squares(blocks: CellBlocks[CellBlock], raw: CellBlocks[Scores] | None) -> MeanScores:
    """The outcomes, or `raw` in their place, as scores; directions of C without variance among the cells are left out."""
    moments, square = blocks.map_reduce(moment_sums, raw)
    p = len(moments)
    gram, cross = moments[:, :p], moments[:, p:]
    n = gram[0, 0]
    size = np.sqrt(np.where(gram.diagonal() > 0, gram.diagonal(), 1.0))
    coef = np.linalg.pinv(gram / size / size[:, None], rcond=1e-9, hermitian=True) @ (cross / size[:, None]) / size[:, None]
    left = (square - np.einsum("pk,pk->k", cross, coef)) / n
    scale = np.sqrt(np.where(left > 1e-10 * square / n, left, np.inf))
    centre = np.zeros(scale.size) if raw is not None else cross[0] / n
    return MeanScores(coef=coef / scale, centre=centre.astype(np.float32), scale=scale)
