"""Which guides each cell carries, from the tables of Cell Ranger and SCEPTRE."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from jaxtyping import Shaped

from data_prep.errors import InputError, first_few
from data_prep.read.cell_names import cell_index, none_matches, rows_of, suggestion, unique, warn_unmatched
from data_prep.read.guides import Entries, presence
from data_prep.read.labels import text_names
from data_prep.read.text_table import FALSE, TRUE, TextTable, open_table

CELL_COLUMNS = frozenset({"cell", "cells", "cell_id", "cell_name", "cell_barcode", "barcode"})
GUIDE_COLUMNS = frozenset({"grna", "grna_id", "guide", "guide_id", "guide_name", "sgrna", "sgrna_id"})
COUNT_COLUMNS = frozenset({"umi", "umis", "umi_count", "n_umis", "num_umis", "grna_n_umis", "count", "counts", "assigned", "assignment"})
NO_CALL = frozenset({"", "None", "NA"})
KINDS = (
    "Cell Ranger's protospacer_calls_per_cell.csv (cell_barcode, num_features, feature_call, num_umis); one row for each cell and guide (such as cell_id, "
    "grna_id); or a matrix of TRUE/FALSE, 0/1 or counts with guides in rows and cells in columns, as in SCEPTRE, or the other way round"
)
ONCE = "Name each cell and guide once."
ENTRY_KINDS = (pa.bool_(), pa.float64())
MANY_COLUMNS = 4096  # of a matrix with cells in columns: pyarrow needs microseconds for each column of each block


def read_guide_table(
    given: str | Path | pd.DataFrame, cells: Shaped[np.ndarray, " cells"], *, min_umi: int | None = None
) -> tuple[sp.csr_matrix, Shaped[np.ndarray, " guides"], str]:
    """Read which guides the cells of a screen carry.

    Cells are matched by name, in any order. A cell that the table does not list carries no guide; cells that the screen does not have are left out.
    The header decides the kind of table. Guides of a matrix keep its order, others are sorted by name.

    Parameters
    ----------
    given
        Path of a CSV or tab-separated file, plain or gzip, or a DataFrame. Three kinds of table are known: Cell Ranger's `protospacer_calls_per_cell.csv`;
        one row for each cell and guide, with a column of cells (`cell`, `cell_id`, `cell_barcode`, `barcode` …), one of guides (`grna_id`, `guide`,
        `sgrna` …) and optionally one of counts (`umi_count` …, 0 is absent); a matrix of TRUE/FALSE, 0/1 or counts with guides in rows and cells in columns
        or the other way round.
    cells
        Names of the screen's cells, (cells,).
    min_umi
        Minimum number of UMIs of a guide that a cell carries, for counts; None for calls, where every entry but 0 is present.

    Returns
    -------
    tuple
        Presence, a CSR matrix of ones (cells, guides); names of the guides, (guides,); name of the table in error messages.

    Raises
    ------
    InputError
        If the table is of no known kind, has a wrong entry (reported with its line), lists a cell twice or holds raw counts without a minimum, or if it names
        no cell of the screen.

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
    entries = Entries(min_umi)
    if not isinstance(given, pd.DataFrame):
        table = open_table(given, what="the guide table", give=f"Give {KINDS}.", row_names=True)
        return (*(_kind(table) or _matrix)(table, cells, entries), table.where)
    where = "the guide table"
    header = [str(name) for name in given.columns]
    if not isinstance(given.index, pd.RangeIndex):
        header = [str(given.index.name or ""), *header]
    table = _table_of(given, header, where)
    read = _kind(table)
    return (*(_frame_matrix(given, cells, where, min_umi) if read is None else read(table, cells, entries)), where)


Reader = Callable[[TextTable, np.ndarray, Entries], tuple[sp.csr_matrix, np.ndarray]]


def _kind(table: TextTable) -> Reader | None:
    """The reader of a table of calls or of pairs; None for what may be a matrix."""
    if table.column({"feature_call"}) is not None:
        return _calls
    known = {name.strip().lower() for name in table.header}  # a column of a matrix can be named like a column of cells; a table of pairs has both
    return _pairs if known & CELL_COLUMNS and known & GUIDE_COLUMNS else None


