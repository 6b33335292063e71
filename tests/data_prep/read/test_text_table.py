"""Every text reader on every text: a value or an `InputError`, never another exception.

FUZZ_SECONDS=300 python -m pytest tests/data_prep/read/test_text_table.py tests each reader for that time.
"""

import gzip
import os
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError, ScreenWarning
from data_prep.read import text_table
from data_prep.read.guide_map import GuideMap
from data_prep.read.guide_tables import read_guide_table
from data_prep.read.text_table import TextTable, open_table
from data_prep.read.usage_tables import read_usage_table

SECONDS = float(os.environ.get("FUZZ_SECONDS", 0))
CELLS = np.array(["c1", "c2-1", "é", ""], dtype=object)
READERS = {
    "map": lambda given: GuideMap.from_frame(given) if isinstance(given, pd.DataFrame) else GuideMap.from_file(given),
    "guides": lambda given: read_guide_table(given, CELLS),
    "usage": lambda given: read_usage_table(given, CELLS),
}
WORDS = (
    ["guide_name", "gene_name", "is_ntc", "grna_id", "grna_target", "id", "feature_type", "target_gene_name", "CRISPR Guide Capture", "Non-Targeting", "Ignore"]
    + ["cell_barcode", "feature_call", "num_features", "cell", "Barcode", "grna", "umi_count", "g1", "g1|g2", "None", "NA", "TRUE", "False", "true", "program"]
    + [
        *CELLS,
        "c2",
        "1",
        "2",
        "3",
        "0",
        "0.0",
        "-1",
        "1e400",
        "nan",
        "inf",
        "1_0",
        "١",
        "0x1",
        " ",
        '"',
        '""',
        "'",
        "\0",
        "\ufeff",
        "a\nb",
        "a\r",
        "a,b",
        "a\tb",
    ]
)
FIELD = st.sampled_from(WORDS) | st.text(max_size=4)
ROW = st.lists(FIELD, max_size=5)


@st.composite
def tables(draw) -> bytes:
    """Texts that are close to tables: known words, quoted or not, rows of one length or not."""
    rows = draw(st.lists(ROW, max_size=5))
    if draw(st.booleans()) and rows:
        width = max(map(len, rows))
        rows = [(row + ["c1"] * width)[:width] for row in rows]
    separator, end = draw(st.sampled_from([",", "\t", ";"])), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quote = draw(st.sampled_from([str, lambda field: '"' + field.replace('"', '""') + '"']))
    text = end.join(separator.join(map(quote, row)) for row in rows) + draw(st.sampled_from(["", end, end + end]))
    data = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-16", "latin-1"])), "replace")
    return spoilt(draw, data)


def spoilt(draw, data: bytes) -> bytes:
    """Perhaps packed, and perhaps cut or with a byte changed."""
    packed = draw(st.sampled_from([False, False, True]))
    data = gzip.compress(data, mtime=0) if packed else data
    if draw(st.integers(0, 3)) == 0 and data:
        place = draw(st.integers(0, len(data) - 1))
        data = data[:place] if draw(st.booleans()) else data[:place] + draw(st.binary(max_size=2)) + data[place + 1 :]
    return data


FRAMES = st.builds(
    lambda rows, header, index: pd.DataFrame([(row + [None] * len(header))[: len(header)] for row in rows], columns=header).pipe(
        lambda frame: frame.set_axis((index * (len(frame) + 1))[: len(frame)]) if index else frame
    ),
    st.lists(st.lists(FIELD | st.none() | st.floats() | st.integers() | st.booleans() | st.binary(max_size=3), max_size=4), max_size=4),
    st.lists(FIELD | st.integers() | st.none(), max_size=4),
    st.lists(FIELD | st.integers(), max_size=4),
)


