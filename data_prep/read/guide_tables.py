"""Which guides each cell carries, from the tables that Cell Ranger and SCEPTRE give."""

import math
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from data_prep.errors import InputError, first_few, warn
from data_prep.read.cell_names import mend, none_matches, row_of_cell, styles
from data_prep.read.guides import presence
from data_prep.read.labels import text_names
from data_prep.read.text_table import TextTable, open_table

CELL_COLUMNS = frozenset({"cell", "cells", "cell_id", "cell_name", "cell_barcode", "barcode"})
GUIDE_COLUMNS = frozenset({"grna", "grna_id", "guide", "guide_id", "guide_name", "sgrna", "sgrna_id"})
COUNT_COLUMNS = frozenset({"umi", "umis", "umi_count", "n_umis", "num_umis", "grna_n_umis", "count", "counts", "assigned", "assignment"})
KINDS = (
    "Cell Ranger's protospacer_calls_per_cell.csv (cell_barcode, num_features, feature_call, num_umis); one row for each cell and guide (such as cell_id, "
    "grna_id); or a matrix of TRUE/FALSE, 0/1 or counts with guides in rows and cells in columns, as SCEPTRE has it, or the other way round"
)
FEW = 0.5  # of the cells; a screen whose guides were captured well has calls in 60-90 % of them, so under a half the names are in doubt
_FALSE, _TRUE = frozenset({"0", "FALSE", "F", "False", "false", "0.0"}), frozenset({"1", "TRUE", "T", "True", "true", "1.0"})
_NO_CALL = frozenset({"", "None", "NA"})


def read_guide_table(given: str | Path | pd.DataFrame, cells: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray, str]:
    """The guides of the screen's cells as a CSR matrix of ones, the guides' names, and what to call the table.

    Cells are matched by name, in any order. A cell that the table does not list carries no guide; cells that the screen does not have are left out.
    The kind of table is told by its header. Guides of a matrix stay in its order, others are sorted by name.

    Parameters
    ----------
    given
        A path (CSV or tab-separated, plain or gzip) or a DataFrame. The kinds are Cell Ranger's `protospacer_calls_per_cell.csv`; one row for each
        cell and guide, with a column of cells (`cell`, `cell_id`, `cell_barcode`, `barcode` …), one of guides (`grna_id`, `guide`, `sgrna` …) and maybe
        one of counts (`umi_count` …, 0 is absent); a matrix of TRUE/FALSE, 0/1 or counts, with guides in rows and cells in columns or the other way round.
    cells
        Names of the screen's cells.

    Returns
    -------
    tuple
        Presence, (cells, guides); the guides' names; what errors call the table.

    Raises
    ------
    InputError
        On a table of no known kind, a wrong entry with its line, a cell listed twice, or names that no cell of the screen has.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from data_prep import read_guide_table
    >>> pairs = pd.DataFrame({"cell": ["AAA-1", "CCC-1", "CCC-1"], "guide": ["A_g1", "A_g1", "NTC_g1"]})
    >>> presence, guides, _ = read_guide_table(pairs, np.array(["AAA-1", "CCC-1"], dtype=object))
    >>> guides.tolist(), presence.toarray().tolist()
    (['A_g1', 'NTC_g1'], [[1.0, 0.0], [1.0, 1.0]])
    """
    if isinstance(given, pd.DataFrame):
        where = "the guide table"
        header = [str(name) for name in given.columns]
        if not isinstance(given.index, pd.RangeIndex):
            given = given.copy(deep=False)
            header = [str(given.index.name or ""), *header]
        read = _kind(TextTable(where=where, header=header, rows=iter(()), at="row"))
        if read is None:
            return (*_frame_matrix(given, cells, where), where)
        return (*read(_table_of(given, header, where), row_of_cell(cells), cells), where)
    with open_table(given, what="the guide table", give=f"Give {KINDS}.", row_names=True) as table:
        read = _kind(table) or _matrix
        return (*read(table, row_of_cell(cells), cells), table.where)


Reader = Callable[[TextTable, dict[str, int], np.ndarray], tuple[sp.csr_matrix, np.ndarray]]


def _kind(table: TextTable) -> Reader | None:
    """The reader of a table of calls or of pairs; None for what may be a matrix."""
    if table.column({"feature_call"}) is not None:
        return _calls
    # a matrix's column may well be called as a column of cells is; a table of pairs has both
    known = {name.strip().lower() for name in table.header}
    return _pairs if known & CELL_COLUMNS and known & GUIDE_COLUMNS else None


