"""Program usage from the text file that cNMF writes, or a table like it."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.errors import InputError, first_few, warn
from data_prep.read.cell_names import mend, none_matches, row_of_cell, styles
from data_prep.read.labels import text_names
from data_prep.read.text_table import TextTable, open_table

GIVE = "Give cNMF's NAME.usages.k_K.dt_X.consensus.txt, or a CSV or TSV like it: cell names first, then a column for each program."


def read_usage_table(given: str | Path | pd.DataFrame, cells: np.ndarray) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Program usage of the screen's cells, (N, K) float64 in their order; the programs' names; and what to call the table.

    Cells are matched by name, in any order; cells that the screen does not have are left out with a warning. Values are as they stand in the table:
    cNMF's are not normalised (`clr_usage` divides each row by its sum, as cNMF's `load_results` does). Programs are named as the header names them; a bare
    number, as cNMF writes, becomes `program_` and the number, so that `program_3` is column 3 of cNMF's other files.

    Parameters
    ----------
    given
        A path to `NAME.usages.k_K.dt_X.consensus.txt` or another CSV or tab-separated file, plain or gzip; or a DataFrame with cells as its index.
    cells
        Names of the screen's cells.

    Returns
    -------
    tuple
        Usage, float64 (cells, programs); the programs' names; what errors call the table.

    Raises
    ------
    InputError
        On an entry that is no number, with its line; a cell listed twice; cells of the screen that the table lacks.

    Examples
    --------
    >>> import pandas as pd
    >>> from data_prep import read_usage_table
    >>> usages = pd.DataFrame({"1": [0.2, 3.0], "2": [0.8, 1.0]}, index=["CCC-1", "AAA-1"])  # as cNMF writes them
    >>> usage, programs, _ = read_usage_table(usages, ["AAA-1", "CCC-1"])
    >>> programs, usage.tolist()
    (('program_1', 'program_2'), [[3.0, 1.0], [0.2, 0.8]])
    """
    if isinstance(given, pd.DataFrame):
        return _of_frame(given, cells)
    with open_table(given, what="the usage table", give=GIVE, row_names=True) as table:
        programs = _programs(table.header[1:], table.where)
        return _of_text(table, len(programs), cells), programs, table.where


def _of_text(table: TextTable, n_programs: int, cells: np.ndarray) -> np.ndarray:
    rows = row_of_cell(cells)
    values = np.empty((len(cells), n_programs))
    line_of = np.zeros(len(cells), np.int64)
    others: list[str] = []
    for line, fields in table.rows:
        row = rows.get(fields[0])
        if row is None:
            others.append(fields[0])
            continue
        if line_of[row]:
            raise InputError(f"{table.where}: the cell {fields[0]!r} stands on lines {line_of[row]} and {line}. Keep one row for each cell.")
        line_of[row] = line
        values[row] = _numbers(fields, table, line)
    _all_there(line_of == 0, others, cells, table.where)
    return values


def _numbers(fields: list[str], table: TextTable, line: int) -> list[float]:
    try:
        if "_" not in "".join(fields[1:]):  # float() reads "1_0" as 10
            return [float(field) for field in fields[1:]]
    except ValueError:
        pass
    wrong = next(j for j, field in enumerate(fields[1:], start=1) if not _is_number(field))
    said = f"line {line} (cell {fields[0]}) has {fields[wrong][:40]!r} in column {table.header[wrong]!r}"
    raise InputError(f"{table.where}: {said}, where a number should be. {GIVE}")


def _is_number(text: str) -> bool:
    try:
        return "_" not in text and not math.isnan(float(text))
    except ValueError:
        return False


def _of_frame(frame: pd.DataFrame, cells: np.ndarray) -> tuple[np.ndarray, tuple[str, ...], str]:
    where = "the usage table"
    programs = _programs(text_names(frame.columns, where=f"the columns of {where}").tolist(), where)
    theirs = text_names(frame.index, where=f"the index of {where}")
    if (repeated := pd.Index(theirs).duplicated()).any():
        raise InputError(f"{where} repeats cells: {first_few(pd.unique(theirs[repeated]))}. Keep one row for each cell.")
    try:
        values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is not numeric: {error}. Give one number for each cell and program.") from error
    rows = row_of_cell(cells)
    place = pd.Index(theirs).get_indexer(pd.Index([str(cell) for cell in cells]))
    _all_there(place < 0, [name for name in theirs if name not in rows], cells, where)
    return values[place], programs, where


def _all_there(absent: np.ndarray, others: list[str], cells: np.ndarray, where: str) -> None:
    """Every cell of the screen must be in the table; others of the table are counted."""
    if absent.all():
        raise none_matches(where, others, cells) if others else InputError(f"{where} has no rows. {GIVE}")
    if absent.any():
        looks = f" ({styles(others, cells)}). {mend(others, cells)} Or subset" if others else ". Subset"
        which = first_few(np.asarray(cells)[absent])
        raise InputError(f"{where} lacks {int(absent.sum()):,} of the screen's {len(cells):,} cells: {which}{looks} the screen to the table's cells.")
    if others:
        warn(f"{where}: {len(others):,} of its cells are not in the screen and were left out: {first_few(others, 3)}.")


def _programs(header: list[str], where: str) -> tuple[str, ...]:
    if not header:
        raise InputError(f"{where} has no column of a program. {GIVE}")
    names = [f"program_{name}" if name.strip().isdecimal() else name for name in header]
    blank = [j + 2 for j, name in enumerate(header) if not name.strip()]
    if blank:
        raise InputError(f"{where} has no name over columns {first_few(blank)}. Name each program.")
    if len(set(names)) < len(names):
        raise InputError(f"{where} repeats programs: {first_few(pd.unique(np.array([n for n in names if names.count(n) > 1], dtype=object)))}. Name each once.")
    return tuple(names)
