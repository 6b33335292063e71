"""Matrices in memory, in a table or in a file, read in blocks of rows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Shaped

BLOCK_BYTES = 2**23  # as float64: small compared with the results, so that the memory of one block serves the next; large compared with a chunk of a file


class StoredRows:
    """A matrix in an open file; rows are read when they are indexed."""

    def __init__(self, stored: Any, reading: Callable[[], AbstractContextManager[None]]):
        """Wrap `stored`, an HDF5 dataset or a zarr array; `reading` turns errors of reading into an `InputError`."""
        self._stored, self._reading = stored, reading
        self.shape, self.dtype = self._form()
        self.ndim = len(self.shape)

    def _form(self) -> tuple[tuple[int, ...], np.dtype]:
        return tuple(self._stored.shape), np.dtype(self._stored.dtype)

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "rows columns"]:
        """Read these rows."""
        with self._reading():
            return np.asarray(self._stored[rows])

    def column(self, j: int) -> Shaped[np.ndarray, " rows"]:
        """Read a column, in blocks of rows."""
        return np.concatenate([self[rows][:, j] for rows in row_blocks(self.shape)])


class StoredTable(StoredRows):
    """A table of numbers in an open file; its rows are read as a matrix when they are indexed."""

    def _form(self) -> tuple[tuple[int, ...], np.dtype]:
        self.columns = tuple(map(str, self._stored.attrs["column-order"]))
        (n_rows,) = {self._stored[name].shape[0] for name in self.columns}
        return (n_rows, len(self.columns)), np.result_type(*(self._stored[name].dtype for name in self.columns))

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "rows columns"]:
        """Read these rows, in the memory order of a DataFrame."""
        with self._reading():
            return np.array([self._stored[name][rows] for name in self.columns], dtype=self.dtype).T


class StoredSparse(StoredRows):
    """A CSR matrix in an open file; its rows are read densely when they are indexed."""

    def _form(self) -> tuple[tuple[int, ...], np.dtype]:
        self._offsets = np.asarray(self._stored["indptr"][...])
        return tuple(map(int, self._stored.attrs["shape"])), np.dtype(self._stored["data"].dtype)

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "rows columns"]:
        """Read these rows."""
        return self.sparse(rows).toarray()

    def sparse(self, rows: slice) -> sp.csr_matrix:
        """Read these rows, and check them; a `ValueError` if they are no CSR matrix."""
        first, last, _ = rows.indices(self.shape[0])
        offsets = self._offsets[first : last + 1]
        if len(self._offsets) != self.shape[0] + 1 or offsets[0] < 0 or (np.diff(offsets) < 0).any():
            raise ValueError("index pointer values must form a non-decreasing sequence with one entry more than rows")
        with self._reading():
            data, indices = (np.asarray(self._stored[name][offsets[0] : offsets[-1]]) for name in ("data", "indices"))
        matrix = sp.csr_matrix((data, indices, offsets - offsets[0]), shape=(last - first, self.shape[1]))
        matrix.check_format(full_check=True)
        return matrix


def waiting(stored: Any, reading: Callable[[], AbstractContextManager[None]]) -> StoredRows | None:
    """A matrix of numbers in a file, dense, CSR or a table, which can be read in blocks; None for other elements."""
    if is_table(stored):
        columns = [stored[name] for name in stored.attrs["column-order"]]
        return StoredTable(stored, reading) if columns and all(_is_numeric(column, 1) for column in columns) else None
    if hasattr(stored, "keys"):
        is_csr = stored.attrs.get("encoding-type") == "csr_matrix" and "shape" in stored.attrs and {"data", "indices", "indptr"} <= set(stored)
        return StoredSparse(stored, reading) if is_csr and _is_numeric(stored["data"], 1) else None
    return StoredRows(stored, reading) if _is_numeric(stored, 2) else None


def is_table(stored: Any) -> bool:
    """Whether an element of a file is a table whose columns can be read one by one."""
    return hasattr(stored, "keys") and stored.attrs.get("encoding-type") == "dataframe" and stored.attrs.get("encoding-version") == "0.2.0"


def _is_numeric(stored: Any, n_axes: int) -> bool:
    return not hasattr(stored, "keys") and len(getattr(stored, "shape", ())) == n_axes and np.dtype(stored.dtype).kind in "biuf"


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices that cover the rows in order, each of about 8 MiB in float64."""
    n, size = shape[0], max(1024, BLOCK_BYTES // (8 * max(1, shape[1])))
    first = 0
    while first < n:
        last = n if n - first - size < 2 else first + size  # no slice of one row: a single row has no memory order, and numpy sums in memory order
        yield slice(first, last)
        first = last


def take(matrix: Any, rows: slice) -> Shaped[np.ndarray, "rows columns"]:
    """Rows of an array, a `StoredRows` or a DataFrame, in the memory order of the matrix."""
    return matrix.iloc[rows].to_numpy() if isinstance(matrix, pd.DataFrame) else np.asarray(matrix[rows])
