"""Files of every age and state: read as they are meant, or refused by name."""

from collections.abc import Callable

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError
from data_prep.read.container import open_view
from data_prep.read.screen import read_screen
from data_prep.tensors import fingerprint


@pytest.fixture
def h5ad(screen_adata, tmp_path):
    path = tmp_path / "screen.h5ad"
    screen_adata.write_h5ad(path)
    return path


def edited(path, edit: Callable[[h5py.File], None]):
    with h5py.File(path, "a") as file:
        edit(file)
    return path


def array(file: h5py.File, key: str, values: object) -> None:
    """Put `values` where `key` was, as anndata writes arrays."""
    if key in file:
        del file[key]
    file[key] = values
    file[key].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def test_only_what_is_asked_for(h5ad, screen_adata):
    with open_view(h5ad) as view, open_view(screen_adata) as memory:
        for slot in ("obs", "obsm", "uns", "layers"):
            assert sorted(view.keys(slot)) == sorted(memory.keys(slot))
        assert view.names("obs").tolist() == memory.names("obs").tolist()
        assert view.get("obs", "day").tolist() == memory.get("obs", "day").tolist()
        assert view.find("obsm", "nothing") is None
        file = view.root
    assert not file.id.valid  # closed


def test_sources_that_are_none(tmp_path, screen_adata):
    (tmp_path / "text.h5ad").write_text("no")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "text.zarr").write_text("no")
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["x"] = 1
    for source, message in [
        (None, "a screen is a path, an AnnData or a MuData, not NoneType"),
        (screen_adata.obs, "not DataFrame"),
        (tmp_path / "none.h5ad", "does not exist"),
        (tmp_path / "text.h5ad", "can't be opened as HDF5.*Is it a complete"),
        (tmp_path / "empty.zarr", "can't be opened as zarr"),
        (tmp_path / "text.zarr", "can't be opened as zarr"),
        (tmp_path, "can't be opened as zarr"),
        (tmp_path / "other.h5ad", "it has no obs table; it has: x"),
    ]:
        with pytest.raises(InputError, match=rf"(?s){message}"):
            read_screen(source)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(part, h5ad):
    content = h5ad.read_bytes()
    h5ad.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match=r"screen\.h5ad can't be opened as HDF5: .*truncated file"):
        read_screen(h5ad)