def _calls(table: TextTable, cells: np.ndarray, entries: Entries) -> tuple[sp.csr_matrix, np.ndarray]:
    """Cell Ranger's: one row for each cell, with its guides joined by '|'."""
    number_at = table.column({"num_features"})
    columns = [_needed(table, CELL_COLUMNS, "cell_barcode"), _needed(table, {"feature_call"}, "feature_call"), *([] if number_at is None else [number_at])]
    data = _whole(table, columns)
    cell, names = _codes(data.column(0))
    if (again := pd.Series(cell).duplicated().to_numpy()).any():
        second = int(again.argmax())
        raise table.listed_twice(names[cell[second]], int((cell == cell[second]).argmax()), second)
    called = pc.invert(pc.is_in(data.column(1), value_set=pa.array(sorted(NO_CALL))))
    listed = pc.split_pattern(data.column(1).filter(called), "|")
    count = np.zeros(len(cell), np.int64)
    count[called.to_numpy()] = pc.list_value_length(listed).to_numpy()
    if number_at is not None and (wrong := pc.not_equal(data.column(2), pa.array(count).cast(pa.string())).to_numpy()).any():
        row = int(wrong.argmax())
        at, fields = table.row(row)
        problem = f"{at} has num_features {fields[columns[2]]!r} but {count[row]} guides in feature_call ({fields[columns[1]]!r})"
        raise InputError(f"{table.where}: {problem}. Is the name of a guide split by '|'? Write the table again.")
    guide, guides = _codes(pc.list_flatten(listed))
    of_row = np.repeat(np.arange(len(cell)), count)
    entries.present(np.ones(len(of_row)))
    entries.check(table.where)
    _check_named(guides, guide, of_row, table)
    return _presence(names, guides, cell[of_row], guide, cells, table.where)


def _pairs(table: TextTable, cells: np.ndarray, entries: Entries) -> tuple[sp.csr_matrix, np.ndarray]:
    """One row for each cell and guide; repeated rows count once."""
    count_at = table.column(COUNT_COLUMNS)
    columns = [_needed(table, CELL_COLUMNS, "cell_id"), _needed(table, GUIDE_COLUMNS, "grna_id"), *([] if count_at is None else [count_at])]
    data = _whole(table, columns)
    cell, names = _codes(data.column(0))
    given = pa.chunked_array([np.ones(len(cell))]) if count_at is None else data.column(2)
    present, wrong = _entries(given, entries)
    if count_at is not None and wrong.any():
        raise _wrong_entry(table, int(wrong.argmax()), count_at)
    entries.check(table.where)
    row = np.flatnonzero(present)
    guide, guides = _codes(data.column(1).filter(pa.array(present)))
    _check_named(guides, guide, row, table)
    return _presence(names, guides, cell[row], guide, cells, table.where)


def _matrix(table: TextTable, cells: np.ndarray, entries: Entries) -> tuple[sp.csr_matrix, np.ndarray]:
    """A matrix: guides × cells if the header names cells of the screen, else cells × guides."""
    columns = np.array(table.header[1:], dtype=object)
    unique(columns, f"{table.where} repeats columns", ONCE)
    rows, row, column = _matrix_entries(table, entries)
    entries.check(table.where)
    _check_named(rows, np.arange(len(rows)), np.arange(len(rows)), table)
    if (again := pd.Index(rows).duplicated()).any():
        second = int(again.argmax())
        raise table.listed_twice(rows[second], int((rows == rows[second]).argmax()), second)
    index = cell_index(cells)
    by_guide = bool((rows_of(columns, index) >= 0).any())
    if not by_guide and not (rows_of(rows, index) >= 0).any():
        found = f"its columns are {first_few(table.header, 4)}, its first rows {first_few(rows[:3])}"
        raise _unknown_kind(table.where, found, [*columns, *rows], cells)
    named = (columns, rows, column, row) if by_guide else (rows, columns, row, column)
    return _presence(*named, cells, table.where, matrix=True)


