"""Large matrices by blocks of rows: the same bits as whole, whatever holds them, and nothing read that is not asked for."""

from contextlib import nullcontext

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata.io import write_elem
from hypothesis import given, settings
from hypothesis import strategies as st

from crt.prepare import prepare_crt_inputs
from data_prep.errors import InputError
from data_prep.outcomes import LogRatios, SmallestPositive, clr_usage
from data_prep.read import guides as reading_guides
from data_prep.read import rows
from data_prep.read.container import View, open_view
from data_prep.read.guides import presence
from data_prep.read.rows import StoredRows, StoredSparse, StoredTable, row_blocks, waiting
from data_prep.read.screen import read_screen
from data_prep.tensors import fingerprint

N = 3000
CELLS = np.array([f"c{i}" for i in range(N)], dtype=object)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_BYTES", 8)  # blocks of 1,024 rows, the least


def usage(seed=0, k=7):
    rng = np.random.default_rng(seed)
    drawn = rng.gamma(0.5, size=(N, k)) * (rng.random((N, k)) > 0.2)
    drawn[:, 0] += 1e-6
    return drawn / drawn.sum(1, keepdims=True)


def whole_clr(values, q):
    """The transform of the whole, in float64."""
    share = values / values.sum(1, keepdims=True)
    share = np.maximum(share, np.quantile(share[share > 0], q))
    share /= share.sum(1, keepdims=True)
    np.log(share, out=share)
    return share - share.mean(1, keepdims=True)


def test_blocks_cover_the_rows():
    for n in (0, 1, 1023, 1024, 1025, 2049, N):
        found = list(row_blocks((n, 5)))
        assert [i for block in found for i in range(block.start, block.stop)] == list(range(n))
        assert n == 1 or all(block.stop - block.start > 1 for block in found)
    assert len(list(row_blocks((N, 5)))) == 3


HOLDERS = {
    "C": lambda u: u,
    "Fortran": np.asfortranarray,
    "float32": lambda u: u.astype(np.float32),
    "table": lambda u: pd.DataFrame(u),
    "table of columns": lambda u: pd.DataFrame({f"p{j}": u[:, j].copy() for j in range(u.shape[1])}),
    "every second row": lambda u: np.repeat(u, 2, axis=0)[::2],
}


@pytest.mark.filterwarnings("ignore:.*rows do not sum to 1")
@pytest.mark.parametrize("q", [0, 1e-4, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("holder", HOLDERS)
def test_clr_by_blocks_is_that_of_the_whole(holder, q):
    given = HOLDERS[holder](usage())
    whole = np.asarray(given.to_numpy() if isinstance(given, pd.DataFrame) else given, dtype=np.float64)
    found = clr_usage(given, eps_quantile=q)
    np.testing.assert_array_equal(found, whole_clr(whole, q))
    some = np.concatenate([block for _, block in LogRatios.of(given, CELLS, eps_quantile=q).blocks([1, 4])])
    np.testing.assert_array_equal(some, found[:, [1, 4]])


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(-1, 5, width=32), max_size=20), min_size=1, max_size=6).filter(lambda blocks: any(x > 0 for b in blocks for x in b)),
    st.floats(0, 0.999),
)
def test_the_quantile_of_blocks_is_numpys(blocks, q):
    least = SmallestPositive(q, sum(map(len, blocks)))
    for block in blocks:
        least.add(np.array(block, dtype=np.float64))
    together = np.array([x for block in blocks for x in block if x > 0], dtype=np.float64)
    assert least.quantile() == np.quantile(together, q)


def guides(dtype):
    return (np.random.default_rng(1).random((N, 5)) < 0.3).astype(dtype) * np.ones(1, dtype)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32])
def test_presence_by_blocks(dtype):
    dense = guides(dtype)
    expected = presence(sp.csr_matrix(dense.astype(np.float32)), CELLS, where="g")
    for form in (dense, np.asfortranarray(dense), pd.DataFrame(dense), StoredRows(dense, _nothing)):
        found = presence(form, CELLS, where="g")
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
            assert getattr(found, part).dtype == getattr(expected, part).dtype
        assert found.has_canonical_format


