"""Names of cells without Python strings."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError
from data_prep.read import cell_names as module
from data_prep.read.cell_names import cell_names, each_once, same_cells, stored_names
from data_prep.read.container import open_view


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of three names."""
    monkeypatch.setattr(module, "block_slices", lambda n: tuple(slice(i, min(i + 3, n)) for i in range(0, n, 3)))


NAMES = ["AAA-1", "é", "", "日本", "cell with a long name of its own", "b", "c"]


def test_names_of_a_file(tmp_path):
    """Of any width and encoding, in blocks, as text."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["fixed"] = np.char.encode(NAMES, "utf-8")
        file.create_dataset("free", data=NAMES, dtype=h5py.string_dtype())
        file["number"] = np.arange(3)
        for key in ("fixed", "free"):
            found = stored_names(file[key])
            assert found.tolist() == NAMES and found.dtype == module.NAME and type(found[1]) is str
        file["number"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        assert cell_names(stored_names(file["number"]), where="x").tolist() == ["0", "1", "2"]


def test_names_that_are_no_text():
    with pytest.raises(InputError, match="not valid text"):
        cell_names(np.array(["a", "\ud800"], dtype=object), where="obs_names")


def test_each_once():
    each_once(cell_names(NAMES, where="x"))
    with pytest.raises(InputError, match="obs_names repeat: b, AAA-1"):
        each_once(cell_names([*NAMES, "b", "AAA-1"], where="x"))


def test_the_first_difference_is_named(tmp_path):
    cells = cell_names(NAMES, where="x")
    same_cells(pd.Index(NAMES), cells, where="part")
    same_cells(np.array(NAMES), cells, where="part")
    same_cells(pd.RangeIndex(7), cells, where="part")
    with pytest.raises(InputError, match=r"first in row 5 \(other and b\)"):
        same_cells(pd.Index([*NAMES[:5], "other", "c"]), cells, where="part")
    with pytest.raises(InputError, match="6 rows but the screen has 7 cells"):
        same_cells(pd.RangeIndex(6), cells, where="part")


def test_a_column_of_a_table_on_disk(tmp_path):
    """The same as in memory; its rows are those of the cells, and compared once."""
    adata = ad.AnnData(obs=pd.DataFrame(index=["a", "b", "c", "d"]))
    adata.obsm["covar"] = pd.DataFrame({"x": [1.5, 2, 3, 4], "rep": pd.Categorical(list("uvuv"))}, index=adata.obs_names)
    adata.write_h5ad(tmp_path / "a.h5ad")
    with open_view(tmp_path / "a.h5ad") as view, open_view(adata) as memory:
        for name in ("x", "rep"):
            assert view.column("covar", name).tolist() == memory.column("covar", name).tolist()
        assert view.column("covar", "y") is view.column("no", "x") is memory.column("covar", "y") is None
        assert view.get("obsm", "covar").reset_index(drop=True).equals(adata.obsm["covar"].reset_index(drop=True))
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        file["obsm/covar/_index"][1] = "other"
    with open_view(tmp_path / "a.h5ad") as view, pytest.raises(InputError, match=r"a.h5ad: obsm/covar and obs .* first in row 1 \(other and b\)"):
        view.column("covar", "rep")
