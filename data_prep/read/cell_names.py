"""Names of cells: each once, the same in all parts of a screen, and matched by name in tables that list other cells."""

import re
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from jaxtyping import Int, Shaped
from numpy.dtypes import StringDType

from data_prep.blocks.base import block_slices
from data_prep.errors import InputError, first_few, warn
from data_prep.read.labels import text_names

FEW = 0.5  # of the cells: a screen whose guides were captured well has calls in 60-90 % of its cells, so with fewer than half the names are in doubt
_SUFFIX = re.compile(r"-\d+$")  # Cell Ranger's number of the library, "AAACCTGAGAAACGAG-1"
_EXAMINED = 1000
NAME = StringDType()


def cell_names(values: object, *, where: str) -> Shaped[np.ndarray, " cells"]:
    """Names of cells as an array of `StringDType`, a quarter of the memory of Python strings; a missing name is an error."""
    if isinstance(values, np.ndarray) and values.dtype == NAME:
        return values
    try:
        return text_names(values, where=where).astype(NAME)
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds a name that is not valid text ({error}). Rename the cell.") from error


def stored_names(stored: Any) -> Shaped[np.ndarray, " cells"]:
    """The names in an element of a file, as `StringDType` where it holds text."""
    kind = h5py.check_string_dtype(stored.dtype) if isinstance(stored, h5py.Dataset) else None
    if kind is None:
        return np.asarray(read_elem(stored))
    names = np.empty(stored.shape, dtype=NAME)
    for rows in block_slices(len(names)):
        names[rows] = (stored if kind.length else stored.asstr())[rows].astype(NAME)
    return names


def unique(names: Sequence[str] | Shaped[np.ndarray, " rows"] | pd.Index, problem: str, suggestion: str) -> pd.Index:
    """The names as an index; if a name repeats, an `InputError` with the problem, the repeated names and the suggestion."""
    index = pd.Index(names, dtype=object)
    if not index.is_unique:
        raise InputError(f"{problem}: {first_few(index[index.duplicated()].unique())}. {suggestion}")
    return index


def each_once(cells: Shaped[np.ndarray, " cells"]) -> None:
    """Check that no name of a cell repeats, with 16 bytes for each."""
    keys = np.concatenate([pd.util.hash_array(cells[rows].astype(object), categorize=False) for rows in block_slices(cells.size)])
    ordered = np.sort(keys)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        cell_index(cells[np.isin(keys, twice)])


def cell_index(cells: Shaped[np.ndarray, " cells"]) -> pd.Index:
    """The names of the screen's cells as an index, each once."""
    return unique(cells, "obs_names repeat", "Call .obs_names_make_unique().")


def rows_of(names: Sequence[str] | Shaped[np.ndarray, " rows"], index: pd.Index) -> Int[np.ndarray, " rows"]:
    """The position of each name in the index; −1 for names that are not in it."""
    return index.get_indexer(pd.Index(names, dtype=object))


def same_number(n: int, cells: Shaped[np.ndarray, " cells"], *, where: str, other: str = "the screen", suggestion: str = "Give one row for each cell.") -> None:
    """Check that a part of a screen has one row for each cell.

    Parameters
    ----------
    n
        Number of rows of the part.
    cells
        Names of the screen's cells, (cells,).
    where
        Name of the part in error messages.
    other
        Name of the screen in error messages.
    suggestion
        How to fix it.

    Raises
    ------
    InputError
        If the part has fewer or more rows.
    """
    if n != cells.size:
        raise InputError(f"{where} has {n:,} rows but {other} has {cells.size:,} cells. {suggestion}")


def same_cells(theirs: Shaped[np.ndarray, " rows"] | pd.Index, cells: Shaped[np.ndarray, " cells"], *, where: str, other: str = "the screen") -> None:
    """Check that the rows of a part have the names of the screen's cells, in the same order; rows with numbers only are in the order of the cells.

    Parameters
    ----------
    theirs
        Names of the rows of the part, (cells,).
    cells
        Names of the screen's cells, (cells,).
    where
        Name of the part in error messages.
    other
        Name of the screen in error messages.

    Raises
    ------
    InputError
        If the numbers differ, or a name.
    """
    same_number(len(theirs), cells, where=where, other=other)
    if isinstance(theirs, pd.RangeIndex):
        return
    for rows in block_slices(cells.size):
        first, second = _text(theirs[rows]), _text(cells[rows])
        if (first != second).any():
            i = int(np.flatnonzero(first != second)[0])
            row, named = rows.start + i, f"{first[i]} and {second[i]}"
            raise InputError(f"{where} and {other} name their cells differently, first in row {row} ({named}). Bring both into one order.")


def _text(names: np.ndarray | pd.Index) -> np.ndarray:
    values = np.asarray(names)
    return values if values.dtype == NAME else values.astype(str).astype(NAME)


def none_matches(where: str, theirs: Sequence[str] | Shaped[np.ndarray, " rows"], cells: Shaped[np.ndarray, " cells"]) -> InputError:
    """The error for a table that names no cell of the screen."""
    return InputError(f"{where} names no cell of the screen ({examples(theirs, cells)}). {suggestion(theirs, cells)}")


def warn_unmatched(
    where: str, others: Sequence[str] | Shaped[np.ndarray, " rows"], n_matched: int, cells: Shaped[np.ndarray, " cells"], *, every: bool
) -> None:
    """Warn of cells that only the table or only the screen has.

    Parameters
    ----------
    where
        Name of the table in warnings.
    others
        Names in the table that no cell of the screen has.
    n_matched
        Number of cells of the screen that the table has.
    cells
        Names of the screen's cells, (cells,).
    every
        Whether the table should list every cell; otherwise fewer than half of them are reported.
    """
    if len(others):
        warn(f"{where}: {len(others):,} of its cells are not in the screen and were left out: {first_few(others, 3)}.")
    if n_matched < len(cells) and (every or n_matched < FEW * len(cells)):
        compared = f" ({examples(others, cells)}). {suggestion(others, cells)}" if len(others) else "."
        warn(f"{where} lists {n_matched:,} of the screen's {len(cells):,} cells; the others are taken to carry no guide{compared}")


def examples(theirs: Sequence[str] | Shaped[np.ndarray, " rows"], cells: Shaped[np.ndarray, " cells"]) -> str:
    """The first names of cells in the table and in the screen."""
    return f"the table has {first_few(theirs, 3)}; the screen has {first_few(cells, 3)}"


def suggestion(theirs: Sequence[str] | Shaped[np.ndarray, " rows"], cells: Shaped[np.ndarray, " cells"]) -> str:
    """How to make the names of a table and of the screen agree."""
    some = [_SUFFIX.sub("", name) for name in theirs[:_EXAMINED]]
    bare = {_SUFFIX.sub("", str(cell)) for cell in cells}
    if not some or sum(name in bare for name in some) < len(some) / 2:
        return "Use the same names in both."
    more = "" if len(bare) == len(cells) else ", where it distinguishes cells of several libraries"
    return rf"They agree except for the ending '-1': use it in both or in neither (adata.obs_names.str.replace(r'-\d+$', '', regex=True)){more}."