def test_errors_of_later_blocks():
    for value, message in ((-1, r"negative entries in row 2500 \(c2500\)"), (np.nan, "row 2500")):
        dense = guides(np.float32)
        dense[2500, 2] = value
        with pytest.raises(InputError, match=message):
            presence(dense, CELLS, where="g")
    table = pd.DataFrame(guides(np.float32)).astype(object)
    table.iloc[2500, 1] = "x"
    with pytest.raises(InputError, match=r"numeric cells × guides matrix; it has shape \(3000, 5\) and type object"):
        presence(table, CELLS, where="g")
    for change, message in ((-0.1, r"negative in row 2500 \(c2500\)"), (0.0, r"zero throughout in row 2500 \(c2500\)")):
        spoilt = usage()
        spoilt[2500] = change
        with pytest.raises(InputError, match=message):
            LogRatios.of(spoilt, CELLS, where="u")
    spoilt = usage()
    spoilt[[10, 2500], 3] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinite in row 10 \(c10\); row 2500 \(c2500\)\."):
        LogRatios.of(spoilt, CELLS, where="u")


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *raised):
        return None


@pytest.fixture
def crt_screen():
    rng = np.random.default_rng(2)
    dense = guides(np.uint8)
    table = pd.DataFrame({"batch": rng.choice(["a", "b"], N), "depth": rng.normal(size=N)}, index=CELLS)
    made = ad.AnnData(
        X=np.ones((N, 4), np.float32), obs=pd.DataFrame(index=list(CELLS)), obsm={"cnmf_usage": usage().astype(np.float32), "covar": table.set_index(CELLS)}
    )
    made.obsm["guide_assignment"] = dense
    made.uns["guide_names"], made.uns["guide2gene"] = (
        [f"g{j}" for j in range(5)],
        dict(zip([f"g{j}" for j in range(5)], ["A", "A", "B", "B", "NTC"], strict=True)),
    )
    return made


@pytest.mark.filterwarnings("ignore:cells carry", "ignore:Writing zarr v2:UserWarning")
def test_files_are_read_by_blocks(crt_screen, tmp_path, monkeypatch):
    expected = prepare_crt_inputs(crt_screen)
    crt_screen.write_h5ad(tmp_path / "screen.h5ad", compression="gzip")
    crt_screen.write_zarr(tmp_path / "screen.zarr")
    most = []
    plain = StoredRows.__getitem__
    monkeypatch.setattr(StoredRows, "__getitem__", lambda self, part: most.append(part.stop - part.start) or plain(self, part))
    for name in ("screen.h5ad", "screen.zarr"):
        found = prepare_crt_inputs(tmp_path / name)
        np.testing.assert_array_equal(found.rows, expected.rows)
        assert (found.guides != expected.guides).nnz == 0
    assert max(most) < 2000 and len(most) == 2 * (2 * 3 + 3)  # usage is checked and used, guides are taken once
    backed = ad.read_h5ad(tmp_path / "screen.h5ad", backed="r")
    np.testing.assert_array_equal(prepare_crt_inputs(backed).rows, expected.rows)
    backed.file.close()


@pytest.mark.filterwarnings("ignore:cells carry")
def test_X_is_not_read(crt_screen, tmp_path, monkeypatch):
    crt_screen.write_h5ad(tmp_path / "screen.h5ad")
    with h5py.File(tmp_path / "screen.h5ad", "a") as file:
        del file["X"]
        file["X"] = "no matrix at all"
    prepare_crt_inputs(tmp_path / "screen.h5ad")
    monkeypatch.setattr(View, "matrix", lambda self: pytest.fail("X was read"))
    prepare_crt_inputs(crt_screen)


