"""The guide map and the invariants of a screen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError
from data_prep.read.guide_map import GuideMap
from data_prep.read.screen import read_screen

TABLE = pd.DataFrame({"guide_name": ["a1", "a2", "b1", "n1"], "gene_name": ["A", "A", "B", "non-targeting"], "is_ntc": [False, False, False, True]})


def rows(found: GuideMap) -> list[tuple[str, str, bool]]:
    return list(zip(found.guide, found.gene, found.is_ntc.tolist(), strict=True))


EXPECTED = rows(GuideMap.from_frame(TABLE))


def test_round_trip():
    assert EXPECTED == [("a1", "A", False), ("a2", "A", False), ("b1", "B", False), ("n1", "non-targeting", True)]
    pd.testing.assert_frame_equal(GuideMap.from_frame(TABLE).to_frame(), TABLE)


@pytest.mark.parametrize(
    "frame",
    [
        TABLE[["guide_name", "gene_name"]],
        TABLE.set_index(np.zeros(4, int)),
        TABLE.assign(is_ntc=["no", "FALSE", "0", "Yes"]),
        TABLE.assign(is_ntc=[0.0, 0.0, 0.0, 1.0]),
        TABLE.assign(guide_name=[b"a1", b"a2", b"b1", b"n1"]),
        TABLE.astype({"guide_name": "category", "gene_name": "string"}),
    ],
)
def test_forms(frame):
    before = frame.copy()
    assert rows(GuideMap.from_frame(frame)) == EXPECTED
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("label", ["non-targeting", "safe-targeting", "NTC"])
def test_default_ntc_labels(label):
    assert GuideMap.from_mapping({"a": "A", "n": label}).is_ntc.tolist() == [False, True]


def test_ntc_without_gene():
    assert GuideMap.from_frame(TABLE.assign(gene_name=["A", "A", "B", None])).is_ntc.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (TABLE[["guide_name"]], r"m has no column 'gene_name'; it has: guide_name\. It needs"),
        (TABLE.iloc[:0], r"m has no rows"),
        (pd.concat([TABLE, TABLE], axis=1), r"m has 2 columns 'guide_name'\. Keep one"),
        (pd.concat([TABLE, TABLE[["is_ntc"]]], axis=1), r"m has 2 columns 'is_ntc'\. Keep one"),
        (pd.concat([TABLE, TABLE[:1]]), r"lists a guide twice: a1 → A \(1 in all\)\. Keep one row"),
        (pd.concat([TABLE, TABLE[:1].assign(gene_name="B")]), r"maps a guide to two genes: a1 → A, B \(1 in all\)\. Keep one row"),
        (TABLE.assign(guide_name=["a1", None, "b1", "n1"]), r"m has no guide_name in rows 1\. Name or delete"),
        (TABLE.assign(gene_name=["A", None, "B", "NTC"]), r"no gene_name for the targeting guides a2\. Give each a gene"),
        (TABLE.assign(gene_name=["A", "  ", "B", "NTC"]), r"no gene_name for the targeting guides a2"),
        (TABLE.assign(is_ntc=["no", "maybe", "no", "yes"]), r"m: is_ntc of guide a2 is 'maybe' \(1 such rows\); use True or False"),
        (TABLE.assign(is_ntc=pd.array([pd.NA, False, False, True], dtype="boolean")), r"is_ntc of guide a1 is <NA>"),
        (TABLE.assign(is_ntc=False), r"m calls n1 targeting \(is_ntc false\) but gives the gene as 'non-targeting'.*Set is_ntc"),
    ],
)
def test_wrong_maps(frame, message):
    with pytest.raises(InputError, match=message):
        GuideMap.from_frame(frame, where="m")


def test_files(tmp_path):
    path = tmp_path / "map.csv"
    TABLE.to_csv(path, index=False)
    plain = path.read_text()
    assert rows(GuideMap.from_file(path)) == EXPECTED
    for text in ("\ufeff" + plain, plain.replace("\n", "\r\n"), plain.rstrip("\n")):
        path.write_bytes(text.encode())
        assert rows(GuideMap.from_file(path)) == EXPECTED
    path.write_text(plain.replace(",B,", ",NA,"))  # a gene may be called NA
    assert "NA" in GuideMap.from_file(path).gene
    for content, message in [
        (b"", "can't be read as a table.*Save it as UTF-8"),
        ("é".encode("latin1"), "UTF-8"),
        (plain.encode() + b"a,b,c,d,e\n", "can't be read as a table"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"(?s)map\.csv.*{message}"):
            GuideMap.from_file(path)
    path.write_text(plain.replace(",", ";"))
    with pytest.raises(InputError, match=r"map\.csv has no column 'guide_name'; it has: guide_name;gene_name;is_ntc"):
        GuideMap.from_file(path)
    for nowhere in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(InputError, match="is not a file. Give a CSV or TSV"):
            GuideMap.from_file(nowhere)
    for other in (3, {"a": "A"}):
        with pytest.raises(InputError, match="it must be a path, a DataFrame or a GuideMap"):
            GuideMap.from_file(other)


def test_sizes_must_agree(screen_adata, shapes_unchecked):
    with pytest.raises(InputError, match="2 guides, 1 genes and 2 NTC marks"):
        GuideMap(guide=np.array(["a", "b"]), gene=np.array(["A"]), is_ntc=np.zeros(2, bool))
    screen = read_screen(screen_adata)
    with pytest.raises(InputError, match=r"differ in size: guides are 300 × \d+, but \{'day': 299\}"):
        replace(screen, day=screen.day[1:])
    with pytest.raises(InputError, match="the guide names differ"):
        replace(screen, is_ntc=screen.is_ntc[1:])
    with pytest.raises(InputError, match="3 fate columns but 2 fate names"):
        replace(screen, fate_names=("EC", "MES"))
