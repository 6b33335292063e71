"""The parts of a screen that the test needs, found and checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from data_prep.errors import InputError, first_few, missing_key, warn
from data_prep.screen import GuideMap
from data_prep.source import View


def slot(view: View, key: str, mend: str) -> Any:
    """`obsm[key]` or `layers[key]`."""
    slot = "layers" if view.find("obsm", key) is None and view.find("layers", key) is not None else "obsm"
    return view.need(slot, key, mend)


def usage_of(view: View, key: str, cells: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The outcomes as stored, and the programs' names: the table's columns, else `uns["program_names"]`, else numbers."""
    found = slot(view, key, "Name the program usage with usage_key (--usage-key).")
    if isinstance(found, pd.DataFrame):
        same_index(found.index, cells, f"obsm[{key!r}]")
        return found.to_numpy(), tuple(str(c) for c in found.columns)
    values = found.toarray() if sp.issparse(found) else np.asarray(found)
    n_programs = values.shape[1] if values.ndim == 2 else 0
    if view.find("uns", "program_names") is not None:
        names = tuple(str(n) for n in np.asarray(view.need("uns", "program_names", "")).ravel())
        if len(names) != n_programs:
            raise InputError(
                f"uns['program_names'] has {len(names)} names but obsm[{key!r}] has {n_programs} programs. Give one name for each column, or remove it."
            )
        return values, names
    return values, tuple(f"program_{k}" for k in range(n_programs))


def same_index(index: pd.Index, cells: np.ndarray, where: str) -> None:
    """Raise unless a table's index names the screen's cells, in order."""
    theirs, mine = index.astype(str).to_numpy(dtype=object), np.asarray(cells).astype(str).astype(object)
    if theirs.size != mine.size:
        raise InputError(f"{where} has {theirs.size:,} rows but the screen has {mine.size:,} cells.")
    if (theirs != mine).any():
        row = int(np.flatnonzero(theirs != mine)[0])
        raise InputError(f"{where} names its cells differently from the screen, first in row {row} ({theirs[row]} and {mine[row]}). Bring both into one order.")


def guide_map_of(view: View, key: str, ntc_labels: Sequence[str]) -> GuideMap:
    """The map in `uns[key]`: a dict or a table."""
    holder = view.find("uns", key)
    if holder is None:
        raise missing_key("uns", key, view.keys("uns"), "Put the guide → gene map there, as a dict or a table, or name it with guide2gene_key.")
    found = holder.get("uns", key)
    if isinstance(found, pd.DataFrame):
        return GuideMap.from_frame(found, ntc_labels=ntc_labels, where=f"uns[{key!r}]")
    if isinstance(found, Mapping):
        return GuideMap.from_mapping({str(k): str(v) for k, v in found.items()}, ntc_labels=ntc_labels)
    raise InputError(f"uns[{key!r}] is a {type(found).__name__}; it must be a DataFrame or a dict of guide → gene.")


def in_order(mapping: GuideMap, names: np.ndarray, where: str, key: str) -> GuideMap:
    """The map's rows for these guides; a guide that it does not know is an error."""
    unique, count = np.unique(names.astype(str), return_counts=True)
    if (count > 1).any():
        raise InputError(f"{where}: guide names repeat: {first_few(unique[count > 1])}. Make them unique.")
    row = pd.Index(mapping.guide).get_indexer(pd.Index(names))
    if (row < 0).any():
        raise InputError(
            f"{where}: {int((row < 0).sum())} of {names.size} guides are not in uns[{key!r}]: {first_few(names[row < 0])}. "
            "Add them to the map (an NTC guide maps to 'non-targeting'), or drop their columns."
        )
    return GuideMap(guide=mapping.guide[row], gene=mapping.gene[row], is_ntc=mapping.is_ntc[row])


def storable(values: np.ndarray, where: str) -> np.ndarray:
    """Outcomes that float32 can hold: those far from zero are stored less their means, which no coefficient depends on."""
    mean, sd = values.mean(0), values.std(0)
    far = np.abs(mean) > 100 * sd
    if far.any():
        warn(f"{where}: {int(far.sum())} outcomes lie over 100 SD from zero; Y holds them less their means.")
        values = values - np.where(far, mean, 0.0)
    return values
