"""A table in a text file, read a row at a time: whatever is wrong with it is said with its line."""

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from data_prep.errors import InputError, first_few

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A header, and rows of as many fields with their line numbers; the rows can be gone through once.

    Attributes
    ----------
    where
        What errors call the table.
    at
        What errors call the place of a row: "line", or "row" where the table is no file.
    """

    where: str
    header: list[str]
    rows: Iterator[tuple[int, list[str]]]
    at: str = "line"

    def column(self, names: Collection[str]) -> int | None:
        """The position of the column with one of `names`, in any case; None if there is none, an error if there are several."""
        found = [i for i, name in enumerate(self.header) if name.strip().lower() in names]
        if len(found) > 1:
            raise InputError(f"{self.where} has {len(found)} columns for one thing: {first_few(self.header[i] for i in found)}. Keep one.")
        return found[0] if found else None


@contextmanager
def open_table(path: str | Path, *, what: str, give: str, row_names: bool = False) -> Iterator[TextTable]:
    """Open a CSV or tab-separated file, UTF-8 with or without a byte-order mark, plain or gzip.

    The fields are tab-separated if the header holds a tab, else comma-separated; where a .csv has both, by commas.

    Parameters
    ----------
    what
        The table's name in errors, such as "the guide map".
    give
        What to give instead where it is no file.
    row_names
        Also read the form of R's `write.table`, whose header lacks the name of the first column.

    Raises
    ------
    InputError
        on entering, or while the rows are read: not a file, empty, not UTF-8, damaged gzip, NUL bytes, open quotes, rows of other lengths.
    """
    if not isinstance(path, (str, Path)):
        raise InputError(f"{what} is a {type(path).__name__}; it must be a path or a table.")
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{what} {path} is not a file. {give}")
    where = f"{what} {path}"
    try:
        with path.open("rb") as raw:
            with io.TextIOWrapper(_plain(raw), encoding="utf-8-sig", newline="") as text:
                yield _table(text, path, where, row_names)
    except UnicodeDecodeError as error:
        raise _unreadable(where, f"it is not UTF-8 ({error.reason})") from error
    except csv.Error as error:
        raise _unreadable(where, str(error)) from error
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{where} can't be read: {error}. Is the file whole?") from error


def _plain(raw: io.BufferedReader) -> Any:
    """The bytes, unpacked if they are gzip."""
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP_MAGIC else raw


def _table(text: IO[str], path: Path, where: str, row_names: bool) -> TextTable:
    lines = _lines(text, where)
    blank = 0
    for first in lines:
        if first.strip("\r\n"):
            break
        blank += 1
    else:
        raise _unreadable(where, "it is empty")
    csv_ending = ".csv" in [ending.lower() for ending in path.suffixes[-2:]]
    delimiter = "\t" if "\t" in first and not (csv_ending and "," in first) else ","
    reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
    records = _records(reader, where, blank)
    _, header = next(records)
    row = next(records, None)
    if row is not None and row_names and len(row[1]) == len(header) + 1:
        header = ["", *header]
    rows = _of_width(itertools.chain([] if row is None else [row], records), len(header), where)
    return TextTable(where=where, header=header, rows=rows)


def _lines(text: IO[str], where: str) -> Iterator[str]:
    for number, line in enumerate(text, start=1):
        if "\0" in line:
            raise _unreadable(where, f"line {number} holds a NUL byte")
        yield line


def _records(reader: Iterator[list[str]], where: str, blank: int) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty lines, each with the line it ends on."""
    number = blank
    try:
        for fields in reader:
            number = blank + reader.line_num  # type: ignore[attr-defined]  # of csv.reader, whose type has no public name
            if fields:
                yield number, fields
    except csv.Error as error:
        raise _unreadable(where, f"after line {number}: {error}") from error


def _of_width(records: Iterator[tuple[int, list[str]]], width: int, where: str) -> Iterator[tuple[int, list[str]]]:
    for number, fields in records:
        if len(fields) != width:
            raise _unreadable(where, f"line {number} has {len(fields):,} fields but the header has {width:,}")
        yield number, fields


def _unreadable(where: str, problem: str) -> InputError:
    return InputError(f"{where} can't be read as a table: {problem}. Save it as UTF-8 CSV or TSV.")
