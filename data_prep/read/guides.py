"""Which guides each cell carries."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Bool, Shaped

from data_prep.blocks.base import block_slices
from data_prep.errors import InputError, first_few, first_rows, warn, whole_number
from data_prep.read.cell_names import same_number
from data_prep.read.guide_map import GuideMap
from data_prep.read.rows import StoredRows, StoredSparse, row_blocks

RAW_ONES, RAW_ABOVE = 0.1, 0.01  # least shares of the nonzero entries that are 1, and above 1, in raw counts; calls have no 1s, or nothing else
MANY = 20  # least number of 1s


class Entries:
    """Which entries of the guides in cells are present, by a minimum number of UMIs; and whether they are raw counts, in blocks of any size."""

    def __init__(self, min_umi: int | None):
        """None for presence: every entry above 0."""
        self.least = None if min_umi is None else whole_number("min_umi", min_umi)
        self.nonzero = self.ones = self.above = 0

    def present(self, values: Shaped[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Which entries are present; they are counted for `check`."""
        positive = values > 0
        self.nonzero += int(np.count_nonzero(positive))
        self.ones += int(np.count_nonzero(values == 1))
        self.above += int(np.count_nonzero(values > 1))
        return positive if self.least is None else values >= self.least

    def check(self, where: str) -> None:
        """Refuse raw counts without a minimum, and a minimum where there are no counts."""
        if self.least is None and self.ones >= max(MANY, RAW_ONES * self.nonzero) and self.above > RAW_ABOVE * self.nonzero:
            shares = f"{self.ones / self.nonzero:.0%} of its nonzero entries are 1 and {self.above / self.nonzero:.0%} are larger"
            raise InputError(
                f"{where} holds raw guide counts: {shares}. Ambient guides would count as present. Set min_umi to the least number of UMIs of a guide in a "
                "cell that carries it; or call guides upstream (Cell Ranger, SCEPTRE) and give the calls; or set min_umi to 1 if each nonzero entry is a call.",
                "min_umi",
            )
        if self.least is not None and self.least > 1 and self.nonzero and not self.above:
            raise InputError(
                f"{where} holds no count above 1, so a minimum of {self.least} UMIs leaves no guide. Leave min_umi out: these are calls.", "min_umi"
            )


def presence(matrix: Any, cells: Shaped[np.ndarray, " cells"], *, where: str, min_umi: int | None = None) -> sp.csr_matrix:
    """Presence of guides in cells: a CSR matrix with ones where the entries of `matrix` (cells, guides) are nonzero, or at least `min_umi`.

    Stored zeros are removed, duplicates are merged, and indices are sorted. The input is not changed; it is read in blocks of cells.

    Parameters
    ----------
    matrix
        Presence or counts, (cells, guides).
    cells
        Names of the cells, (cells,).
    where
        Name of the matrix in messages.
    min_umi
        Minimum number of UMIs of a guide that is present; None if the entries are calls.

    Raises
    ------
    InputError
        If entries are not counts, or if they are raw counts and there is no minimum.
    """
    entries = Entries(min_umi)
    if isinstance(matrix, pd.DataFrame):
        matrix = _sparse_frame(matrix)
    if sp.issparse(matrix):
        matrix = _csr(matrix, where)
    elif not isinstance(matrix, (StoredRows, pd.DataFrame)):
        matrix = np.asarray(matrix)
    if len(matrix.shape) != 2:
        raise _not_numeric(matrix.shape, matrix.dtype, where)
    n, is_sparse = matrix.shape[0], sp.issparse(matrix) or isinstance(matrix, StoredSparse)
    bad, columns, offsets = np.zeros(n, bool), [np.empty(0, np.int32)], np.zeros(n + 1, np.int64)
    for rows in block_slices(n) if is_sparse else row_blocks(matrix.shape) if n else [slice(0, 0)]:
        bad[rows], found, count = (_sparse_block if is_sparse else _dense_block)(matrix, rows, where, entries)
        columns.append(found)
        offsets[rows.start + 1 : rows.stop + 1] = count
    same_number(n, cells, where=where)
    if bad.any():
        raise InputError(f"{where} holds NaN, infinite or negative entries in {first_rows(bad, cells)}. Give counts, or 0 and 1.")
    entries.check(where)
    indices = np.concatenate(columns)
    np.cumsum(offsets, out=offsets)
    there = sp.csr_matrix((np.ones(indices.size, np.float32), indices, offsets.astype(np.int32) if indices.size < 2**31 else offsets), shape=matrix.shape)
    there.has_canonical_format = True
    return there


