"""Access to an AnnData, a MuData, or an h5ad, h5mu or zarr file: only the requested parts are read."""

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from jaxtyping import Shaped

from data_prep.errors import InputError, missing_key
from data_prep.read.cell_names import cell_names, same_cells, same_number, stored_names
from data_prep.read.labels import text_names
from data_prep.read.rows import StoredRows, StoredTable, is_table, waiting


class View:
    """The slots (obs, obsm, uns, layers) of an AnnData or a MuData, in memory or on disk; `modalities` has the parts of a MuData by name."""

    def __init__(self, root: Any, name: str):
        """View `root`, an AnnData, a MuData, or a group of a file; `name` is its name in error messages."""
        self.root, self.name, self.on_disk = root, name, not hasattr(root, "obs_names")
        self._names: dict[str, np.ndarray] = {}  # read once; the rows of every element on disk are compared with them
        self._in_order: set[str] = set()  # tables on disk whose rows have been compared
        with self._reading("mod"):
            mods = (root["mod"] if "mod" in root else {}) if self.on_disk else getattr(root, "mod", {})
            self.modalities = {str(m): View(mods[m], f"{name}.mod[{m!r}]") for m in mods}

    def keys(self, slot: str) -> list[str]:
        """The keys of a slot."""
        if not self.on_disk:
            return [str(k) for k in (self.root.obs.columns if slot == "obs" else getattr(self.root, slot, {}))]
        with self._reading(slot):
            if slot not in self.root or not hasattr(self.root[slot], "keys"):
                return []
            hidden = {"__categories", self.root["obs"].attrs.get("_index")} if slot == "obs" else set()
            return [k for k in self.root[slot] if k not in hidden]

    def get(self, slot: str, key: str) -> Any:
        """One element, read from disk if necessary; rows of a table on disk have numbers, as their names are those of the cells."""
        return self._get(slot, key, lazy=False)

    def rows(self, slot: str, key: str) -> Any:
        """One element; a matrix on disk as `StoredRows`, which are read while the view is open."""
        return self._get(slot, key, lazy=True)

    def _get(self, slot: str, key: str, *, lazy: bool) -> Any:
        if not self.on_disk:
            return one_column(self.root.obs, key, f"obs of {self.name}") if slot == "obs" else getattr(self.root, slot)[key]
        place = f"{slot}/{key}"
        with self._reading(place):
            stored: Any = self.root[slot][key]
            value: Any = waiting(stored, lambda: self._reading(place)) if lazy else None
            if value is None:
                value = self._table(stored, place, stored.attrs["column-order"]) if slot != "uns" and is_table(stored) else read_elem(stored)
            elif isinstance(value, StoredTable):
                self._compare(stored, place)
            if slot == "obs" and "categories" in self.root["obs"][key].attrs:  # before anndata 0.8 the categories were stored elsewhere
                levels = self.root["obs"][self.root["obs"][key].attrs["categories"]]
                value = pd.Categorical.from_codes(value, read_elem(levels), ordered=bool(levels.attrs.get("ordered", False)))
        if slot == "uns":
            return value
        cells = self.names("obs")
        if hasattr(value, "shape"):
            same_number(value.shape[0] if value.shape else 0, cells, where=f"{self.name}: {place}", other="obs")
        if slot == "obs":
            return pd.Series(value)
        if isinstance(value, pd.DataFrame):
            same_cells(value.index, cells, where=f"{self.name}: {place}", other="obs")
            value.index = pd.RangeIndex(len(value))
        return value

    def _table(self, stored: Any, place: str, columns: Sequence[str]) -> pd.DataFrame:
        """These columns of a table on disk, after its names of cells are compared with those of the view."""
        self._compare(stored, place)
        index = pd.RangeIndex(self.names("obs").size)
        return pd.DataFrame({name: read_elem(stored[name]) for name in columns}, index=index, columns=list(columns), copy=False)

    def _compare(self, stored: Any, place: str) -> None:
        if place not in self._in_order:
            same_cells(stored_names(stored[stored.attrs["_index"]]), self.names("obs"), where=f"{self.name}: {place}", other="obs")
            self._in_order.add(place)

    def column(self, key: str, name: str) -> pd.Series | None:
        """A column of the table `obsm[key]`, of this view or of a modality; None if there is no such table or column."""
        if (holder := self.find("obsm", key)) is None:
            return None
        self.same_cells(holder)
        if holder.on_disk:
            place = f"obsm/{key}"
            with holder._reading(place):
                stored = holder.root["obsm"][key]
                if is_table(stored):
                    return holder._table(stored, place, [name])[name] if name in stored.attrs["column-order"] else None
        table = holder.get("obsm", key)
        return one_column(table, name, f"obsm[{key!r}]") if isinstance(table, pd.DataFrame) and name in table.columns else None

    def matrix(self) -> Any:
        """The main matrix X; a matrix on disk as `StoredRows`, which are read while the view is open."""
        if not self.on_disk:
            stored = self.root.X
            if isinstance(stored, h5py.Dataset):  # of an AnnData that is backed
                return StoredRows(stored, lambda: self._reading("X"))
            return stored.to_memory() if hasattr(stored, "to_memory") else stored
        with self._reading("X"):
            if "X" not in self.root:
                return None
            found = waiting(self.root["X"], lambda: self._reading("X"))
            return read_elem(self.root["X"]) if found is None else found

    def names(self, axis: str) -> Shaped[np.ndarray, " names"]:
        """Names along `axis`: "obs", as `StringDType`, or "var"."""
        if axis in self._names:
            return self._names[axis]
        if self.on_disk:
            with self._reading(axis):
                frame = self.root[axis]
                found = (stored_names if axis == "obs" else read_elem)(frame[frame.attrs["_index"]])
        else:
            found = getattr(self.root, f"{axis}_names")
        self._names[axis] = (cell_names if axis == "obs" else text_names)(found, where=f"{axis}_names of {self.name}")
        return self._names[axis]

    def var_column(self, names: Collection[str]) -> "pd.Series | None":
        """The column of `var`, by the names along it, whose own name is one of these in any case; None if there is none or several."""
        with self._reading("var"):
            frame = self.root["var"] if self.on_disk else self.root.var
            found = [key for key in (frame.keys() if hasattr(frame, "keys") else []) if str(key).lower() in names]
            if len(found) != 1:
                return None
            values = read_elem(frame[found[0]]) if self.on_disk else frame[found[0]]
        return pd.Series(np.asarray(values, dtype=object), index=self.names("var"), name=str(found[0]))

    @contextmanager
    def _reading(self, place: str) -> Iterator[None]:
        """Name the element that is damaged or of an unknown kind in an `InputError`; the readers raise errors of many types."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ad.OldFormatWarning)  # these are read correctly
                yield
        except InputError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise InputError(f"{place} of {self.name} can't be read ({problem}). Is the file complete? Read it with anndata and write it again.") from error

    def find(self, slot: str, key: str) -> "View | None":
        """The view that has `slot[key]`: this one, else the only modality that has it, else None."""
        if key in self.keys(slot):
            return self
        holders = [view for view in self.modalities.values() if key in view.keys(slot)]
        if len(holders) > 1:
            raise InputError(f"{slot}[{key!r}] is in {len(holders)} modalities: {', '.join(h.name for h in holders)}. Keep one, or set it on the MuData.")
        return holders[0] if holders else None

    def need(self, slot: str, key: str, suggestion: str, *arguments: str) -> Any:
        """One element that must exist and have the cells of this view.

        Parameters
        ----------
        slot
            Name of the slot: obs, obsm, uns or layers.
        key
            Key of the element.
        suggestion
            How to fix a missing key, for the error message.
        *arguments
            Names of the arguments that fix it.
        """
        return self._holder(slot, key, suggestion, arguments).get(slot, key)

    def need_rows(self, slot: str, key: str, suggestion: str, *arguments: str) -> Any:
        """One element that must exist and have the cells of this view; a matrix on disk as `StoredRows`, which are read while the view is open.

        Parameters
        ----------
        slot
            Name of the slot: obs, obsm, uns or layers.
        key
            Key of the element.
        suggestion
            How to fix a missing key, for the error message.
        *arguments
            Names of the arguments that fix it.
        """
        return self._holder(slot, key, suggestion, arguments).rows(slot, key)

    def _holder(self, slot: str, key: str, suggestion: str, arguments: tuple[str, ...]) -> "View":
        holder = self.find(slot, key)
        if holder is None:
            present = self.keys(slot) + [f"{m}:{k}" for m, view in self.modalities.items() for k in view.keys(slot)]
            raise missing_key(slot, key, present, suggestion, *arguments)
        if slot != "uns":
            self.same_cells(holder)
        return holder

    def same_cells(self, other: "View") -> None:
        """Check that another view has the cells of this one, in the same order."""
        if other is self:
            return
        mine, theirs = self.names("obs"), other.names("obs")
        same_number(theirs.size, mine, where=other.name, other=self.name, suggestion="Subset both to the same cells (mudata: intersect_obs).")
        same_cells(theirs, mine, where=other.name, other=self.name)
        other._names["obs"] = mine  # one copy of the names


@contextmanager
def open_view(source: Any) -> Iterator[View]:
    """A `View` of an AnnData, a MuData, or a path of an .h5ad, .h5mu or .zarr, which is closed afterwards."""
    if isinstance(source, ad.AnnData) or (hasattr(source, "mod") and hasattr(source, "obs_names")):
        yield View(source, type(source).__name__)
        return
    if not isinstance(source, (str, Path)):
        raise InputError(f"a screen is a path, an AnnData or a MuData, not {type(source).__name__}.")
    path = Path(source)
    if not path.exists():
        raise InputError(f"the screen {path} does not exist. Give the path of an .h5ad, .h5mu or .zarr.")
    if path.suffix == ".zarr" or path.is_dir():
        yield _checked(_open_zarr(path), path)
        return
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"the screen {path} can't be opened as HDF5: {error}. Is it a complete .h5ad or .h5mu file?") from error
    with file:
        before = _fingerprint(path)
        yield _checked(file, path)
        if _fingerprint(path) != before:
            raise InputError(f"the screen {path} changed while it was read, which takes several passes. Run again when nothing writes it.")


def _fingerprint(path: Path) -> tuple[int, int, int]:
    """What differs after a file was written or replaced."""
    now = path.stat() if path.exists() else None
    return (0, 0, 0) if now is None else (now.st_ino, now.st_size, now.st_mtime_ns)


def _open_zarr(path: Path) -> Any:
    import zarr

    try:
        return zarr.open_group(path, mode="r")
    except (OSError, ValueError, KeyError) as error:  # zarr's "not found" is an OSError in one version and a ValueError in another
        raise InputError(f"the screen {path} can't be opened as zarr: {error}. Is it a complete .zarr folder?") from error


def _checked(group: Any, path: Path) -> View:
    view = View(group, path.name)
    with view._reading("the root"):
        there = list(group)
    if "obs" not in group:
        raise InputError(f"{path} is not an AnnData or MuData file: it has no obs table; it has: {', '.join(there) or 'nothing'}. Give an .h5ad or .h5mu.")
    with view._reading("obs"):
        named = "_index" in group["obs"].attrs
    if not named:
        raise InputError(f"{path} holds obs in a form without cell names (before anndata 0.7?). Read it with anndata and write it again.")
    return view


def one_column(table: pd.DataFrame, key: str, where: str) -> pd.Series:
    """The column of a table; an error if several have this name."""
    found = table[key]
    if isinstance(found, pd.DataFrame):
        raise InputError(f"{where} has {found.shape[1]} columns {key!r}. Keep one.")
    return found