def _calls(table: TextTable, rows: dict[str, int], cells: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Cell Ranger's: one row a cell, its guides joined by '|'."""
    cell_at, call_at, number_at = _needed(table, CELL_COLUMNS, "cell_barcode"), _needed(table, {"feature_call"}, "feature_call"), table.column({"num_features"})
    found, first_line = _Found(rows), dict[str, int]()
    for line, fields in table.rows:
        cell, call = fields[cell_at], fields[call_at]
        if cell in first_line:
            said = f"the cell {cell!r} stands on {table.at}s {first_line[cell]} and {line}"
            raise InputError(f"{table.where}: {said}. Keep one row for each cell; name cells of several libraries apart.")
        first_line[cell] = line
        guides = [] if call in _NO_CALL else call.split("|")
        if number_at is not None and fields[number_at] != str(len(guides)):
            said = f"{table.at} {line} has num_features {fields[number_at]!r} but {len(guides)} guides in feature_call ({call!r})"
            raise InputError(f"{table.where}: {said}. Is a guide's name split by '|'? Write the table again.")
        found.cell(cell)
        for guide in guides:
            found.guide(cell, _named(guide, table, line))
    return found.matrix(cells, table.where, sort=True)


def _pairs(table: TextTable, rows: dict[str, int], cells: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """One row for each cell and guide; a pair that stands twice is one."""
    cell_at, guide_at, count_at = _needed(table, CELL_COLUMNS, "cell_id"), _needed(table, GUIDE_COLUMNS, "grna_id"), table.column(COUNT_COLUMNS)
    found = _Found(rows)
    for line, fields in table.rows:
        cell = fields[cell_at]
        found.cell(cell)
        if count_at is None or _entry(fields[count_at], table, line, count_at):
            found.guide(cell, _named(fields[guide_at], table, line))
    return found.matrix(cells, table.where, sort=True)


def _matrix(table: TextTable, rows: dict[str, int], cells: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """A matrix: guides × cells if the header names cells of the screen, else cells × guides."""
    names = table.header[1:]
    if len(set(names)) < len(names):
        repeated = pd.Index(names)[pd.Index(names).duplicated()]
        raise InputError(f"{table.where} repeats columns: {first_few(pd.unique(repeated))}. Name each cell and guide once.")
    by_guide = any(name in rows for name in names)
    found, absent, seen, first = _Found(rows), set(_FALSE), dict[str, int](), list[str]()
    for name in names:
        (found.cell if by_guide else found.know)(name)
    for line, fields in table.rows:
        name = _named(fields[0], table, line)
        if name in seen:
            raise InputError(f"{table.where}: {name!r} stands on {table.at}s {seen[name]} and {line}. Name each cell and guide once.")
        seen[name] = line
        first += [name] if len(first) < 3 else []
        (found.know if by_guide else found.cell)(name)
        for j in [j for j, entry in enumerate(fields) if entry not in absent]:
            if j == 0:
                continue
            if not _entry(fields[j], table, line, j):
                absent.add(fields[j])
            elif by_guide:
                found.guide(names[j - 1], name)
            else:
                found.guide(name, names[j - 1])
    if not found.matched and not by_guide:
        said = f"its columns are {first_few(table.header, 4)}, its first rows {first_few(first)}, and neither are the screen's cells ({first_few(cells, 3)})"
        raise InputError(f"{table.where} is of no known kind: {said}. {mend([*names, *seen], cells)} The kinds are {KINDS}.")
    return found.matrix(cells, table.where, sort=False, whole=True)


class _Found:
    """The pairs met so far, of the screen's cells."""

    def __init__(self, row_of_cell: dict[str, int]):
        self.row_of_cell = row_of_cell
        self.matched, self.others = set[int](), dict[str, None]()
        self.guides: dict[str, int] = {}
        self.rows, self.columns = array("i"), array("i")

    def cell(self, name: str) -> None:
        row = self.row_of_cell.get(name)
        if row is None:
            self.others[name] = None
        else:
            self.matched.add(row)

    def know(self, guide: str) -> int:
        return self.guides.setdefault(guide, len(self.guides))

    def guide(self, cell: str, guide: str) -> None:
        column = self.know(guide)
        row = self.row_of_cell.get(cell)
        if row is not None:
            self.rows.append(row)
            self.columns.append(column)

    def matrix(self, cells: np.ndarray, where: str, *, sort: bool, whole: bool = False) -> tuple[sp.csr_matrix, np.ndarray]:
        """The pairs as a matrix of ones; `whole` says that the table means to list every cell."""
        others = list(self.others)
        if not self.matched:
            raise none_matches(where, others, cells) if others else InputError(f"{where} has no rows. Give {KINDS}.")
        if not self.guides:
            raise InputError(f"{where} names no guide. Give {KINDS}.")
        say_unmatched(where, others, len(self.matched), cells, whole=whole)
        names = list(self.guides)
        order = sorted(range(len(names)), key=names.__getitem__) if sort else list(range(len(names)))
        place = np.empty(len(names), np.int32)
        place[order] = np.arange(len(names), dtype=np.int32)
        rows, columns = np.frombuffer(self.rows, np.int32), np.frombuffer(self.columns, np.int32)
        ones = np.ones(rows.size, np.float32)
        made = sp.csr_matrix((ones, (rows, place[columns])), shape=(len(cells), len(names)))
        made.data[:] = 1.0  # a pair that stands twice was summed
        return made, np.array([names[i] for i in order], dtype=object)


def say_unmatched(where: str, others: Sequence[str], n_matched: int, cells: np.ndarray, *, whole: bool) -> None:
    """Warn of cells that only the table or only the screen has."""
    if others:
        warn(f"{where}: {len(others):,} of its cells are not in the screen and were left out: {first_few(others, 3)}.")
    if n_matched < len(cells) and (whole or n_matched < FEW * len(cells)):
        looks = f" ({styles(others, cells)}). {mend(others, cells)}" if others else "."
        warn(f"{where} lists {n_matched:,} of the screen's {len(cells):,} cells; the others are taken to carry no guide{looks}")


def _needed(table: TextTable, names: frozenset[str] | set[str], example: str) -> int:
    found = table.column(names)
    if found is None:
        raise InputError(f"{table.where} has no column such as {example}; it has: {first_few(table.header, 20)}. Give {KINDS}.")
    return found


def _named(name: str, table: TextTable, line: int) -> str:
    if not name.strip():
        raise InputError(f"{table.where}: {table.at} {line} has a guide or cell without a name. Name or delete it.")
    return name


def _entry(text: str, table: TextTable, line: int, column: int) -> bool:
    """Whether an entry says that the guide is there."""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        said = f"{table.at} {line} has {text[:40]!r} in column {table.header[column]!r}"
        raise InputError(f"{table.where}: {said}; entries are TRUE or FALSE, or counts of 0 and more. If this is no matrix, the kinds are {KINDS}.")
    return value > 0


def _table_of(frame: pd.DataFrame, header: list[str], where: str) -> TextTable:
    """A DataFrame's rows as text; a missing value is an empty field."""
    columns = [frame.iloc[:, j] for j in range(frame.shape[1])]
    if len(header) > len(columns):
        columns = [frame.index.to_series(), *columns]
    listed = [column.astype(object).where(column.notna(), "").map(str).tolist() for column in columns]
    return TextTable(where=where, header=header, rows=((i, list(fields)) for i, fields in enumerate(zip(*listed, strict=True))), at="row")


def _frame_matrix(frame: pd.DataFrame, cells: np.ndarray, where: str) -> tuple[sp.csr_matrix, np.ndarray]:
    rows = row_of_cell(cells)
    index = text_names(frame.index, where=f"the index of {where}")
    columns = text_names(frame.columns, where=f"the columns of {where}")
    by_guide = any(name in rows for name in columns)
    theirs, guides = (columns, index) if by_guide else (index, columns)
    if not by_guide and not any(name in rows for name in theirs):
        said = f"its columns are {first_few(columns, 3)}, its index {first_few(index, 3)}, and neither are the screen's cells ({first_few(cells, 3)})"
        raise InputError(f"{where} is of no known kind: {said}. {mend(list(theirs), cells)} The kinds are {KINDS}.")
    for names in (theirs, guides):
        if (repeated := pd.Index(names).duplicated()).any():
            raise InputError(f"{where} repeats names: {first_few(pd.unique(names[repeated]))}. Name each cell and guide once.")
    there = presence(frame, index, where=where)
    there = there.T.tocsr() if by_guide else there
    place = pd.Index(theirs).get_indexer(pd.Index([str(cell) for cell in cells]))
    others = [name for name in theirs if name not in rows]
    say_unmatched(where, others, int((place >= 0).sum()), cells, whole=True)
    blank = sp.csr_matrix((1, there.shape[1]), dtype=np.float32)
    made = sp.vstack([there, blank], format="csr")[np.where(place < 0, there.shape[0], place)]
    return made, guides
