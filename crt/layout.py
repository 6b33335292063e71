"""Memory layout of the inputs: rows aligned to cache lines, and sums over them that all units share."""

from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Float64, Int32

from crt.cells.stored import filled_matrix, new_matrix, pieces
from data_prep.blocks.place import MEMORY, Place


def empty_rows(n: int, n_covariates: int, n_programs: int, place: Place = MEMORY) -> Float32[np.ndarray, "{n} width"]:
    """Zeros for covariates and outcomes. The width is a multiple of 16, so that rows start at cache lines of 64 bytes.

    Parameters
    ----------
    n
        Number of cells.
    n_covariates
        Number of covariates.
    n_programs
        Number of outcomes.
    place
        Where the matrix is.
    """
    return new_matrix(place, n, width(n_covariates, n_programs)).owned()


def width(n_covariates: int, n_programs: int) -> int:
    """Columns of rows that begin at lines of the cache."""
    return -(-(n_covariates + n_programs) // 16) * 16


def filled_rows(
    n: int,
    n_covariates: int,
    n_programs: int,
    parts: Iterable[tuple[Float[np.ndarray, "some covariates"], Float[np.ndarray, "some programs"]]],
    place: Place = MEMORY,
) -> Float32[np.ndarray, "{n} width"]:
    """Covariates and outcomes of consecutive cells, in an array as that of `empty_rows`; a file is written in the order of its cells, not by its pages.

    Parameters
    ----------
    n
        Number of cells.
    n_covariates
        Number of covariates; those that the parts do not have are zero.
    n_programs
        Number of outcomes.
    parts
        Covariates and outcomes of some cells at a time.
    place
        Where the matrix is.
    """

    def aligned(covariates: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(outcomes), width(n_covariates, n_programs)), np.float32)
        rows[:, : covariates.shape[1]] = covariates
        rows[:, n_covariates : n_covariates + n_programs] = outcomes
        return rows

    return filled_matrix(place, n, width(n_covariates, n_programs), (aligned(*part) for part in parts)).owned()


def transposed(rows: Float32[np.ndarray, "cells width"], p: int, place: Place = MEMORY) -> Float32[np.ndarray, "{p} cells"]:
    """The first p columns of the rows, by column."""
    out = new_matrix(place, p, len(rows)).owned()
    for cells in pieces(rows):
        out[:, cells] = rows[cells, :p].T
    return out


def moments(
    rows: Float32[np.ndarray, "cells width"], p: int, n_programs: int
) -> tuple[Float64[np.ndarray, "covariates covariates"], Float64[np.ndarray, "covariates programs"]]:
    """C'C and C'Y in float64, by blocks of cells."""
    total = np.zeros((p, p + n_programs))
    for cells in pieces(rows):
        for first in range(cells.start, cells.stop, 65_536):
            block = rows[first : min(first + 65_536, cells.stop), : p + n_programs].astype(np.float64)
            total += block[:, :p].T @ block
    return total[:, :p].copy(), total[:, p:].copy()


def ntc_only(guides: sp.csc_matrix, is_ntc: Bool[np.ndarray, " guides"]) -> Int32[np.ndarray, " ntc_cells"]:
    """The cells that carry guides, all of them NTC."""
    ntc, targeting = np.zeros(guides.shape[0], bool), np.zeros(guides.shape[0], bool)
    of_ntc = np.repeat(is_ntc, np.diff(guides.indptr))
    ntc[guides.indices[of_ntc]] = True
    targeting[guides.indices[~of_ntc]] = True
    return np.flatnonzero(ntc & ~targeting).astype(np.int32)
