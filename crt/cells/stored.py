"""Where the matrices of a screen are: in memory, or in files of a scratch folder whose pages are mapped while they are needed."""

import uuid
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Shaped

from crt.cells.block import CellBlock
from data_prep.blocks.base import CellBlocks, block_slices
from data_prep.blocks.disk import release
from data_prep.blocks.place import Place


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
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

    def owned(self) -> Float32[np.ndarray, "rows columns"]:
        """The matrix, writable, whose file is deleted when nothing refers to the array or its views."""
        found = self.open()
        if isinstance(found, np.memmap):
            assert self.path is not None
            weakref.finalize(getattr(found, "_mmap"), self.path.unlink, missing_ok=True)  # noqa: B009 (numpy has no public name)
        return found

    def temporary(self) -> "Matrix":
        """The matrix, whose file is deleted when nothing in this process refers to the matrix."""
        if self.path is not None:
            weakref.finalize(self, self.path.unlink, missing_ok=True)
        return self


def new_matrix(place: Place, n_rows: int, n_columns: int) -> Matrix:
    """A matrix of zeros, which begins at a line of the cache."""
    if place.folder is not None:
        path = place.folder / f"matrix-{uuid.uuid4().hex}"
        with path.open("wb") as file:
            file.truncate(4 * n_rows * n_columns)
        return Matrix((n_rows, n_columns), path=path)
    buffer = np.zeros(n_rows * n_columns + 16, np.float32)
    first = (-buffer.ctypes.data % 64) // 4
    return Matrix((n_rows, n_columns), array=buffer[first : first + n_rows * n_columns].reshape(n_rows, n_columns))


def filled_matrix(place: Place, n_rows: int, n_columns: int, parts: Iterable[Float32[np.ndarray, "some columns"]]) -> Matrix:
    """A matrix of its rows, which come in order, some at a time.

    Parameters
    ----------
    place
        Where the matrix is.
    n_rows
        Number of rows.
    n_columns
        Number of columns.
    parts
        The rows, each part contiguous.
    """
    found = new_matrix(place, n_rows, n_columns)
    if found.array is None:
        assert found.path is not None
        with found.path.open("wb") as file:
            for part in parts:
                file.write(part.data)
        return found
    first = 0
    for part in parts:
        found.array[first : first + len(part)] = part
        first += len(part)
    return found


def cell_blocks(
    place: Place, rows: Float32[np.ndarray, "cells width"], columns: Float32[np.ndarray, "covariates cells"], n_programs: int
) -> CellBlocks[CellBlock]:
    """The blocks of matrices that were made for a place.

    Parameters
    ----------
    place
        The place.
    rows
        Covariates, the intercept first, and outcomes.
    columns
        What propensities depend on, transposed.
    n_programs
        Number of outcomes.
    """
    here = place.folder is None
    read = partial(_block, rows if here else StoredMatrix.of(rows), columns if here else StoredMatrix.of(columns), n_programs)
    return place.load([partial(read, cells) for cells in block_slices(len(rows))])


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """A float32 matrix in a file, of which only the name travels; its slices are mapped, or read where they are not contiguous.

    Attributes
    ----------
    path
        The file.
    shape
        Shape of the matrix.
    """

    path: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, matrix: Float32[np.ndarray, "rows columns"]) -> "StoredMatrix":
        """The file of a mapped matrix."""
        assert isinstance(matrix, np.memmap)
        return cls(str(matrix.filename), matrix.shape)

    def whole(self) -> Float32[np.ndarray, "rows columns"]:
        """The matrix, mapped."""
        return np.memmap(self.path, np.float32, "r", shape=self.shape)

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def __getitem__(self, which: slice | tuple[slice, slice]) -> Float32[np.ndarray, "some columns"]:
        """Some rows, or some rows and columns."""
        if isinstance(which, tuple):
            return np.array(self.whole()[which])
        shape = (which.stop - which.start, self.shape[1])
        return np.memmap(self.path, np.float32, "r", offset=4 * which.start * self.shape[1], shape=shape).view(np.ndarray)


def _block(rows: "np.ndarray | StoredMatrix", columns: "np.ndarray | StoredMatrix", n_programs: int, cells: slice) -> CellBlock:
    return CellBlock(rows=rows[cells], columns=np.ascontiguousarray(columns[:, cells]), n_covariates=len(columns), n_programs=n_programs)


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
