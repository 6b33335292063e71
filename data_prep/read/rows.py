"""Matrices in memory, in a table or in a file, read in blocks of rows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Shaped

BLOCK_BYTES = 2**25  # as float64: small compared with the results, large compared with a chunk of a file


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
    """A matrix of numbers in a file, dense or CSR, which can be read in blocks; None for other elements."""
    if hasattr(stored, "keys"):
        is_csr = stored.attrs.get("encoding-type") == "csr_matrix" and "shape" in stored.attrs and {"data", "indices", "indptr"} <= set(stored)
        return StoredSparse(stored, reading) if is_csr and np.dtype(stored["data"].dtype).kind in "biuf" else None
    is_matrix = getattr(stored, "ndim", len(getattr(stored, "shape", ()))) == 2 and np.dtype(stored.dtype).kind in "biuf"
    return StoredRows(stored, reading) if is_matrix else None


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices that cover the rows in order, each of about 32 MiB in float64."""
    n, size = shape[0], max(1024, BLOCK_BYTES // (8 * max(1, shape[1])))
    first = 0
    while first < n:
        last = n if n - first - size < 2 else first + size  # no slice of one row: a single row has no memory order, and numpy sums in memory order
        yield slice(first, last)
        first = last


def take(matrix: Any, rows: slice) -> Shaped[np.ndarray, "rows columns"]:
    """Rows of an array, a `StoredRows` or a DataFrame, in the memory order of the matrix."""
    return matrix.iloc[rows].to_numpy() if isinstance(matrix, pd.DataFrame) else np.asarray(matrix[rows])
