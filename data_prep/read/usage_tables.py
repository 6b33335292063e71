"""Program usage from the text file of cNMF, or a table like it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float64, Shaped

from data_prep.errors import InputError, first_few
from data_prep.read.cell_names import cell_index, examples, none_matches, rows_of, suggestion, unique, warn_unmatched
from data_prep.read.labels import text_names
from data_prep.read.text_table import TextTable, open_table

GIVE = "Give cNMF's NAME.usages.k_K.dt_X.consensus.txt, or a CSV or TSV like it: cell names first, then a column for each program."


def read_usage_table(
    given: str | Path | pd.DataFrame, cells: Shaped[np.ndarray, " cells"]
) -> tuple[Float64[np.ndarray, "cells programs"], tuple[str, ...], str]:
    """Read the program usage of the cells of a screen.

    Cells are matched by name, in any order; cells that the screen does not have are left out with a warning. Values are not changed: those of cNMF are not
    normalised (`clr_usage` divides each row by its sum, as cNMF's `load_results` does). Programs have the names in the header; a bare number, as in cNMF's
    files, becomes `program_` and the number, so that `program_3` is column 3 of cNMF's other files.

    Parameters
    ----------
    given
        Path of `NAME.usages.k_K.dt_X.consensus.txt` or of another CSV or tab-separated file, plain or gzip; or a DataFrame with cells as its index.
    cells
        Names of the screen's cells, (cells,).

    Returns
    -------
    tuple
        Usage, float64 (cells, programs); names of the programs; name of the table in error messages.

    Raises
    ------
    InputError
        If an entry is not a number (reported with its line), a cell is listed twice, or a cell of the screen is missing.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from data_prep import read_usage_table
    >>> usages = pd.DataFrame({"1": [0.2, 3.0], "2": [0.8, 1.0]}, index=["CCC-1", "AAA-1"])  # as cNMF writes them
    >>> usage, programs, _ = read_usage_table(usages, np.array(["AAA-1", "CCC-1"]))
    >>> programs, usage.tolist()
    (('program_1', 'program_2'), [[3.0, 1.0], [0.2, 0.8]])
    """
    if isinstance(given, pd.DataFrame):
        return _of_frame(given, cells)
    table = open_table(given, what="the usage table", give=GIVE, row_names=True)
    programs = _programs(table.header[1:], table.where)
    return _of_text(table, len(programs), cells), programs, table.where


def _of_text(table: TextTable, n_programs: int, cells: np.ndarray) -> np.ndarray:
    index = cell_index(cells)
    values = np.empty((len(cells), n_programs))
    row_of = np.full(len(cells), -1)  # in the table
    others, done = [np.empty(0, object)], 0
    for block in table.blocks(range(1 + n_programs), [pa.float64()]):
        names = block.column(0).to_numpy()
        place = rows_of(names, index)
        is_known = place >= 0
        known = np.flatnonzero(is_known)
        others.append(names[~is_known])
        numbers = _numbers(block if is_known.all() else block.filter(pa.array(is_known)), table, done + known)
        place = place[known]
        again = (row_of[place] >= 0) | pd.Series(place).duplicated().to_numpy()
        if again.any():
            second = int(again.argmax())
            row_of[place[:second]] = done + known[:second]
            raise table.listed_twice(cells[place[second]], row_of[place[second]], done + known[second])
        row_of[place] = done + known
        values[place] = numbers
        done += block.num_rows
    _all_there(row_of < 0, np.concatenate(others), cells, table.where)
    return values


def _numbers(block: pa.Table, table: TextTable, rows: np.ndarray) -> np.ndarray:
    """The values of a block; `rows` are those of the table that it holds."""
    values, wrong = np.empty((block.num_rows, block.num_columns - 1)), []
    for j, column in enumerate(block.columns[1:]):
        if not pa.types.is_floating(column.type):
            numbers = [_number(text) for text in column.to_pylist()]
            wrong += [(i, j + 1) for i, number in enumerate(numbers) if number is None][:1]
            column = pa.chunked_array([pa.array(numbers, pa.float64())])
        values[:, j] = column.to_numpy()
    if wrong:
        row, column = min(wrong)
        at, fields = table.row(rows[row])
        problem = f"{at} (cell {fields[0]}) has {fields[column][:40]!r} in column {table.header[column]!r}"
        raise InputError(f"{table.where}: {problem}, where a number should be. {GIVE}")
    return values


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # float() reads "1_0" as 10
    except ValueError:
        return None


def _of_frame(frame: pd.DataFrame, cells: np.ndarray) -> tuple[np.ndarray, tuple[str, ...], str]:
    where = "the usage table"
    programs = _programs(text_names(frame.columns, where=f"the columns of {where}").tolist(), where)
    theirs = unique(text_names(frame.index, where=f"the index of {where}"), f"{where} repeats cells", "Keep one row for each cell.")
    try:
        values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is not numeric: {error}. Give one number for each cell and program.") from error
    screen = cell_index(cells)
    place = theirs.get_indexer(screen)
    _all_there(place < 0, theirs.difference(screen, sort=False).to_numpy(), cells, where)
    return values[place], programs, where


def _all_there(absent: np.ndarray, others: np.ndarray, cells: np.ndarray, where: str) -> None:
    """Check that the table has every cell of the screen, and warn of other cells."""
    if absent.all():
        raise none_matches(where, others, cells) if others.size else InputError(f"{where} has no rows. {GIVE}")
    if absent.any():
        compared = f" ({examples(others, cells)}). {suggestion(others, cells)} Or subset" if others.size else ". Subset"
        which = first_few(cells[absent])
        raise InputError(f"{where} lacks {int(absent.sum()):,} of the screen's {len(cells):,} cells: {which}{compared} the screen to the table's cells.")
    warn_unmatched(where, others, len(cells), cells, every=True)


def _programs(header: list[str], where: str) -> tuple[str, ...]:
    if not header:
        raise InputError(f"{where} has no column of a program. {GIVE}")
    names = [f"program_{name}" if name.strip().isdecimal() else name for name in header]
    blank = [j + 2 for j, name in enumerate(header) if not name.strip()]
    if blank:
        raise InputError(f"{where} has no name over columns {first_few(blank)}. Name each program.")
    return tuple(unique(names, f"{where} repeats programs", "Name each once."))
