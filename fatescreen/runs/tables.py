"""CSV tables."""

from pathlib import Path

import pandas as pd

from data_prep.errors import InputError
from data_prep.files import atomic


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV with ten significant digits."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")


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
