"""Guides of cells from the tables of Cell Ranger and SCEPTRE: every kind gives the same matrix, everything wrong is named."""

import gzip

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError, ScreenWarning
from data_prep.read.guide_tables import read_guide_table
from data_prep.read.screen import read_screen
from data_prep.tensors import fingerprint

CELLS = np.array(["AAAC-1", "AAAG-1", "AAAT-1", "AACC-1"], dtype=object)
GUIDES = ["g1", "g2", "n1"]
DENSE = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]])

CALLS = 'cell_barcode,num_features,feature_call,num_umis\nAAAT-1,1,n1,7\nAAAC-1,1,g1,3\nAAAG-1,2,g2|g1,"12|5"\n'
LONG = "cell_id,grna_id\nAAAG-1,g2\nAAAG-1,g1\nAAAC-1,g1\nAAAT-1,n1\nAAAG-1,g2\n"
LOGICAL = '"","AAAT-1","AAAC-1","AACC-1","AAAG-1"\n"g1",FALSE,TRUE,FALSE,TRUE\n"g2",FALSE,FALSE,FALSE,TRUE\n"n1",TRUE,FALSE,FALSE,FALSE\n'
KINDS = {
    "calls": CALLS,
    "calls that say none": CALLS + "AACC-1,0,None,0\n",
    "calls without numbers": "feature_call,cell_barcode\nn1,AAAT-1\ng1,AAAC-1\ng1|g2,AAAG-1\n",
    "calls, CRLF and BOM": "\ufeff" + CALLS.replace("\n", "\r\n"),
    "calls, tabs": CALLS.replace(",", "\t"),
    "long": LONG,
    "long, other names": LONG.replace("cell_id,grna_id", "Barcode,sgRNA"),
    "long with counts": "x,cell,grna,umi_count\n1,AAAG-1,g2,4\n2,AAAG-1,g1,1\n3,AAAC-1,g1,2\n4,AAAT-1,n1,9\n5,AACC-1,n1,0\n",
    "long with row names": 'cell\tgrna\n1\tAAAG-1\tg2\n2\tAAAG-1\tg1\n3\tAAAC-1\tg1\n"4"\tAAAT-1\tn1\n',
    "matrix, logical": LOGICAL,
    "matrix, 0/1": LOGICAL.replace("TRUE", "1").replace("FALSE", "0"),
    "matrix, counts": LOGICAL.replace("TRUE", "17").replace("FALSE", "0.00"),
    "matrix with R's short header": LOGICAL.removeprefix('"",'),
    "matrix, cells in rows": "cell,g1,g2,n1\nAAAT-1,0,0,1\nAAAC-1,1,0,0\nAACC-1,0,0,0\nAAAG-1,1,2,0\n",
}


def dense(found) -> np.ndarray:
    matrix, names, _ = found
    assert matrix.dtype == np.float32 and matrix.has_canonical_format and names.tolist() == GUIDES
    return matrix.toarray()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind, tmp_path):
    path = tmp_path / "guides.csv"
    path.write_bytes(KINDS[kind].encode())
    np.testing.assert_array_equal(dense(read_guide_table(path, CELLS)), DENSE)
    packed = tmp_path / "guides.csv.gz"
    packed.write_bytes(gzip.compress(KINDS[kind].encode()))
    np.testing.assert_array_equal(dense(read_guide_table(str(packed), CELLS)), DENSE)


@pytest.mark.parametrize("form", ["matrix", "matrix, cells in rows", "pairs", "frame"])
def test_raw_counts_in_a_table(form, tmp_path):
    cells = np.array([f"c{i}" for i in range(80)], dtype=object)
    counts = pd.DataFrame(np.where(np.arange(240).reshape(80, 3) % 4, np.arange(240).reshape(80, 3) % 3, 9), index=cells, columns=GUIDES)
    stacked = counts.stack().reset_index().set_axis(["cell", "grna", "umi_count"], axis=1)
    given = tmp_path / "counts.csv"
    if form == "frame":
        given = counts
    else:
        {"matrix": counts.T, "pairs": stacked.set_index("cell")}.get(form, counts).to_csv(given)
    with pytest.raises(InputError, match="holds raw guide counts: 33% of its nonzero entries are 1 and 67% are larger"):
        read_guide_table(given, cells)
    assert read_guide_table(given, cells, min_umi=5)[0].nnz == 60 and read_guide_table(given, cells, min_umi=1)[0].nnz == (counts > 0).sum().sum()


