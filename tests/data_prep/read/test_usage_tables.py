"""Program usage as cNMF writes it, matched to cells by name."""

import gzip

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError, ScreenWarning
from data_prep.read.usage_tables import read_usage_table

CELLS = np.array(["c1-1", "c2-1", "c3-1"], dtype=object)
VALUES = np.array([[12.5, 0.0, 1e-3], [3.0, 4.0, 5.25], [0.1, 0.2, 30.0]])
FRAME = pd.DataFrame(VALUES, index=list(CELLS), columns=[1, 2, 3])
NAMES = ("program_1", "program_2", "program_3")
TEXT = FRAME.to_csv(sep="\t")


@pytest.mark.parametrize("ending", [".txt", ".csv", ".tsv", ".txt.gz", ".csv.gz"])
def test_files_in_any_order(ending, tmp_path):
    path = tmp_path / f"run.usages.k_3.dt_0_1.consensus{ending}"
    FRAME.iloc[[2, 0, 1]].to_csv(path, sep="," if ".csv" in ending else "\t")
    values, programs, where = read_usage_table(path, CELLS)
    np.testing.assert_array_equal(values, VALUES)
    assert programs == NAMES and str(path) in where and values.dtype == np.float64


def test_frames_in_any_order():
    for frame in (FRAME, FRAME.iloc[::-1], FRAME.astype("Float64"), FRAME.rename(columns=str)):
        values, programs, _ = read_usage_table(frame, CELLS)
        np.testing.assert_array_equal(values, VALUES)
        assert programs == NAMES
    assert read_usage_table(FRAME.set_axis(["1", "Usage_2", "stress"], axis=1), CELLS)[1] == ("program_1", "Usage_2", "stress")


def test_numbers_are_read_exactly(tmp_path):
    values = np.random.default_rng(0).gamma(0.3, size=(3, 40))
    path = tmp_path / "usages.txt"
    pd.DataFrame(values, index=list(CELLS), columns=range(1, 41)).to_csv(path, sep="\t")
    np.testing.assert_array_equal(read_usage_table(path, CELLS)[0], values)


def test_cells_that_the_screen_lacks_are_counted(tmp_path):
    path = tmp_path / "usages.txt"
    path.write_text(TEXT)
    for given in (path, FRAME):
        with pytest.warns(ScreenWarning, match="2 of its cells are not in the screen and were left out: c1-1, c3-1"):
            values, _, _ = read_usage_table(given, CELLS[1:2])
        np.testing.assert_array_equal(values, VALUES[1:2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("5.25", "high"), r"line 3 \(cell c2-1\) has 'high' in column '3', where a number should be"),
        (TEXT.replace("5.25", ""), r"line 3 \(cell c2-1\) has '' in column '3'"),
        (TEXT.replace("5.25", "NA"), "line 3"),
        (TEXT.replace("5.25", "5_25"), "has '5_25' in column '3'"),
        (TEXT.replace("5.25", "5,25"), "has '5,25'"),
        (TEXT.replace("\t5.25", ""), "line 3 has 3 fields but the header has 4. Save it as UTF-8"),
        (TEXT.replace("5.25", "5.25\t1"), "line 3 has 5 fields"),
        (TEXT.replace("c2-1", "c1-1"), "'c1-1' appears twice, on line 2 and line 3"),
        (
            TEXT.replace("\n", "\ng2-1\t0\t0\t0\n", 1).replace("c2-1", "g1-1"),
            r"lacks 1 of the screen's 3 cells: c2-1 \(the table has g2-1, g1-1;.*subset the screen",
        ),
        (TEXT.replace("c2-1\t3.0\t4.0\t5.25\n", ""), "lacks 1 of the screen's 3 cells: c2-1. Subset the screen"),
        (TEXT.replace("-1", ""), "names no cell of the screen.*They agree except for the ending '-1'"),
        (TEXT.split("\n")[0] + "\n", "has no rows. Give cNMF's"),
        ("\n".join(line.split("\t")[0] for line in TEXT.split("\n")).replace("\n", "cell\n", 1), "has no column of a program"),
        (TEXT.replace("\t2\t", "\t1\t"), "repeats programs: program_1"),
        (TEXT.replace("\t2\t", "\t \t"), "has no name over columns 3"),
    ],
)
def test_wrong_files(text, message, tmp_path):
    path = tmp_path / "usages.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"(?s)the usage table .*usages\.txt.*{message}"):
        read_usage_table(path, CELLS)


def test_wrong_frames_and_paths(tmp_path):
    for given, message in [
        (FRAME.iloc[:2], "lacks 1 of the screen's 3 cells: c3-1"),
        (FRAME.iloc[[0, 0, 1, 2]], "repeats cells: c1-1"),
        (FRAME.astype(object).where(FRAME != 4.0, "x"), "not numeric"),
        (FRAME.reset_index(drop=True), "names no cell of the screen"),
        (FRAME.iloc[:, :0], "has no column of a program"),
        (FRAME.iloc[:0], "has no rows"),
        (tmp_path / "none.txt", "is not a file. Give cNMF's"),
        (3, "it must be a path or a table"),
    ]:
        with pytest.raises(InputError, match=message):
            read_usage_table(given, CELLS)
    whole = gzip.compress(TEXT.encode())
    (tmp_path / "cut.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="can't be read: .*Is the file complete"):
        read_usage_table(tmp_path / "cut.txt.gz", CELLS)