def survive(reader: str, given_: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        try:
            READERS[reader](given_)
        except InputError as error:
            assert str(error).endswith((".", "?"))  # ends with how to fix it


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", ["tables", "bytes", "frames"])
def test_a_value_or_an_input_error(reader, what, tmp_path):
    path = tmp_path / "table.csv"
    strategy = {"tables": tables(), "bytes": st.binary(max_size=200), "frames": FRAMES}[what]

    @settings(deadline=None, max_examples=2000 if SECONDS else 50, derandomize=not SECONDS, suppress_health_check=list(HealthCheck), database=None)
    @given(strategy)
    def each(data):
        if what == "frames":
            return survive(reader, data)
        path.write_bytes(data)
        survive(reader, path)

    each()
    start = time.monotonic()
    while time.monotonic() - start < SECONDS:
        each()


def records(data: bytes, tmp_path, name="table.csv", **options):
    path = tmp_path / name
    path.write_bytes(data)
    table = open_table(path, what="the table", give="Give a table.", **options)
    return table.header, list(table.rows())


def test_what_is_read(tmp_path):
    plain = (["cell", "é b"], [(2, ["c,1", "1"]), (3, ["c2", ""])])
    for data in ('cell,é b\n"c,1",1\nc2,\n', '\ufeffcell,é b\r\n"c,1",1\r\nc2,""\r\n', "cell\té b\nc,1\t1\nc2\t", 'cell,é b\r"c,1",1\rc2,'):
        assert records(data.encode(), tmp_path) == plain
        assert records(gzip.compress(data.encode()), tmp_path, name="table") == plain
    assert records(b"\n\na,b\n\n1,2\n\n", tmp_path) == (["a", "b"], [(5, ["1", "2"])])
    assert records(b'a,b\n"1\n2",3\n4,5\n', tmp_path)[1] == [(3, ["1\n2", "3"]), (4, ["4", "5"])]
    assert records(b'"a\tb",c\n1,2\n', tmp_path)[0] == ["a\tb", "c"]
    assert records(b"a\tb,c\n1\t2\n", tmp_path, name="t.tsv")[0] == ["a", "b,c"]
    assert records(b"g1\tg2\nx\t1\t2\n", tmp_path, row_names=True) == (["", "g1", "g2"], [(2, ["x", "1", "2"])])
    assert records(b"a,b\n", tmp_path) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"\n\r\n\n", "it is empty"),
        (b"\xef\xbb\xbf", "it is empty"),
        ("a,b\n1,é".encode("latin-1"), "it is not UTF-8"),
        ("a,b\n1,2".encode("utf-16"), "it is not UTF-8"),
        (b"a,b\n1,2\n1,\0\n", "line 3 holds a NUL byte"),
        (b"a,b\n1,2\n\n1,2,3\n", "line 4 has 3 fields but the header has 2"),
        (b"a,b\n1\n", "line 2 has 1 fields but the header has 2"),
        (b"a,b\n1,2,3\n", "line 2 has 3 fields"),
        (b'a,b\n1,"2\n3,4\n', "after line 1: unexpected end of data"),
        (b'a,b\n1,"2"3\n', "after line 1: ',' expected after '\"'"),
        (b"a,b\n1," + b"x" * 200_000, "after line 1: field larger than field limit"),
    ],
)
def test_what_is_refused(data, message, tmp_path):
    with pytest.raises(InputError, match=rf"the table .*table\.csv can't be read as a table: {message}.* Save it as UTF-8 CSV or TSV"):
        records(data, tmp_path)


def test_damaged_gzip(tmp_path):
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i * i, i**3) for i in range(2000)), mtime=0)
    for data in (packed[:-1], packed[: len(packed) // 2], packed[:12], packed[:500] + b"\0\0\0\0" + packed[504:], packed[:3], packed[:-8] + b"\1" * 8):
        with pytest.raises(InputError, match=r"can't be read: .*Is the file complete|not UTF-8|can't be read as a table"):
            records(data, tmp_path)
    with pytest.raises(InputError, match=r"table\.csv can't be read: .*Is the file complete"):
        records(packed[:-1], tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n")
    (tmp_path / "table.csv").chmod(0)
    with pytest.raises(InputError, match=r"can't be read: .*Permission denied"):
        open_table(tmp_path / "table.csv", what="the table", give="")


def test_columns_are_found_in_any_case(tmp_path):
    (tmp_path / "table.csv").write_text("Cell , GRNA,x\n1,2,3\n")
    table = open_table(tmp_path / "table.csv", what="the table", give="")
    assert table.column({"grna"}) == 1 and table.column({"cell", "barcode"}) == 0 and table.column({"y"}) is None
    with pytest.raises(InputError, match="2 columns for the same thing: Cell ,  GRNA. Keep one"):
        table.column({"cell", "grna"})


def from_rows(table: TextTable):
    return [fields for _, fields in table.rows()]


def from_blocks(table: TextTable):
    columns = range(len(table.header))
    return [list(fields) for block in table.blocks(columns) for fields in zip(*(column.to_pylist() for column in block.columns), strict=True)]


def from_long_rows(table: TextTable):
    return [[name, *fields.to_pylist()] for name, fields in table.long_rows(())]


def outcome(read, path):
    try:
        return read(open_table(path, what="the table", give="", row_names=True))
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("block_bytes", [5, 2**24])
def test_blocks_and_long_rows_are_the_rows_of_the_csv_module(block_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(text_table, "BLOCK_BYTES", block_bytes)
    path = tmp_path / "table.csv"
    texts = ['a,b\n"1\n2",3\n4,5\n', 'a,b\n"x""y",1\n', 'a,b\nx"y,1\n', 'a,b\r\n"é,1",2\r\n\r\n3,4', "a,b\n1,\n\n2,", "a\n1\n\n2", 'a\n""\n', "a,b\r1,2\r3,4"]

    @settings(deadline=None, max_examples=2000 if SECONDS else 100, derandomize=not SECONDS, suppress_health_check=list(HealthCheck), database=None)
    @given(tables() | st.sampled_from([text.encode() for text in texts]))
    def each(data):
        path.write_bytes(data)
        expected = outcome(from_rows, path)
        assert outcome(from_blocks, path) == expected
        assert outcome(from_long_rows, path) == expected

    each()
    for text in texts:
        each.hypothesis.inner_test(text.encode())


@pytest.mark.parametrize("bad", ["+1", "1e400", "x", "", "nan(1)"])
def test_a_number_that_only_one_reader_takes(bad, tmp_path):
    """Columns are numbers where pyarrow reads them as Python does; else the texts come back."""
    (tmp_path / "table.csv").write_text(f"a,b\nc1,0.5\nc2,{bad}\n")
    block = next(open_table(tmp_path / "table.csv", what="the table", give="").blocks([0, 1], [text_table.pa.float64()]))
    found = block.column(1).to_pylist()
    assert found == [0.5, float(bad)] if bad in ("+1", "1e400") else found == ["0.5", bad]
