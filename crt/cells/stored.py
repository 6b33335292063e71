"""Where the matrices of a screen are: in memory, or in files of a scratch folder whose pages are mapped while they are needed."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int, Shaped

from crt.cells.block import CellBlock
from data_prep.blocks.base import CellBlocks, InMemory, block_slices
from data_prep.blocks.disk import OnDisk, release

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A float32 matrix in memory, or in a file that several processes can write.

    Attributes
    ----------
    shape
        Its shape.
    array
        The matrix, if it is in memory.
    path
        Its file otherwise.
    """

    shape: tuple[int, int]
    array: Float32[np.ndarray, "rows columns"] | None = None
    path: Path | None = None

    def open(self) -> Float32[np.ndarray, "rows columns"]:
        """The matrix, writable."""
        if self.array is not None:
            return self.array
        assert self.path is not None
        return np.memmap(self.path, np.float32, "r+", shape=self.shape)

    def delete(self) -> None:
        """Delete its file."""
        if self.path is not None:
            self.path.unlink()


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Where the matrices of a screen are, and where its blocks are summed.

    Attributes
    ----------
    folder
        A scratch folder for files; None for memory.
    client
        A connection to a Dask scheduler whose workers can read the folder; None for this process.
    """

    folder: Path | None = None
    client: "Client | None" = None

    def matrix(self, n_rows: int, n_columns: int) -> Matrix:
        """A matrix of zeros, which begins at a line of the cache."""
        if self.folder is not None:
            path = self.folder / f"matrix-{uuid.uuid4().hex}"
            with path.open("wb") as file:
                file.truncate(4 * n_rows * n_columns)
            return Matrix((n_rows, n_columns), path=path)
        buffer = np.zeros(n_rows * n_columns + 16, np.float32)
        first = (-buffer.ctypes.data % 64) // 4
        return Matrix((n_rows, n_columns), array=buffer[first : first + n_rows * n_columns].reshape(n_rows, n_columns))

    def blocks(self, rows: Float32[np.ndarray, "cells width"], columns: Float32[np.ndarray, "covariates cells"], n_programs: int) -> CellBlocks[CellBlock]:
        """The blocks of matrices that this storage made."""
        slices = block_slices(len(rows))
        if not isinstance(rows, np.memmap) or not isinstance(columns, np.memmap):
            return InMemory(_block(rows[cells], columns[:, cells], n_programs) for cells in slices)
        files = (str(rows.filename), rows.shape, str(columns.filename), columns.shape)
        assert self.folder is not None
        stored = OnDisk([partial(_load, *files, n_programs, cells) for cells in slices], self.folder)
        if self.client is None:
            return stored
        from data_prep.blocks.cluster import OnCluster

        return OnCluster.of(self.client, stored)


MEMORY = Storage()


def _block(rows: np.ndarray, columns: np.ndarray, n_programs: int) -> CellBlock:
    return CellBlock(rows=rows, columns=np.ascontiguousarray(columns), n_covariates=len(columns), n_programs=n_programs)


def _load(rows: str, rows_shape: tuple[int, int], columns: str, columns_shape: tuple[int, int], n_programs: int, cells: slice) -> CellBlock:
    shape = (cells.stop - cells.start, rows_shape[1])
    own = np.memmap(rows, np.float32, "r", offset=4 * cells.start * rows_shape[1], shape=shape)
    return _block(own.view(np.ndarray), np.array(np.memmap(columns, np.float32, "r", shape=columns_shape)[:, cells]), n_programs)


def pieces(matrix: Shaped[np.ndarray, "rows columns"]) -> Iterator[slice]:
    """Slices of the rows of a matrix, in order; after each, pages of its file leave memory."""
    for cells in block_slices(len(matrix)):
        yield cells
        release(matrix)


def some_rows(matrix: Shaped[np.ndarray, "rows columns"], which: Int[np.ndarray, " some"]) -> Shaped[np.ndarray, "some columns"]:
    """Some rows, their numbers ascending, in memory."""
    if not isinstance(matrix, np.memmap):
        return matrix[which]
    out = np.empty((which.size, matrix.shape[1]), matrix.dtype)
    for cells in pieces(matrix):
        first, last = np.searchsorted(which, (cells.start, cells.stop))
        out[first:last] = matrix[which[first:last]]
    return out
