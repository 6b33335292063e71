"""CSV tables."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from pyarrow import csv as pa_csv

from data_prep.errors import InputError
from data_prep.files import atomic

DIGITS = 10
BLOCK_ROWS = 100_000
MOST_EXACT = 22  # 10²² is the largest power of ten that a double holds exactly


def write_table(table: pd.DataFrame, path: Path, *, index: bool = False) -> None:
    """Write a CSV with ten significant digits: by pyarrow in blocks of rows, ten times faster than `DataFrame.to_csv`."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        head = io.StringIO()
        names = [*([table.index.name or ""] if index else []), *table.columns]
        csv.writer(head, lineterminator="\n").writerow(names)
        file.write(head.getvalue().encode())
        for first in range(0, len(table), BLOCK_ROWS):
            rows = table.iloc[first : first + BLOCK_ROWS]
            columns = [*([rows.index.to_series()] if index else []), *(rows.iloc[:, j] for j in range(table.shape[1]))]
            block = pa.table([_array(column) for column in columns], names=[str(j) for j in range(len(columns))])
            style = "needed" if any(_has_special(part) for part in block.columns) else "none"  # pyarrow's "needed" quotes every text
            pa_csv.write_csv(block, file, pa_csv.WriteOptions(include_header=False, quoting_style=style))


def _has_special(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) and pc.any(pc.match_substring_regex(column, '[",\r\n]')).as_py()


def _array(column: pd.Series) -> pa.Array:
    """A column as pyarrow writes it: missing values and empty texts as nothing, floats rounded."""
    if pd.api.types.is_bool_dtype(column) and not column.isna().any():
        return pa.array(np.where(column.to_numpy(bool), "True", "False"))
    if pd.api.types.is_float_dtype(column):
        values = rounded(column.to_numpy(np.float64, na_value=np.nan))
        return pa.array(values, mask=np.isnan(values))
    if pd.api.types.is_integer_dtype(column) and not column.isna().any():
        return pa.array(column.to_numpy())
    text = column.astype(object).where(column.notna(), None)
    return pa.array([None if value is None or value == "" else str(value) for value in text], pa.string())


def rounded(values: Float[np.ndarray, " numbers"]) -> Float[np.ndarray, " numbers"]:
    """The doubles nearest to the values with ten significant digits, whose shortest texts have these digits.

    A whole number of ten digits over an exact power of ten is rounded once, so the quotient is the nearest double; other numbers are read from their text.
    """
    values = np.asarray(values, dtype=np.float64)
    out = values.copy()
    here = np.flatnonzero(np.isfinite(values) & (values != 0))
    shift = DIGITS - 1 - np.floor(np.log10(np.abs(values[here]))).astype(int)
    exact = (shift >= 0) & (shift <= MOST_EXACT)
    power = 10.0 ** shift[exact]
    out[here[exact]] = np.rint(values[here[exact]] * power) / power
    for i in here[~exact]:
        out[i] = float(f"{values[i]:.{DIGITS}g}")
    return out


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV of the user's; an `InputError` names the file that is none."""
    if not path.is_file():
        raise InputError(f"{path} is not a file. Give the path of a CSV.")
    try:
        return pd.read_csv(path)
    except MemoryError:
        raise
    except Exception as error:  # pandas reads zip, xz, ... by the ending, and each raises its own
        raise InputError(f"{path} can't be read as a CSV: {error}. Save it as UTF-8 CSV.") from error
