"""The parts of a screen that the test needs: usage, covariates and guide map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Shaped

from data_prep.errors import InputError, did_you_mean, first_few, warn
from data_prep.formula import formula_variables
from data_prep.read.cell_names import same_cells
from data_prep.read.container import View
from data_prep.read.guide_map import GuideMap
from data_prep.read.rows import StoredRows, StoredTable
from data_prep.read.screen import read_guide_map
from data_prep.read.usage_tables import read_usage_table

DEFAULT_MAP = "guide2gene"


def slot_of(view: View, key: str) -> str:
    """The slot of `key`: "layers" if only `layers` has it, else "obsm"."""
    return "layers" if view.find("obsm", key) is None and view.find("layers", key) is not None else "obsm"


def usage_of(
    view: View, given: str | Path | pd.DataFrame | None, key: str, cells: Shaped[np.ndarray, " cells"], outcomes: Sequence[str] | None
) -> tuple[Any, tuple[str, ...], str]:
    """The outcomes from the given table, or as stored; the names of the programs; and a description of the source for messages.

    The programs of stored outcomes are named by the columns of a table, else by `uns["program_names"]`, else by numbers.

    Parameters
    ----------
    view
        The open screen.
    given
        A table of program usage in place of the stored one, or None.
    key
        Key of the stored outcomes, in `obsm` or `layers`.
    cells
        Names of the cells.
    outcomes
        Names of columns to use: of the table or of the stored outcomes, of `obs`, or genes of a layer; None for all of the table or the stored outcomes.
    """
    if outcomes is not None:
        return _named_outcomes(view, given, key, cells, listed_once(outcomes, "outcomes"))
    if given is not None:
        return read_usage_table(given, cells)
    found, where = view.need_rows(slot_of(view, key), key, "Name the program usage with usage_key.", "usage_key"), f"obsm[{key!r}]"
    if isinstance(found, pd.DataFrame):
        same_cells(found.index, cells, where=where)
        return found, tuple(str(c) for c in found.columns), where
    if isinstance(found, StoredTable):
        return found, found.columns, where
    values = found.toarray() if sp.issparse(found) else found if isinstance(found, StoredRows) else np.asarray(found)
    n_programs = values.shape[1] if values.ndim == 2 else 0
    if view.find("uns", "program_names") is not None:
        names = tuple(str(n) for n in np.asarray(view.need("uns", "program_names", "")).ravel())
        if len(names) != n_programs:
            raise InputError(f"uns['program_names'] has {len(names)} names but {where} has {n_programs} programs. Give one name for each column, or remove it.")
        return values, names, where
    return values, tuple(f"program_{k}" for k in range(n_programs)), where


def _named_outcomes(
    view: View, given: str | Path | pd.DataFrame | None, key: str, cells: np.ndarray, outcomes: list[str]
) -> tuple[Float[np.ndarray, "cells programs"], tuple[str, ...], str]:
    """These columns of the outcomes, of `obs`, or of a layer (by the names in `var`)."""
    stored: Any = None
    names: tuple[str, ...] = ()
    holder = view.find("layers", key) if slot_of(view, key) == "layers" else None
    if given is None and holder is not None:
        stored, names = sp.csc_matrix(view.need("layers", key, "")), tuple(map(str, holder.names("var")))
    elif given is not None or view.find("obsm", key) is not None:
        stored, names, _ = usage_of(view, given, key, cells, None)
    columns, lost = [], []
    for name in outcomes:
        if name in names:
            columns.append(_column(stored, names.index(name)))
        elif view.find("obs", name) is not None:
            columns.append(np.asarray(view.need("obs", name, "")))
        else:
            lost.append(name)
    if lost:
        known = [*names, *view.keys("obs")]
        raise InputError(f"there is no outcome {first_few(lost)}; there are: {first_few(known, 20)}.{did_you_mean(lost[0], known)}", "outcomes", "usage_key")
    try:
        return np.column_stack(columns).astype(np.float64), tuple(outcomes), f"the outcomes {first_few(outcomes)}"
    except (TypeError, ValueError) as error:
        raise InputError(f"the outcomes {first_few(outcomes)} are not numeric: {error}. Name columns of numbers.", "outcomes") from error


def _column(stored: Any, at: int) -> np.ndarray:
    if isinstance(stored, StoredRows):
        return stored.column(at)
    if sp.issparse(stored):
        return stored[:, [at]].toarray()[:, 0]
    return np.asarray(stored.iloc[:, at] if isinstance(stored, pd.DataFrame) else stored[:, at])


def listed_once(names: Sequence[str], argument: str) -> list[str]:
    """The names as a list; an error if it is empty or repeats one."""
    listed = [names] if isinstance(names, str) else list(names)
    if not listed or (repeated := [name for name in listed if listed.count(name) > 1]):
        raise InputError(f"{argument} {f'lists {first_few(dict.fromkeys(repeated))} twice' if listed else 'is empty'}. Name each once.", argument)
    return listed


def chosen(names: tuple[str, ...], programs: Sequence[str] | None) -> list[int]:
    """Positions of the programs to test, in their order in the screen; all if None."""
    if programs is None:
        return list(range(len(names)))
    listed = listed_once(programs, "programs")
    if lost := [name for name in listed if name not in names]:
        raise InputError(f"there is no program {first_few(lost)}; there are: {first_few(names, 20)}.{did_you_mean(lost[0], names)}", "programs")
    return [k for k, name in enumerate(names) if name in listed]


def covariates_of(
    view: View, columns: Sequence[str] | None, key: str, formula: str | None
) -> tuple[pd.DataFrame | Shaped[np.ndarray, "cells covariates"], str]:
    """The names in the formula, or these columns of `obs`, as a table; else `obsm[key]`; and a description of the source for messages. A table is a copy.

    Parameters
    ----------
    view
        The open screen.
    columns
        Columns of `obs`, or None.
    key
        Key of the stored covariates, in `obsm` or `layers`.
    formula
        Formula of the design, or None. Its names are columns of the stored table or of `obs`.
    """
    if columns is not None and formula is not None:
        raise InputError("covariates and a formula are given. Give one of the two; the formula names its covariates.", "formula", "covariates")
    if formula is not None:
        return _named(view, formula_variables(formula), key)
    if columns is None:
        suggestion = "Name the covariates with covar_key, or columns of obs with covariates or a formula."
        found = view.need(slot_of(view, key), key, suggestion, "covar_key", "covariates", "formula")
        return found.copy() if isinstance(found, pd.DataFrame) and not view.on_disk else found, f"obsm[{key!r}]"
    listed = listed_once(columns, "covariates")
    series = {name: view.need("obs", name, "Name columns of obs with covariates.", "covariates") for name in listed}
    return pd.DataFrame(series), "obs"


def _named(view: View, names: Sequence[str], key: str) -> tuple[pd.DataFrame, str]:
    """The covariates of a formula: columns of the stored table, or else of `obs`."""
    slot, cells = slot_of(view, key), view.names("obs")
    stored = view.need(slot, key, "") if view.find(slot, key) is not None else None
    suggestion, where = "The formula names it.", "obs"
    if isinstance(stored, pd.DataFrame):
        where = f"obsm[{key!r}] and obs"
        same_cells(stored.index, cells, where=f"obsm[{key!r}]")
        suggestion += f" obsm[{key!r}] has: {first_few(stored.columns, 20)}."
    else:
        stored = pd.DataFrame()
    found = {name: stored[name] if name in stored else view.need("obs", name, suggestion, "formula") for name in names}
    return pd.DataFrame({name: values.array for name, values in found.items()}), where


def guide_map_of(view: View, given: GuideMap | pd.DataFrame | str | Path | None, key: str, ntc_labels: Sequence[str], guide_key: str) -> tuple[GuideMap, str]:
    """The given map, else `uns[key]`, else (for the default key) `uns["guide_map"]`; and a description of the source for messages.

    Parameters
    ----------
    view
        The open screen.
    given
        A map, table or file in place of the stored one, or None.
    key
        Key of the stored map, in `uns`.
    ntc_labels
        Genes that mark NTC guides.
    guide_key
        Key of the guides, for maps that are stored with them.
    """
    keys = (key, "guide_map") if key == DEFAULT_MAP else (key,)
    suggestion = "Put the guide → gene map there, as a dict or a table, name it with guide2gene_key, or give it with guide_map."
    return read_guide_map(view, given, guide_key=guide_key, keys=keys, ntc_labels=ntc_labels, suggestion=suggestion)


def in_order(mapping: GuideMap, names: Shaped[np.ndarray, " guides"], where: str, map_where: str) -> GuideMap:
    """The rows of the map for these guides; a guide that is not in the map is an error, and a gene without guides a warning.

    Parameters
    ----------
    mapping
        Guide → gene map.
    names
        Names of the guides, (guides,).
    where
        Source of the guides, for messages.
    map_where
        Source of the map, for messages.
    """
    row = pd.Index(mapping.guide).get_indexer(pd.Index(names))
    if (row < 0).any():
        raise InputError(
            f"{where}: {int((row < 0).sum())} of {names.size} guides are not in {map_where}: {first_few(names[row < 0])}. "
            "Add them to the map (an NTC guide maps to 'non-targeting'), or drop their columns."
        )
    ordered = GuideMap(guide=mapping.guide[row], gene=mapping.gene[row], is_ntc=mapping.is_ntc[row])
    if lost := sorted({*mapping.gene[~mapping.is_ntc]} - {*ordered.gene}):
        warn(f"{len(lost)} genes of {map_where} have no guide in {where} and are not tested: {first_few(lost)}")
    return ordered
