"""The parts of a screen that the test needs, found and checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from data_prep.errors import InputError, first_few, warn
from data_prep.read.cell_names import same_cells
from data_prep.read.container import View
from data_prep.read.guide_map import GuideMap
from data_prep.read.rows import StoredRows
from data_prep.read.screen import read_guide_map
from data_prep.read.usage_tables import read_usage_table

DEFAULT_MAP = "guide2gene"


def slot_of(view: View, key: str) -> str:
    """Where `key` is: "layers" if only those have it, else "obsm"."""
    return "layers" if view.find("obsm", key) is None and view.find("layers", key) is not None else "obsm"


def usage_of(view: View, given: str | Path | pd.DataFrame | None, key: str, cells: np.ndarray) -> tuple[Any, tuple[str, ...], str]:
    """The outcomes of the table given, else as stored; the programs' names; and what to call it.

    Of those stored, a table's columns name the programs, else `uns["program_names"]`, else numbers.
    """
    if given is not None:
        return read_usage_table(given, cells)
    found, where = view.need_rows(slot_of(view, key), key, "Name the program usage with usage_key (--usage-key)."), f"obsm[{key!r}]"
    if isinstance(found, pd.DataFrame):
        same_cells(found.index, cells, where=where)
        return found, tuple(str(c) for c in found.columns), where
    values = found.toarray() if sp.issparse(found) else found if isinstance(found, StoredRows) else np.asarray(found)
    n_programs = values.shape[1] if values.ndim == 2 else 0
    if view.find("uns", "program_names") is not None:
        names = tuple(str(n) for n in np.asarray(view.need("uns", "program_names", "")).ravel())
        if len(names) != n_programs:
            raise InputError(f"uns['program_names'] has {len(names)} names but {where} has {n_programs} programs. Give one name for each column, or remove it.")
        return values, names, where
    return values, tuple(f"program_{k}" for k in range(n_programs)), where


def covariates_of(view: View, columns: Sequence[str] | None, key: str) -> tuple[pd.DataFrame | np.ndarray, str]:
    """These columns of `obs` as a table, else `obsm[key]`; and what to call it. A table is the caller's own."""
    if columns is None:
        found = view.need(slot_of(view, key), key, "Name the covariates with covar_key (--covar-key), or columns of obs with covariates (--covariates).")
        return found.copy() if isinstance(found, pd.DataFrame) and not view.on_disk else found, f"obsm[{key!r}]"
    listed = [columns] if isinstance(columns, str) else list(columns)
    if not listed or (repeated := [name for name in listed if listed.count(name) > 1]):
        said = f"covariates names {first_few(dict.fromkeys(repeated))} twice" if listed else "covariates is empty"
        raise InputError(f"{said}. Name columns of obs, each once.")
    series = {name: view.need("obs", name, "Name columns of obs with covariates (--covariates).") for name in listed}
    return pd.DataFrame(series), "obs"


def guide_map_of(view: View, given: GuideMap | pd.DataFrame | str | Path | None, key: str, ntc_labels: Sequence[str]) -> tuple[GuideMap, str]:
    """The map given, else `uns[key]`, else (for the default key) `uns["guide_map"]`; and what to call it."""
    keys = (key, "guide_map") if key == DEFAULT_MAP else (key,)
    suggestion = "Put the guide → gene map there, as a dict or a table, name it with guide2gene_key, or give it with guide_map."
    return read_guide_map(view, given, keys=keys, ntc_labels=ntc_labels, suggestion=suggestion)


def in_order(mapping: GuideMap, names: np.ndarray, where: str, map_where: str) -> GuideMap:
    """The map's rows for these guides; a guide that it does not know is an error."""
    row = pd.Index(mapping.guide).get_indexer(pd.Index(names))
    if (row < 0).any():
        raise InputError(
            f"{where}: {int((row < 0).sum())} of {names.size} guides are not in {map_where}: {first_few(names[row < 0])}. "
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