def _dense_block(matrix: Any, rows: slice, where: str, entries: Entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of some rows: which are bad, the guides that are present, row by row, and their number in each row. All rows may be larger than memory."""
    block = _frame_values(matrix.iloc[rows]) if isinstance(matrix, pd.DataFrame) else np.asarray(matrix[rows])
    if block.dtype.kind not in "biuf":
        raise _not_numeric(matrix.shape, block.dtype, where)
    wrong = ~np.isfinite(block) | (block < 0) if block.dtype.kind == "f" else block < 0
    row, column = np.nonzero(entries.present(block))
    return np.asarray(wrong.any(1)), column.astype(np.int32), np.bincount(row, minlength=len(block))


def _sparse_block(matrix: Any, rows: slice, where: str, entries: Entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_dense_block`; duplicates of an entry are merged."""
    try:
        block = matrix.sparse(rows) if isinstance(matrix, StoredSparse) else matrix[rows]
    except ValueError as error:
        raise _not_sparse(error, where) from error
    wrong = ~np.isfinite(block.data) | (block.data < 0) if block.data.dtype.kind == "f" else block.data < 0
    bad = np.zeros(block.shape[0], bool)
    bad[np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))[wrong]] = True
    if entries.least is not None:
        block = block.astype(np.float64)  # sums of small integers can overflow
        block.sum_duplicates()
    block.data = entries.present(block.data)
    block.eliminate_zeros()
    block.sum_duplicates()  # of truth values: sums of the entries can overflow to 0
    return bad, block.indices.astype(np.int32), np.diff(block.indptr)


def _csr(matrix: Any, where: str) -> sp.csr_matrix:
    """A sparse matrix in memory as CSR, checked."""
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        raise _not_numeric(matrix.shape, matrix.dtype, where)
    try:
        csr = sp.csr_matrix(matrix)
        csr.check_format(full_check=True)
    except ValueError as error:
        raise _not_sparse(error, where) from error
    return csr


def _not_sparse(error: ValueError, where: str) -> InputError:
    return InputError(f"{where} is not a valid sparse matrix: {error}. Write it again.")


def _not_numeric(shape: tuple[int, ...], dtype: object, where: str) -> InputError:
    return InputError(f"{where} must be a numeric cells × guides matrix; it has shape {shape} and type {dtype}. Give counts, or 0 and 1.")


def _sparse_frame(frame: pd.DataFrame) -> Any:
    """A table as a sparse matrix if all its columns are sparse; other tables unchanged."""
    kinds = list(frame.dtypes)
    if kinds and all(isinstance(kind, pd.SparseDtype) and kind.fill_value == 0 for kind in kinds):
        accessor: Any = frame.sparse
        return accessor.to_coo()
    return frame


def _frame_values(frame: pd.DataFrame) -> np.ndarray:
    """The values of a table, with missing values of nullable columns as NaN."""
    kinds = list(frame.dtypes)
    if any(isinstance(kind, pd.api.extensions.ExtensionDtype) or kind.kind == "O" for kind in kinds):
        try:
            return frame.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            return frame.to_numpy(dtype=object)
    return frame.to_numpy()


def match_map(
    guides: sp.csr_matrix, names: Shaped[np.ndarray, " guides"], guide_map: GuideMap, *, where: str
) -> tuple[sp.csr_matrix, Shaped[np.ndarray, " mapped"], Shaped[np.ndarray, " mapped"], Bool[np.ndarray, " mapped"]]:
    """Keep the guides that are in the guide map; the others are left out with a warning.

    Parameters
    ----------
    guides
        Presence, (cells, guides).
    names
        Names of the guides, (guides,).
    guide_map
        Gene of each guide.
    where
        Name of the guides in messages.

    Returns
    -------
    tuple
        Presence, (cells, mapped); names of the guides, their genes, and whether they are NTC, (mapped,).

    Raises
    ------
    InputError
        If no guide is in the map.
    """
    row = pd.Index(guide_map.guide).get_indexer(pd.Index(names))
    known = row >= 0
    if not known.any():
        raise InputError(
            f"{where}: none of the {names.size} guides is in the guide map "
            f"(the screen has {first_few(names, 3)}; the map has {first_few(guide_map.guide, 3)}). Use the same names in both."
        )
    if not known.all():
        warn(f"{where}: {int((~known).sum())} guides are not in the guide map and were ignored: {first_few(names[~known])}")
        guides = guides[:, np.flatnonzero(known)]
    return guides, names[known], guide_map.gene[row[known]], guide_map.is_ntc[row[known]]
