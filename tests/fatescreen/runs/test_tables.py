"""CSV tables: what pandas would write, faster."""

import numpy as np
import pandas as pd
import pytest

from fatescreen.runs import tables
from fatescreen.runs.tables import rounded, write_table

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "text": ["x", "y", "é", None, "NA", ""],
        "float": [1.5, np.nan, 1e-300, -0.0, 123456789012.25, 100.0],
        "whole": [1.0, 2.0, 3.0, np.nan, 5.0, 6.0],
        "limits": [np.inf, -np.inf, 1e22, 1e-5, 2 / 3, 1e15],
        "count": np.arange(6),
        "flag": [True, False] * 3,
        "kind": pd.Categorical(list("aabbcc")),
    }
)
SPECIAL = TABLE.assign(text=["a,b", 'q"u', "line\nbreak", None, "", "NA"])


@pytest.mark.parametrize("table", [TABLE, SPECIAL, TABLE.iloc[:0], TABLE.set_index("count")], ids=["plain", "special", "empty", "index"])
@pytest.mark.parametrize("block", [2, 100])
def test_a_table_is_read_as_that_of_pandas(table, block, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_ROWS", block)
    index = table.index.name is not None
    write_table(table, tmp_path / "ours.csv", index=index)
    table.to_csv(tmp_path / "theirs.csv", index=index, float_format="%.10g", lineterminator="\n")
    empty = {"float": [""], "whole": [""], "limits": [""]}
    read = [pd.read_csv(tmp_path / name, keep_default_na=False, na_values=empty) for name in ("ours.csv", "theirs.csv")]
    pd.testing.assert_frame_equal(*read)


def test_a_matrix_has_the_bytes_of_pandas(tmp_path):
    frame = pd.DataFrame(RNG.normal(size=(30, 4)) * 10.0 ** RNG.integers(-3, 9, (30, 4)), index=[f"g{i}" for i in range(30)], columns=list("abcd"))
    write_table(frame.rename_axis("target"), tmp_path / "ours.csv", index=True)
    frame.rename_axis("target").to_csv(tmp_path / "theirs.csv", float_format="%.10g", lineterminator="\n")
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def test_rounding_is_that_of_the_text():
    values = np.concatenate([RNG.normal(size=5000), RNG.random(5000) ** 30, 10.0 ** RNG.uniform(-300, 300, 300), [0.0, -0.0, np.inf, np.nan, 5e-324]])
    expected = [float(f"{value:.10g}") for value in values.tolist()]
    np.testing.assert_array_equal(rounded(values), expected)
