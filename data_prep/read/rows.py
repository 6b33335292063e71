"""Matrices in memory, in a table or in a file, read in blocks of rows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

BLOCK_BYTES = 2**25  # as float64: small compared with the results, large compared with a chunk of a file


class StoredRows:
    """A dense array in an open file; rows are read when they are indexed."""

    def __init__(self, stored: Any, reading: Callable[[], AbstractContextManager[None]]):
        """Wrap `stored`, an HDF5 dataset or a zarr array; `reading` turns errors of reading into an `InputError`."""
        self._stored, self._reading = stored, reading
        self.shape: tuple[int, ...] = tuple(stored.shape)
        self.dtype = np.dtype(stored.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "rows columns"]:
        """Read these rows."""
        with self._reading():
            return np.asarray(self._stored[rows])


def can_wait(stored: Any) -> bool:
    """Whether an element of a file is a dense matrix of numbers, which can be read in blocks."""
    return not hasattr(stored, "keys") and getattr(stored, "ndim", len(getattr(stored, "shape", ()))) == 2 and np.dtype(stored.dtype).kind in "biuf"


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
