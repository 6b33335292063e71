"""One way to look into an AnnData, a MuData, or an h5ad / h5mu / zarr file: only the parts asked for are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

from data_prep.errors import InputError, missing_key

SLOTS = ("obs", "obsm", "uns", "layers")


class View:
    """The slots of one AnnData-like object, in memory or on disk.

    `modalities` holds a MuData's parts by name; an AnnData has none.
    """

    def __init__(self, root: Any, name: str):
        self.root, self.name, self.on_disk = root, name, not hasattr(root, "obs_names")
        mods = (root["mod"] if "mod" in root else {}) if self.on_disk else getattr(root, "mod", {})
        self.modalities = {str(m): View(mods[m], f"{name}.mod[{m!r}]") for m in mods}

    def keys(self, slot: str) -> list[str]:
        """The keys of a slot."""
        if not self.on_disk:
            return [str(k) for k in (self.root.obs.columns if slot == "obs" else getattr(self.root, slot, {}))]
        if slot not in self.root:
            return []
        return [k for k in self.root[slot] if not (slot == "obs" and k == self.root["obs"].attrs.get("_index"))]

    def get(self, slot: str, key: str) -> Any:
        """One element, read from disk if need be."""
        if not self.on_disk:
            return self.root.obs[key] if slot == "obs" else getattr(self.root, slot)[key]
        value = read_elem(self.root[slot][key])
        return pd.Series(value, index=self.names("obs")) if slot == "obs" else value

    def matrix(self) -> Any:
        """The main matrix X."""
        return read_elem(self.root["X"]) if self.on_disk else self.root.X

    def names(self, axis: str) -> np.ndarray:
        """Names along `axis`, "obs" or "var"."""
        if self.on_disk:
            frame = self.root[axis]
            return np.asarray(read_elem(frame[frame.attrs["_index"]])).astype(object)
        return np.asarray(getattr(self.root, f"{axis}_names")).astype(object)

    def find(self, slot: str, key: str) -> "View | None":
        """The view that holds `slot[key]`: this one, else the only modality that has it."""
        if key in self.keys(slot):
            return self
        holders = [view for view in self.modalities.values() if key in view.keys(slot)]
        if len(holders) > 1:
            raise InputError(f"{slot}[{key!r}] is in {len(holders)} modalities: {', '.join(h.name for h in holders)}. Keep one, or set it on the MuData.")
        return holders[0] if holders else None

    def need(self, slot: str, key: str, mend: str) -> Any:
        """`slot[key]`, or an error that lists the keys that are there. Its cells must be this view's."""
        holder = self.find(slot, key)
        if holder is None:
            present = self.keys(slot) + [f"{m}:{k}" for m, view in self.modalities.items() for k in view.keys(slot)]
            raise missing_key(slot, key, present, mend)
        if slot != "uns":
            self.same_cells(holder)
        return holder.get(slot, key)

    def same_cells(self, other: "View") -> None:
        """Raise unless `other` has this view's cells in this order."""
        if other is self:
            return
        mine, theirs = self.names("obs"), other.names("obs")
        if mine.size != theirs.size:
            raise InputError(f"{other.name} has {theirs.size:,} cells but {self.name} has {mine.size:,}. Subset both to the same cells (mudata: intersect_obs).")
        if (mine != theirs).any():
            row = int(np.flatnonzero(mine != theirs)[0])
            raise InputError(f"{other.name} and {self.name} name their cells differently from row {row} ({theirs[row]} and {mine[row]}). Bring both into one order.")


@contextmanager
def open_view(source: Any) -> Iterator[View]:
    """A `View` of an AnnData, a MuData, or a path to .h5ad, .h5mu or .zarr; files are closed afterwards."""
    if isinstance(source, ad.AnnData) or (hasattr(source, "mod") and hasattr(source, "obs_names")):
        yield View(source, type(source).__name__)
        return
    if not isinstance(source, (str, Path)):
        raise InputError(f"a screen is a path, an AnnData or a MuData, not {type(source).__name__}.")
    path = Path(source)
    if not path.exists():
        raise InputError(f"the screen {path} does not exist.")
    if path.suffix == ".zarr":
        import zarr

        group: Any = zarr.open_group(path, mode="r")
        yield _checked(group, path)
        return
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"the screen {path} can't be opened as HDF5: {error}. Is it a whole .h5ad or .h5mu file?") from error
    with file:
        yield _checked(file, path)


def _checked(group: Any, path: Path) -> View:
    if "obs" not in group or "_index" not in group["obs"].attrs:
        raise InputError(f"{path} is not an AnnData or MuData file: it has no obs table; it has: {', '.join(group) or 'nothing'}.")
    return View(group, path.name)