@pytest.mark.parametrize("kind", ["calls", "long", "matrix, logical"])
def test_calls_have_no_minimum(kind, tmp_path):
    path = tmp_path / "guides.csv"
    path.write_bytes(KINDS[kind].encode())
    with pytest.raises(InputError, match="holds no count above 1.*Leave min_umi out: these are calls"):
        read_guide_table(path, CELLS, min_umi=5)


def frames() -> dict[str, pd.DataFrame]:
    matrix = pd.DataFrame(DENSE, index=CELLS, columns=GUIDES).iloc[::-1]
    calls = pd.DataFrame({"cell_barcode": ["AAAT-1", "AAAC-1", "AAAG-1", "AACC-1"], "feature_call": ["n1", "g1", "g2|g1", None], "num_features": [1, 1, 2, 0]})
    long = pd.DataFrame({"cell_id": ["AAAG-1", "AAAG-1", "AAAC-1", "AAAT-1"], "grna_id": pd.Categorical(["g2", "g1", "g1", "n1"])})
    return {
        "cells × guides": matrix,
        "bool": matrix.astype(bool),
        "sparse": matrix.astype(pd.SparseDtype(int, 0)),
        "guides × cells": matrix.T,
        "calls": calls,
        "calls by index": calls.set_index("cell_barcode"),
        "long": long,
        "long, any index": long.set_index(np.array([7, 7, 7, 7])),
    }


@pytest.mark.parametrize("kind", frames())
def test_frames(kind):
    frame = frames()[kind]
    before = frame.copy()
    np.testing.assert_array_equal(dense(read_guide_table(frame, CELLS)), DENSE)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CALLS + "AAAC-1,1,g2,3\n", "'AAAC-1' appears twice, on line 3 and line 5. Keep one"),
        (CALLS + "AACC-1,2,g2,3\n", r"line 5 has num_features '2' but 1 guides in feature_call \('g2'\)"),
        (CALLS + "AACC-1,2,g2|,3\n", "line 5 has a guide or cell without a name"),
        ("feature_call,num_umis\ng1,2\n", "has no column such as cell_barcode; it has: feature_call, num_umis"),
        ("cell,barcode,grna\na,b,c\n", "has 2 columns for the same thing: cell, barcode. Keep one"),
        (LONG + "AACC-1,\n", "line 7 has a guide or cell without a name"),
        (LOGICAL.replace("TRUE\n", "yes\n", 1), "line 2 has 'yes' in column 'AAAG-1'; entries are TRUE or FALSE"),
        (LOGICAL.replace("TRUE\n", "-1\n", 1), "line 2 has '-1' in column 'AAAG-1'"),
        (LOGICAL.replace("TRUE\n", "NA\n", 1), "line 2 has 'NA' in column 'AAAG-1'"),
        (LOGICAL.replace("TRUE\n", "1_0\n", 1), "line 2 has '1_0' in column 'AAAG-1'"),
        (LOGICAL.replace("TRUE\n", "\n", 1), "line 2 has '' in column 'AAAG-1'"),
        (LOGICAL.replace('"g2"', '"g1"'), "'g1' appears twice, on line 2 and line 3"),
        (LOGICAL.replace('"AACC-1"', '"AAAC-1"'), "repeats columns: AAAC-1"),
        ("x,y\n1,2\n", r"of no known kind: its columns are x, y, its first rows 1, and neither .*AAAC-1, AAAG-1, AAAT-1.*protospacer_calls_per_cell"),
        ("x;y\n1;2\n", "of no known kind"),
        ("a,b\nsome,text\n", "line 2 has 'text' in column 'b'.*If this is not a matrix, give Cell Ranger"),
        (CALLS.split("\n")[0], "has no rows"),
        ("cell_barcode,feature_call\nAAAC-1,None\n", "names no guide"),
        (
            CALLS.replace("-1", ""),
            r"names no cell of the screen \(the table has AAAT, AAAC, AAAG; the screen has AAAC-1.*They agree except for the ending '-1'",
        ),
        (CALLS.replace("AA", "GG"), "names no cell of the screen.*Use the same names in both"),
        (LOGICAL.replace("-1", ""), "of no known kind.*They agree except for the ending '-1'"),
    ],
)
def test_wrong_tables(text, message, tmp_path):
    path = tmp_path / "guides.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"(?s)guide table .*guides\.csv.*{message}"):
        read_guide_table(path, CELLS)


