"""A table in a text file, read in blocks of rows by pyarrow; Python's csv module finds the line of an error."""

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_prep.errors import InputError, first_few

GZIP_MAGIC = b"\x1f\x8b"
BLOCK_BYTES = 2**24
BLOCK_FIELDS = 2**20
TRUE, FALSE = frozenset({"1", "TRUE", "T", "True", "true"}), frozenset({"0", "FALSE", "F", "False", "false", "0.0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A header, and rows with as many fields.

    Attributes
    ----------
    where
        Name of the table in error messages.
    header
        Names of the columns.
    rows
        Reads all rows: the line number and the fields of each.
    unit
        What error messages count: "line", or "row" if the table is not a file.
    blocks_of_lines
        Reads the bytes of all rows in blocks of whole lines; None in place of a block that pyarrow might read in another way than the csv module.
    delimiter
        Character between fields.
    """

    where: str
    header: list[str]
    rows: Callable[[], Iterator[tuple[int, list[str]]]]
    unit: str = "line"
    blocks_of_lines: Callable[[], Iterator[bytes | None]] = lambda: iter([None])
    delimiter: str = ","

    def column(self, names: Collection[str]) -> int | None:
        """Position of the column that has one of `names`, in any case; None if there is none, an error if there are several."""
        found = [i for i, name in enumerate(self.header) if name.strip().lower() in names]
        if len(found) > 1:
            raise InputError(f"{self.where} has {len(found)} columns for the same thing: {first_few(self.header[i] for i in found)}. Keep one.")
        return found[0] if found else None

    def row(self, i: int) -> tuple[str, list[str]]:
        """Position of a row in the file, such as "line 7", and its fields; read again."""
        number, fields = next(itertools.islice(self.rows(), i, None))
        return f"{self.unit} {number}", fields

    def listed_twice(self, name: str, first: int, second: int) -> InputError:
        """The error for a name that two rows have."""
        return InputError(f"{self.where}: {name!r} appears twice, on {self.row(first)[0]} and {self.row(second)[0]}. Keep one, or give them different names.")

    def blocks(self, columns: Sequence[int], kinds: Sequence[pa.DataType] = ()) -> Iterator[pa.Table]:
        """These columns in blocks of rows: the first as text, the others as the first of `kinds` that fits all of them, else as text."""
        done, kinds = 0, list(kinds)
        for block in self.blocks_of_lines():
            read = None if block is None else _first_fit(block, self.delimiter, len(self.header), columns, kinds)
            if read is None:
                break
            done += read.num_rows
            yield read
        else:
            return
        rest = itertools.islice(self.rows(), done, None)
        while rows := [fields for _, fields in itertools.islice(rest, 1 + BLOCK_FIELDS // len(self.header))]:
            yield pa.table([pa.array([fields[j] for fields in rows], pa.string()) for j in columns], names=[str(j) for j in columns])

    def long_rows(self, kinds: Sequence[pa.DataType]) -> Iterator[tuple[str, pa.ChunkedArray]]:
        """The first field of each row, and its other fields as one array; faster than `blocks` for thousands of columns."""
        done, kinds = 0, list(kinds)
        delimiter = self.delimiter.encode()
        for line in self._long_lines():
            name, comma, fields = (line or b"").partition(delimiter)
            read = None if not comma or b'"' in fields else _first_fit(fields.replace(delimiter, b"\n") + b"\n", "\x01", 1, [0], kinds, rows_are_fields=True)
            if read is None or read.num_rows != len(self.header) - 1:
                break
            done += 1
            yield name.strip(b'"').decode(), read.column(0)
        else:
            return
        for _, listed in itertools.islice(self.rows(), done, None):
            yield listed[0], pa.chunked_array([pa.array(listed[1:], pa.string())])

    def _long_lines(self) -> Iterator[bytes | None]:
        for block in self.blocks_of_lines():
            yield from (line for line in block.split(b"\n") if line.strip(b"\r")) if block is not None else [None]


def _first_fit(block: bytes, delimiter: str, width: int, columns: Sequence[int], kinds: list[pa.DataType], *, rows_are_fields: bool = False) -> pa.Table | None:
    """The columns of a block as the first kind that fits; kinds that do not fit are removed. None if a row has another width."""
    names = [str(j) for j in range(width)]
    values = [names[j] for j in (columns if rows_are_fields else columns[1:])]
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in block, ignore_empty_lines=not rows_are_fields)
    for kind in [*kinds, pa.string()]:
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()) | dict.fromkeys(values, kind),
            include_columns=[names[j] for j in columns],
            null_values=[],
            true_values=sorted(TRUE),
            false_values=sorted(FALSE),
        )
        try:
            found = pa.csv.read_csv(pa.py_buffer(block), read_options=pa.csv.ReadOptions(column_names=names), parse_options=parse, convert_options=convert)
        except pa.ArrowInvalid:
            found = None
        if found is not None and not (pa.types.is_floating(kind) and any(pc.any(pc.is_nan(found[name])).as_py() for name in values)):  # it takes "nan(1)"
            return found
        kinds[:] = kinds[1:]
    return None


def open_table(path: str | Path, *, what: str, give: str, row_names: bool = False) -> TextTable:
    """A CSV or tab-separated file in UTF-8, with or without a byte-order mark, plain or gzip.

    Fields are separated by tabs if the header has a tab, else by commas; in a .csv whose header has both, by commas.

    Parameters
    ----------
    path
        Path of the file.
    what
        Name of the table in error messages, such as "the guide map".
    give
        Advice where the path is not a file.
    row_names
        Whether the header may lack the name of the first column, as R's `write.table` leaves it.

    Raises
    ------
    InputError
        Now, or while rows are read: the file is missing, empty, damaged or not UTF-8, or has NUL bytes, open quotes or rows of another length.
    """
    if not isinstance(path, (str, Path)):
        raise InputError(f"{what} is a {type(path).__name__}; it must be a path or a table.")
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{what} {path} is not a file. {give}")
    where = f"{what} {path}"
    delimiter = _delimiter(path, where)
    records = _records(path, where, delimiter)
    line, header = next(records)
    _, first = next(records, (0, []))
    if row_names and len(first) == len(header) + 1:
        header = ["", *header]

    def rows() -> Iterator[tuple[int, list[str]]]:
        for number, fields in itertools.islice(_records(path, where, delimiter), 1, None):
            if len(fields) != len(header):
                raise _unreadable(where, f"line {number} has {len(fields):,} fields but the header has {len(header):,}")
            yield number, fields

    return TextTable(
        where=where, header=header, rows=rows, delimiter=delimiter, blocks_of_lines=lambda: _blocks_of_lines(path, where, delimiter.encode(), skip=line)
    )


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Name the table in errors of reading."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise _unreadable(where, f"it is not UTF-8 ({error.reason})") from error
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{where} can't be read: {error}. Is the file complete?") from error


def _plain(raw: io.BufferedReader) -> Any:
    """The bytes, decompressed if they are gzip."""
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP_MAGIC else raw


def _lines(path: Path, where: str) -> Iterator[str]:
    with _reading(where), path.open("rb") as raw, io.TextIOWrapper(_plain(raw), encoding="utf-8-sig", newline="") as text:
        for number, line in enumerate(text, start=1):
            if "\0" in line:
                raise _unreadable(where, f"line {number} holds a NUL byte")
            yield line


def _delimiter(path: Path, where: str) -> str:
    header = next((line for line in _lines(path, where) if line.strip("\r\n")), None)
    if header is None:
        raise _unreadable(where, "it is empty")
    is_csv = ".csv" in [ending.lower() for ending in path.suffixes[-2:]]
    return "\t" if "\t" in header and not (is_csv and "," in header) else ","


def _records(path: Path, where: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty lines, each with the number of its last line."""
    reader = csv.reader(_lines(path, where), delimiter=delimiter, strict=True)
    number = 0
    try:
        for fields in reader:
            number = reader.line_num
            if fields:
                yield number, fields
    except csv.Error as error:
        raise _unreadable(where, f"after line {number}: {error}") from error


def _blocks_of_lines(path: Path, where: str, delimiter: bytes, *, skip: int) -> Iterator[bytes | None]:
    """The lines after the first `skip` in blocks; None in place of the first block that pyarrow might not read as the csv module does."""
    with _reading(where), path.open("rb") as raw:
        file = _plain(raw)
        if _old_line_ends(b"".join(file.readline() for _ in range(skip))):
            yield None
            return
        begun: list[bytes] = []
        while chunk := file.read(BLOCK_BYTES):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield _if_read_alike(b"".join([*begun, chunk[:end]]), delimiter)
                begun = []
            begun.append(chunk[end:])
        if last := b"".join(begun):
            yield _if_read_alike(last, delimiter)


def _old_line_ends(block: bytes) -> bool:
    return block.count(b"\r") > block.count(b"\r\n")


def _if_read_alike(block: bytes, delimiter: bytes) -> bytes | None:
    """A block that is UTF-8 without NUL bytes, and in which each quote begins or ends a field; else None."""
    if b"\0" in block or _old_line_ends(block) or block.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        if not block.isascii():
            block.decode()
    except UnicodeDecodeError:
        return None
    if b'"' in block:
        characters = np.frombuffer(b"\n" + block + b"\n", np.uint8)
        quotes, ends = np.flatnonzero(characters == ord('"')), np.frombuffer(delimiter + b"\r\n", np.uint8)
        if quotes.size % 2 or not np.isin(characters[quotes[::2] - 1], ends).all() or not np.isin(characters[quotes[1::2] + 1], ends).all():
            return None
    return block


def _unreadable(where: str, problem: str) -> InputError:
    return InputError(f"{where} can't be read as a table: {problem}. Save it as UTF-8 CSV or TSV.")