def _matrix_entries(table: TextTable, entries: Entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names of the rows, and row and column of each entry that is present."""
    names, rows, columns, done = [np.empty(0, object)], [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    if len(table.header) > MANY_COLUMNS:
        for done, (name, fields) in enumerate(table.long_rows(ENTRY_KINDS)):
            present, wrong = _entries(fields, entries)
            if wrong.any():
                raise _wrong_entry(table, done, 1 + int(wrong.argmax()))
            names.append(np.array([name], dtype=object))
            columns.append(np.flatnonzero(present))
            rows.append(np.full(columns[-1].size, done))
        return np.concatenate(names), np.concatenate(rows), np.concatenate(columns)
    for block in table.blocks(range(len(table.header)), ENTRY_KINDS):
        found = [_entries(column, entries) for column in block.columns[1:]]
        if any(wrong.any() for _, wrong in found):
            row, column = min((int(wrong.argmax()), j) for j, (_, wrong) in enumerate(found, start=1) if wrong.any())
            raise _wrong_entry(table, done + row, column)
        where = [np.flatnonzero(present) for present, _ in found]
        names.append(block.column(0).to_numpy())
        rows.append(done + np.concatenate([np.empty(0, np.int64), *where]))
        columns.append(np.repeat(np.arange(len(where)), [w.size for w in where]))
        done += block.num_rows
    return np.concatenate(names), np.concatenate(rows), np.concatenate(columns)


def _presence(
    names: np.ndarray, guides: np.ndarray, cell: np.ndarray, guide: np.ndarray, cells: np.ndarray, where: str, *, matrix: bool = False
) -> tuple[sp.csr_matrix, np.ndarray]:
    """The pairs of the table's cells and guides (by position in `names` and `guides`) as presence in the screen's cells.

    A matrix lists every cell, and its guides keep their order; the guides of other tables are sorted.
    """
    place = rows_of(names, cell_index(cells))
    others, n_matched = names[place < 0], int((place >= 0).sum())
    if not n_matched:
        raise none_matches(where, others, cells) if others.size else InputError(f"{where} has no rows. Give {KINDS}.")
    if not guides.size:
        raise InputError(f"{where} names no guide. Give {KINDS}.")
    warn_unmatched(where, others, n_matched, cells, every=matrix)
    order = np.arange(guides.size) if matrix else np.argsort(guides)
    rank = np.empty(guides.size, np.int32)
    rank[order] = np.arange(guides.size, dtype=np.int32)
    row, column = place[cell], rank[guide]
    ones = np.ones(np.count_nonzero(row >= 0), np.float32)
    made = sp.csr_matrix((ones, (row[row >= 0], column[row >= 0])), shape=(len(cells), guides.size))
    made.data[:] = 1.0  # repeated pairs were summed
    return made, guides[order]


def _needed(table: TextTable, names: frozenset[str] | set[str], example: str) -> int:
    found = table.column(names)
    if found is None:
        raise InputError(f"{table.where} has no column such as {example}; it has: {first_few(table.header, 20)}. Give {KINDS}.")
    return found


def _whole(table: TextTable, columns: list[int]) -> pa.Table:
    """These columns of all rows, as text."""
    return pa.concat_tables([pa.table([pa.array([], pa.string())] * len(columns), names=list(map(str, columns))), *table.blocks(columns)])


def _codes(values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Texts as codes, and the distinct texts in order of appearance."""
    coded = values.dictionary_encode().combine_chunks()
    return coded.indices.to_numpy(), coded.dictionary.to_numpy(zero_copy_only=False)


def _entries(values: pa.ChunkedArray, entries: Entries) -> tuple[np.ndarray, np.ndarray]:
    """Which entries are present, and which are neither TRUE or FALSE nor counts."""
    if pa.types.is_boolean(values.type):
        given = values.to_numpy()
        return entries.present(given), np.zeros(given.size, bool)
    if pa.types.is_floating(values.type):
        number = values.to_numpy()
    else:
        codes, texts = _codes(values)
        number = np.array([_number(text) for text in texts], dtype=np.float64)[codes]
    return entries.present(number), ~(np.isfinite(number) & (number >= 0))


def _number(text: str) -> float:
    """TRUE as 1, FALSE as 0, a number as it is; NaN for other text."""
    if text in TRUE or text in FALSE:
        return float(text in TRUE)
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


def _wrong_entry(table: TextTable, row: int, column: int) -> InputError:
    at, fields = table.row(row)
    problem = f"{at} has {fields[column][:40]!r} in column {table.header[column]!r}"
    return InputError(f"{table.where}: {problem}; entries are TRUE or FALSE, or counts of 0 and more. If this is not a matrix, give {KINDS}.")


def _check_named(names: np.ndarray, codes: np.ndarray, rows: np.ndarray, table: TextTable) -> None:
    """Check that no name, of those in these rows by their codes, is blank."""
    blank = np.array([not name.strip() for name in names], dtype=bool)
    if blank.any():
        row = int(rows[blank[codes].argmax()])
        raise InputError(f"{table.where}: {table.row(row)[0]} has a guide or cell without a name. Name or delete it.")


def _unknown_kind(where: str, found: str, theirs: Sequence[str], cells: np.ndarray) -> InputError:
    mine = first_few(cells, 3)
    return InputError(f"{where} is of no known kind: {found}, and neither are the screen's cells ({mine}). {suggestion(theirs, cells)} The kinds are {KINDS}.")


def _table_of(frame: pd.DataFrame, header: list[str], where: str) -> TextTable:
    """A DataFrame as a table of text; a missing value is an empty field."""
    columns = [frame.iloc[:, j] for j in range(frame.shape[1])]
    if len(header) > len(columns):
        columns = [frame.index.to_series(), *columns]
    listed = [column.astype(object).where(column.notna(), "").map(str).tolist() for column in columns]
    return TextTable(where=where, header=header, rows=lambda: enumerate(map(list, zip(*listed, strict=True))), unit="row")


def _frame_matrix(frame: pd.DataFrame, cells: np.ndarray, where: str, min_umi: int | None) -> tuple[sp.csr_matrix, np.ndarray]:
    screen = cell_index(cells)
    index = text_names(frame.index, where=f"the index of {where}")
    columns = text_names(frame.columns, where=f"the columns of {where}")
    by_guide = bool((rows_of(columns, screen) >= 0).any())
    if not by_guide and not (rows_of(index, screen) >= 0).any():
        raise _unknown_kind(where, f"its columns are {first_few(columns, 3)}, its index {first_few(index, 3)}", index.tolist(), cells)
    for names in (columns, index):
        unique(names, f"{where} repeats names", ONCE)
    there = presence(frame, index, where=where, min_umi=min_umi).tocoo()
    named = (columns, index, there.col, there.row) if by_guide else (index, columns, there.row, there.col)
    return _presence(*named, cells, where, matrix=True)