def test_wrong_frames(tmp_path):
    matrix = pd.DataFrame(DENSE, index=CELLS, columns=GUIDES)
    for frame, message in [
        (matrix.set_index(np.array(["AAAC", "AAAG", "AAAT", "AACC"])), "of no known kind.*They agree except for the ending"),
        (matrix.iloc[[0, 0, 1]], "repeats names: AAAC-1"),
        (matrix - 1, "negative"),
        (pd.DataFrame({"cell": ["AAAC-1"], "guide": [None]}), "row 0 has a guide or cell without a name"),
        (matrix.astype(object).where(matrix != 0, "no"), "numeric"),
        (pd.DataFrame(), "no known kind"),
    ]:
        with pytest.raises(InputError, match=message):
            read_guide_table(frame, CELLS)
    for given, message in [(3, "is a int; it must be a path"), (tmp_path, "is not a file. Give Cell Ranger's"), (tmp_path / "none.csv", "is not a file")]:
        with pytest.raises(InputError, match=message):
            read_guide_table(given, CELLS)
    path = tmp_path / "guides.csv"
    path.write_text(CALLS)
    with pytest.raises(InputError, match="obs_names repeat.*AAAC-1"):
        read_guide_table(path, np.append(CELLS, "AAAC-1"))


def test_cells_that_only_one_side_has(tmp_path):
    path = tmp_path / "guides.csv"
    path.write_text(CALLS + "GGGG-1,1,g9,2\n")
    with pytest.warns(ScreenWarning, match="1 of its cells are not in the screen and were left out: GGGG-1"):
        matrix, names, _ = read_guide_table(path, CELLS)
    assert names.tolist() == ["g1", "g2", "g9", "n1"] and matrix[:, 2].nnz == 0
    path.write_text(CALLS)
    more = np.append(CELLS, [f"CCC{i}-2" for i in range(2)])
    assert read_guide_table(path, more)[0].shape == (6, 3)  # half of the cells have calls: nothing to say
    with pytest.warns(ScreenWarning, match="lists 3 of the screen's 7 cells; the others are taken to carry no guide"):
        read_guide_table(path, np.append(more, "CCC3-2"))
    path.write_text(CALLS.replace("AAAT-1", "AAAT-2").replace("AAAG-1", "AAAG-2"))
    with pytest.warns(ScreenWarning) as message:
        read_guide_table(path, CELLS)
    assert any("lists 1 of the screen's 4 cells" in str(w.message) and "They agree except for the ending" in str(w.message) for w in message)
    path.write_text(LOGICAL)
    with pytest.warns(ScreenWarning, match="lists 4 of the screen's 5 cells"):  # a matrix means to list them all
        read_guide_table(path, np.append(CELLS, "CCC1-2"))


@pytest.mark.parametrize("kind", ["calls", "long", "matrix"])
def test_screen_with_a_guide_table(kind, screen_adata, simulated, tmp_path):
    guides = pd.DataFrame(screen_adata.obsm["guide"].toarray().astype(int), index=screen_adata.obs_names, columns=list(screen_adata.uns["guide_names"]))
    path = tmp_path / "guides.csv"
    if kind == "matrix":
        guides.T.to_csv(path)
    else:
        pairs = guides.stack()[lambda present: present > 0].reset_index().set_axis(["cell", "guide", "n"], axis=1)
        if kind == "calls":
            pairs = pairs.groupby("cell", as_index=False)["guide"].agg("|".join).set_axis(["cell_barcode", "feature_call"], axis=1)
        pairs.sample(frac=1, random_state=0).to_csv(path, index=False)
    expected = read_screen(simulated.adata)
    del screen_adata.obsm["guide"], screen_adata.uns["guide_names"]
    found = read_screen(screen_adata, guides=path)
    order = [expected.guide_names.tolist().index(name) for name in found.guide_names]
    assert (found.guides != expected.guides[:, order]).nnz == 0
    if kind == "matrix":
        assert fingerprint(found, ref_fate="EC") == fingerprint(expected, ref_fate="EC")