def test_a_backed_modality(screen_adata, simulated, tmp_path):
    """A dense X of guides is read by blocks, in a file and in an AnnData that is backed."""
    names = list(screen_adata.uns["guide_names"])
    part = ad.AnnData(X=screen_adata.obsm["guide"].toarray(), obs=pd.DataFrame(index=screen_adata.obs_names), var=pd.DataFrame(index=names))
    part.write_h5ad(tmp_path / "guide.h5ad")
    backed = ad.read_h5ad(tmp_path / "guide.h5ad", backed="r")
    for source in (backed, tmp_path / "guide.h5ad"):
        with open_view(source) as view:
            stored = view.matrix()
            assert isinstance(stored, StoredRows) and stored.shape == part.shape
            assert (presence(stored, view.names("obs"), where="X") != screen_adata.obsm["guide"]).nnz == 0
    backed.file.close()
    screen_adata.obsm["guide"] = screen_adata.obsm["guide"].toarray()
    screen_adata.write_h5ad(tmp_path / "screen.h5ad")
    assert fingerprint(read_screen(tmp_path / "screen.h5ad"), ref_fate="EC") == fingerprint(read_screen(simulated.adata), ref_fate="EC")


def test_a_damaged_chunk_is_named(crt_screen, tmp_path):
    path = tmp_path / "screen.h5ad"
    crt_screen.write_h5ad(path, compression="gzip")
    with h5py.File(path, "a") as file:
        chunks = file["obsm/cnmf_usage"]
        place = chunks.id.get_chunk_info(chunks.id.get_num_chunks() - 1)
    with path.open("r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\0" * place.size)
    with pytest.raises(InputError, match="obsm/cnmf_usage of screen.h5ad can't be read.*Is the file complete"):
        prepare_crt_inputs(path)


def test_a_table_on_disk_is_read_by_blocks(tmp_path):
    """A table of numbers as the matrix of the same table in memory, in its memory order; one with labels is read whole."""
    frame = pd.DataFrame({"a": np.arange(5), "b": np.linspace(0, 1, 5, dtype=np.float32), "c": np.arange(5) / 7}, index=list("vwxyz"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_elem(file, "numbers", frame)
        write_elem(file, "labels", frame.assign(d=pd.Categorical(list("aabbc"))))
        stored = waiting(file["numbers"], nullcontext)
        assert isinstance(stored, StoredTable) and stored.columns == ("a", "b", "c") and stored.shape == (5, 3)
        for rows in (slice(0, 5), slice(1, 3), slice(None)):
            found, wanted = stored[rows], frame.iloc[rows].to_numpy()
            assert np.array_equal(found, wanted) and found.dtype == wanted.dtype and found.strides[0] < found.strides[1]
        assert np.array_equal(stored.column(1), frame["b"]) and waiting(file["labels"], nullcontext) is None


@pytest.mark.parametrize("min_umi", [None, 3])
def test_guides_on_disk_are_those_in_memory(tmp_path, monkeypatch, min_umi):
    """A CSR matrix with stored zeros, duplicates and unsorted indices, in blocks of cells; as outcomes its rows are dense."""
    monkeypatch.setattr(reading_guides, "block_slices", lambda n: tuple(slice(i, min(i + 7, n)) for i in range(0, n, 7)))
    rng = np.random.default_rng(0)
    row, column = rng.integers(0, 40, 150), rng.integers(0, 6, 150)
    order = np.argsort(row, kind="stable")
    matrix = sp.csr_matrix((2 * rng.integers(0, 3, 150), column[order], np.concatenate([[0], np.cumsum(np.bincount(row, minlength=40))])), shape=(40, 6))
    cells = np.array([f"c{i}" for i in range(40)], dtype=object)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write_elem(file, "a", matrix)
        stored = waiting(file["a"], nullcontext)
        assert isinstance(stored, StoredSparse) and stored.shape == (40, 6) and np.array_equal(stored[3:9], matrix[3:9].toarray())
        found, wanted = (presence(m, cells, where="guides", min_umi=min_umi) for m in (stored, matrix))
        dense = matrix.toarray() >= (min_umi or 1)
        assert np.array_equal(found.toarray(), dense) and np.array_equal(wanted.toarray(), dense)
        assert found.indices.dtype == found.indptr.dtype == np.int32 and found.has_sorted_indices and found.data.dtype == np.float32
        file["a/indices"][3] = 6
        with pytest.raises(InputError, match="guides is not a valid sparse matrix.*Write it again"):
            presence(waiting(file["a"], nullcontext), cells, where="guides")
        file["a/indptr"][4] = 149
        with pytest.raises(InputError, match="guides is not a valid sparse matrix.*non-decreasing"):
            presence(waiting(file["a"], nullcontext), cells, where="guides")