@pytest.mark.parametrize("start", [0.1, 0.3, 0.5, 0.7])
@pytest.mark.filterwarnings("ignore::data_prep.errors.ScreenWarning")
def test_a_damaged_file_is_refused_or_read(start, h5ad):
    content = bytearray(h5ad.read_bytes())
    here = int(len(content) * start)
    content[here : here + len(content) // 5] = bytes(len(content) // 5)
    h5ad.write_bytes(content)
    try:
        read_screen(h5ad)  # the damage may lie in parts that nobody reads
    except InputError as error:
        assert "screen.h5ad" in str(error) or "[" in str(error)


DAMAGE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no cell names": (lambda f: f["obs"].attrs.__delitem__("_index"), "holds obs in a form without cell names"),
    "lost cell names": (lambda f: f["obs"].__delitem__("_index"), r"obs of screen\.h5ad can't be read"),
    "obs array": (lambda f: array(f, "obs", np.zeros(3)), "holds obs in a form without cell names"),
    "obsm array": (lambda f: array(f, "obsm", np.zeros(3)), r"obsm\['lineages_fwd'\] is missing; obsm has: none"),
    "no obsm": (lambda f: f.__delitem__("obsm"), r"obsm\['lineages_fwd'\] is missing; obsm has: none"),
    "no indptr": (lambda f: f.__delitem__("obsm/guide/indptr"), r"obsm/guide of screen\.h5ad can't be read \(KeyError"),
    "unknown kind": (lambda f: f["obsm/guide"].attrs.__setitem__("encoding-type", "x"), r"obsm/guide of screen\.h5ad can't be read \(IORegistryError"),
    "index too large": (lambda f: f["obsm/guide/indices"].__setitem__(0, 999), r"obsm\['guide'\] is not a valid sparse matrix"),
    "short column": (lambda f: array(f, "obsm/lineages_fwd/EC", np.ones(9)), r"obsm/lineages_fwd of screen\.h5ad can't be read"),
    "short day": (lambda f: array(f, "obs/day/codes", np.zeros(9, np.int8)), r"screen\.h5ad: obs/day has 9 rows but obs has 300 cells"),
    "long fates": (lambda f: array(f, "obsm/lineages_fwd", np.full((301, 3), 1 / 3)), r"obsm/lineages_fwd has 301 rows but obs has 300 cells"),
    "flat guides": (lambda f: array(f, "obsm/guide", np.ones(300)), r"obsm\['guide'\] has shape \(300,\); it must be cells × guides"),
    "flat fates": (lambda f: array(f, "obsm/lineages_fwd", np.ones(300)), r"obsm\['lineages_fwd'\] has shape \(300,\)"),
    "other order": (
        lambda f: f["obsm/lineages_fwd/_index"].__setitem__(slice(0, 2), [b"cell1", b"cell0"]),
        r"obsm/lineages_fwd and obs name their cells differently, first in row 0 \(cell1 and cell0\)\. Bring both into one order",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(case, h5ad):
    edit, message = DAMAGE[case]
    with pytest.raises(InputError, match=message):
        read_screen(edited(h5ad, edit))


def as_before_anndata_08(file: h5py.File) -> None:
    """Codes in the column, categories in `__categories`, no encoding of the parts."""
    codes, levels = file["obs/day/codes"][:], file["obs/day/categories"][:]
    del file["obs/day"]
    file["obs/__categories/day"] = levels
    file["obs/day"] = codes
    file["obs/day"].attrs["categories"] = file["obs/__categories/day"].ref
    file["obs"].attrs["encoding-version"] = "0.1.0"
    for key in ("uns/guide_names", "obs/_index"):
        for name in ("encoding-type", "encoding-version"):
            file[key].attrs.pop(name)


def test_an_old_file_is_read_as_it_was_meant(screen_adata, tmp_path):
    screen_adata.obs["day"] = pd.Categorical(screen_adata.obs["day"].map({"d0": "d2", "d1": "d10", "d2": "d30"}))  # by name, d10 would go first
    path = tmp_path / "screen.h5ad"
    screen_adata.write_h5ad(path)
    new = read_screen(path)
    old = read_screen(edited(path, as_before_anndata_08))
    assert old.day_labels == ("d2", "d10", "d30")
    assert fingerprint(old, ref_fate="EC") == fingerprint(new, ref_fate="EC")
    with open_view(path) as view:
        assert view.keys("obs") == ["day"]


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def test_nullable_columns_on_disk(kind, screen_adata, tmp_path):
    screen_adata.obs["day"] = pd.array(screen_adata.obs["day"].str[1:].astype(int), dtype="Int64")
    screen_adata.obs["rep"] = pd.array(np.arange(300) % 2 == 0, dtype="boolean")
    del screen_adata.obsm["covar"]
    memory = read_screen(screen_adata)
    path = tmp_path / f"screen.{kind}"
    getattr(screen_adata, f"write_{kind}")(path)
    assert fingerprint(read_screen(path), ref_fate="EC") == fingerprint(memory, ref_fate="EC")
    screen_adata.obs["day"] = pd.array([pd.NA, *screen_adata.obs["day"][1:]], dtype="Int64")
    getattr(screen_adata, f"write_{kind}")(path)
    with pytest.raises(InputError, match=r"obs\['day'\] is missing in row 0 \(cell0\)"):
        read_screen(path)


def test_a_guide_name_with_a_slash_in_a_map_on_disk(screen_adata, tmp_path):
    screen_adata.uns["guide2gene"] = {"A": {"B": "gene"}, "C": "D"}  # as "A/B" comes back
    del screen_adata.uns["guide_map"]
    screen_adata.write_h5ad(tmp_path / "screen.h5ad")
    with pytest.raises(InputError, match=r"uns\['guide2gene'\] gives no single gene for A.*without '/'"):
        read_screen(tmp_path / "screen.h5ad")
    assert isinstance(ad.read_h5ad(tmp_path / "screen.h5ad").uns["guide2gene"]["A"], dict)


def test_a_damaged_root_is_an_input_error(tmp_path, monkeypatch):
    """libhdf5 can open some damaged files and then not list what is in them."""
    path = tmp_path / "s.h5ad"
    h5py.File(path, "w").close()

    def fail(self):
        raise RuntimeError("Unable to get group info")

    monkeypatch.setattr(h5py.Group, "__iter__", fail)
    with pytest.raises(InputError, match=r"the root of s.h5ad can't be read .*Is the file complete\?"), open_view(path):
        pass


def test_a_file_that_changes_while_it_is_read_is_refused(h5ad, screen_adata):
    with pytest.raises(InputError, match="screen.h5ad changed while it was read"), open_view(h5ad):
        other = h5ad.with_suffix(".new")
        screen_adata[:-1].write_h5ad(other)
        other.replace(h5ad)
