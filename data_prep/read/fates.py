"""Fate probabilities of a screen, and the names of the fates."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from data_prep.errors import InputError, first_few, missing_key
from data_prep.read.container import View
from data_prep.read.labels import text_names
from data_prep.read.rows import StoredRows, StoredTable


def read_fates(view: View, key: str) -> tuple[Any, tuple[str, ...]]:
    """The fate probabilities in `obsm[key]`, unchecked, an array or `StoredRows`; and the names of the fates.

    A DataFrame and a CellRank `Lineage` have names. The names of an array are in `uns`, at `KEY_names`, `fate_names` or `lineage_names`. A `Lineage` in a
    file is an array, too; its names are the categories of `obs["term_states_fwd"]` for `lineages_fwd` (likewise for `_bwd`).
    """
    where = f"obsm[{key!r}]"
    found = view.need_rows("obsm", key, "Name the fate probabilities with keys.fate.", "keys.fate")
    if isinstance(found, pd.DataFrame):
        try:
            values = found.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):  # check_fate_prob reports it
            values = found.to_numpy()
        return values, tuple(text_names(found.columns, where=f"the columns of {where}"))
    if isinstance(found, StoredTable):
        return found, found.columns
    if hasattr(found, "names") and hasattr(found, "X"):  # a CellRank Lineage: a slice of it is a Lineage again
        return np.asarray(found.X), tuple(text_names(found.names, where=f"the names of {where}"))
    if sp.issparse(found):
        found = found.toarray()
    found = found if isinstance(found, StoredRows) else np.asarray(found)
    if found.ndim != 2:
        raise InputError(f"{where} has shape {found.shape}; it must be cells × fates.")
    candidates = (f"{key}_names", "fate_names", "lineage_names")
    for name in candidates:
        if view.find("uns", name) is not None:
            return found, tuple(text_names(view.need("uns", name, ""), where=f"uns[{name!r}]"))
    states = _states(view, key, found)
    if states is not None:
        return found, states
    raise missing_key("uns", candidates[0], view.keys("uns"), f"{where} is a bare array: put its {found.shape[1]} fate names there, or store a DataFrame.")


def _states(view: View, key: str, found: Any) -> tuple[str, ...] | None:
    """The categories of CellRank's column of terminal (or initial) states: the names of its fates, in order."""
    prefix, _, direction = key.rpartition("_")
    if prefix != "lineages":
        return None
    for name in (f"term_states_{direction}", f"init_states_{direction}"):
        if view.find("obs", name) is None:
            continue
        states = view.need("obs", name, "")
        if not isinstance(states.dtype, pd.CategoricalDtype):
            continue
        fates = tuple(text_names(states.cat.categories, where=f"the categories of obs[{name!r}]"))
        if len(fates) != found.shape[1]:
            raise InputError(
                f"obsm[{key!r}] has {found.shape[1]} columns, but obs[{name!r}], where CellRank keeps their names, has {len(fates)} categories "
                f"({first_few(fates)}). Put the names of the columns in uns['{key}_names']."
            )
        return fates
    return None
