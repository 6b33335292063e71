"""Guide presence, the map, and the guide → gene index against a slow oracle."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_prep.errors import InputError, ScreenWarning
from data_prep.read.guide_map import GuideMap
from data_prep.read.guides import match_map, presence

CELLS = np.array([f"c{i}" for i in range(4)])
CANCELLING = sp.csr_matrix((np.array([1.0, -1.0]), np.array([0, 0]), np.array([0, 0, 2, 2, 2])), shape=(4, 2))  # one entry twice, summing to 0


@given(hnp.arrays(np.int16, (4, 3), elements=st.integers(0, 300)))
def test_presence_is_where_the_entries_are_nonzero(matrix):
    rows, cols = np.indices(matrix.shape).reshape(2, -1)
    with_zeros = sp.csr_matrix((matrix.ravel(), (rows, cols)), shape=matrix.shape)
    twice = sp.csr_matrix((np.tile(matrix.ravel(), 2), (np.tile(rows, 2), np.tile(cols, 2))), shape=matrix.shape)
    for form in (
        matrix,
        matrix > 0,
        matrix.astype(float),
        sp.csr_matrix(matrix),
        sp.csc_matrix(matrix),
        sp.coo_matrix(matrix),
        with_zeros,
        twice,
        pd.DataFrame(matrix),
    ):
        found = presence(form, CELLS, where="g")
        assert found.dtype == np.float32 and found.has_canonical_format
        assert np.array_equal(found.toarray(), (matrix > 0).astype(np.float32))
        assert found.nnz == (matrix > 0).sum()


@given(hnp.arrays(np.int16, (4, 3), elements=st.integers(0, 9)), st.integers(1, 9))
def test_presence_from_a_minimum_of_umis(matrix, least):
    matrix[0, 0] = 9
    stored = np.stack([matrix // 2, matrix - matrix // 2], axis=-1).ravel()  # each entry in two parts, which are summed first
    twice = sp.csr_matrix((stored, (np.repeat(np.indices(matrix.shape)[0], 2), np.repeat(np.indices(matrix.shape)[1], 2))), shape=matrix.shape)
    for form in (matrix, matrix.astype(float), sp.csc_matrix(matrix), twice, pd.DataFrame(matrix)):
        assert np.array_equal(presence(form, CELLS, where="g", min_umi=least).toarray(), (matrix >= least).astype(np.float32))


RNG = np.random.default_rng(0)
ASSIGNED = (np.arange(4)[None, :] == RNG.integers(0, 4, 500)[:, None]).astype(np.int64)  # one guide a cell
CAUGHT = ASSIGNED * (1 + RNG.poisson(12, ASSIGNED.shape))  # its UMIs
AMBIENT = RNG.poisson(0.7, ASSIGNED.shape)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, pd.DataFrame], ids=["dense", "sparse", "table"])
def test_raw_counts_are_refused_with_three_ways_out(form):
    """Calls pass: presence, UMIs of called guides, and presence with a few guides counted twice."""
    many, raw = np.array([f"c{i}" for i in range(500)]), CAUGHT + AMBIENT
    for calls in (ASSIGNED, np.where(CAUGHT >= 3, CAUGHT, 0), ASSIGNED + (np.arange(2000).reshape(500, 4) % 997 == 0) * ASSIGNED):
        assert (presence(form(calls), many, where="g") != sp.csr_matrix(calls > 0)).nnz == 0
    with pytest.raises(InputError, match=r"g holds raw guide counts: \d+% .*Set min_umi .*; or call guides upstream .*; or set min_umi to 1") as error:
        presence(form(raw), many, where="g")
    assert error.value.arguments == ("min_umi",)
    assert presence(form(raw), many, where="g", min_umi=1).nnz == (raw > 0).sum() > 1000
    assert abs(presence(form(raw), many, where="g", min_umi=5).nnz - 500) < 10
    with pytest.raises(InputError, match="g holds no count above 1, so a minimum of 3 UMIs leaves no guide"):
        presence(form(ASSIGNED), many, where="g", min_umi=3)


def test_presence_leaves_its_input():
    matrix = sp.csr_matrix((np.array([0.0, 2.0, 2.0, 3.0]), np.array([2, 1, 1, 0]), np.array([0, 3, 3, 3, 4])), shape=(4, 3))
    before = [getattr(matrix, a).copy() for a in ("data", "indices", "indptr")]
    for name in ("data", "indices", "indptr"):
        getattr(matrix, name).flags.writeable = False
    assert presence(matrix, CELLS, where="g").toarray().tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert all(np.array_equal(getattr(matrix, a), b) for a, b in zip(("data", "indices", "indptr"), before, strict=True))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((3, 2)), r"g has 3 rows but the screen has 4 cells"),
        (np.ones(4), r"shape \(4,\)"),
        (None, r"must be a numeric cells × guides matrix"),
        (CANCELLING, r"negative entries in row 1 \(c1\)"),
        (np.full((4, 2), np.inf), r"infinite or negative entries in row 0 \(c0\); row 1 \(c1\); .*Give counts"),
        (pd.DataFrame({"a": pd.array([1, 0, pd.NA, 0], dtype="boolean")}), r"NaN, .* row 2 \(c2\)"),
        (pd.DataFrame({"a": list("xyzw")}), r"type object"),
    ],
)
def test_presence_refuses(matrix, message):
    with pytest.raises(InputError, match=message):
        presence(matrix, CELLS, where="g")


def test_match_map():
    table = GuideMap.from_frame(pd.DataFrame({"guide_name": ["n1", "b1", "a1", "q"], "gene_name": ["NTC", "B", "A", "Q"]}))
    matrix = sp.csr_matrix(np.eye(4, dtype=np.float32))
    with pytest.warns(ScreenWarning, match="g: 1 guides are not in the guide map and were ignored: zz"):
        guides, names, gene, is_ntc = match_map(matrix, np.array(["a1", "zz", "n1", "b1"], dtype=object), table, where="g")
    assert (names.tolist(), gene.tolist(), is_ntc.tolist()) == (["a1", "n1", "b1"], ["A", "NTC", "B"], [False, True, False])
    assert np.array_equal(guides.toarray(), np.eye(4)[:, [0, 2, 3]])
    with pytest.raises(InputError, match=r"none of the 4 guides is in the guide map \(the screen has w, x, y and 1 more; the map has n1, b1, a1 and 1 more\)"):
        match_map(matrix, np.array(list("wxyz"), dtype=object), table, where="g")
