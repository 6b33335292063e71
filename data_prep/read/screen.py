"""h5ad / h5mu / zarr / AnnData / MuData → `Screen`: the only reader."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_prep.errors import InputError, first_few, missing_key, warn
from data_prep.outcomes import check_fate_prob
from data_prep.read.container import View, one_column, open_view
from data_prep.read.fates import read_fates
from data_prep.read.guide_map import GuideMap
from data_prep.read.guide_tables import read_guide_table
from data_prep.read.guides import match_map, presence
from data_prep.read.keys import NTC_LABELS, ScreenKeys
from data_prep.read.labels import day_codes, level_codes, text_names
from data_prep.screen import Screen


def read_screen(
    source: Any,
    *,
    keys: ScreenKeys | None = None,
    guides: str | Path | pd.DataFrame | None = None,
    guide_map: GuideMap | pd.DataFrame | str | Path | None = None,
    ntc_labels: Sequence[str] = NTC_LABELS,
    max_guides_per_cell: int = 20,
) -> Screen:
    """Read a screen for the hierarchy, and check all of it before anything is fitted.

    Parameters
    ----------
    source
        Path to .h5ad, .h5mu or .zarr, an AnnData or a MuData. Only the parts named by `keys` are read.
    keys
        Where its parts are.
    guides
        A table of the guides in cells, in place of those in the screen: Cell Ranger's calls, one row for each cell and guide,
        or a matrix. Cells are matched by name; one that is not listed carries no guide.
    guide_map
        Table or file of guide_name, gene_name, is_ntc, or as SCEPTRE or Cell Ranger have it; by default `uns["guide_map"]` or `uns["guide2gene"]`.
    ntc_labels
        Genes that mark non-targeting guides, in any case.
    max_guides_per_cell
        Cells with more mapped guides (NTC included) are dropped, and the number is said.

    Returns
    -------
    Screen
        The kept cells and the guides that they carry.

    Raises
    ------
    InputError
        On anything wrong with the input, naming the key, the first offending rows and the mend.

    Warns
    -----
    ScreenWarning
        On cells, guides and genes that are left out, rows that were renormalised, and a screen without NTC guides.

    Examples
    --------
    >>> from data_prep import ScreenDesign, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata
    >>> screen = read_screen(adata)
    >>> screen.fate_prob.shape, screen.rep_labels
    ((500, 3), ('rep1', 'rep2'))
    """
    keys = keys or ScreenKeys()
    if not isinstance(max_guides_per_cell, (int, np.integer)) or max_guides_per_cell < 1:
        raise InputError(f"max_guides_per_cell is {max_guides_per_cell}; it must be a whole number, at least 1.")
    with open_view(source) as view:
        cells = view.names("obs")
        if cells.size == 0:
            raise InputError(f"the screen {view.name} has no cells.")
        _unique(cells)
        prob, fate_names = read_fates(view, keys.fate)
        prob = check_fate_prob(prob, fate_names, cells, where=f"obsm[{keys.fate!r}]")
        matrix, guide_names, where = read_guides(view, key=keys.guide, names_key=keys.guide_names, given=guides)
        day = view.need("obs", keys.day, "Name the column with --day-key.")
        rep, rep_where = _rep(view, keys)
        cluster = None if keys.cluster is None else _cluster(view, keys.cluster, keys.covar, cells)
        mapping, _ = read_guide_map(view, guide_map, ntc_labels=ntc_labels)
        origin = view.find("uns", "real_or_simulated")
        simulated = origin is not None and str(origin.get("uns", "real_or_simulated")).upper() == "SIMULATED"
        carriers, guide_names, gene, is_ntc = match_map(presence(matrix, cells, where=where), guide_names, mapping, where=where)
    dropped: dict[str, object] = {"guides_not_in_map": int(matrix.shape[1] - guide_names.size)}

    crowded = np.diff(carriers.indptr) > max_guides_per_cell
    dropped["cells_over_max_guides"] = int(crowded.sum())
    if crowded.any():
        warn(f"{int(crowded.sum()):,} of {cells.size:,} cells carry more than {max_guides_per_cell} guides and were dropped.")
    if crowded.all():
        raise InputError(f"every cell carries more than {max_guides_per_cell} guides ({where}). Raise max_guides_per_cell, or check what the entries mean.")
    keep = np.flatnonzero(~crowded)
    carriers, cells, prob = carriers[keep], cells[keep], prob[keep]
    day, rep = day.iloc[keep], rep.iloc[keep]

    carried = np.bincount(carriers.indices, minlength=carriers.shape[1]) > 0
    if not (carried & ~is_ntc).any():
        raise InputError(f"no cell carries a targeting guide ({where}): {carriers.shape[1]} mapped guides, {int(is_ntc.sum())} of them NTC.")
    _say_absent(mapping, guide_names[carried], dropped)
    if not (is_ntc & carried).any():
        warn("no cell carries a non-targeting (NTC) guide: effects are relative to cells without guides, and the burden slope rests on targeting guides alone.")

    day_code, day_labels = day_codes(day, cells, where=f"obs[{keys.day!r}]")
    rep_code, rep_labels = level_codes(rep, cells, where=rep_where)
    return Screen(
        cells=cells,
        guides=carriers[:, np.flatnonzero(carried)],
        guide_names=guide_names[carried],
        guide_gene=gene[carried],
        is_ntc=is_ntc[carried],
        fate_prob=prob,
        fate_names=fate_names,
        day=day_code,
        day_labels=day_labels,
        rep=rep_code,
        rep_labels=rep_labels,
        clusters=None if cluster is None else level_codes(cluster.iloc[keep], cells, where=f"cluster {keys.cluster!r}")[0],
        simulated=simulated,
        dropped=dropped,
    )


def read_guides(view: View, *, key: str, names_key: str = "guide_names", given: str | Path | pd.DataFrame | None = None) -> tuple[Any, np.ndarray, str]:
    """The guide matrix of the table given, else as stored; the names of its columns; and where it was found: obsm, layers, or a modality."""
    if given is not None:
        return read_guide_table(given, view.names("obs"))
    if key in view.modalities:
        part = view.modalities[key]
        view.same_cells(part)
        return part.matrix(), part.names("var"), f"mod[{key!r}].X"
    for slot in ("obsm", "layers"):
        if view.find(slot, key) is not None:
            where, matrix = f"{slot}[{key!r}]", view.need_rows(slot, key, "")
            break
    else:
        present = view.keys("obsm") + [f"layers/{k}" for k in view.keys("layers")] + [f"modality {m}" for m in view.modalities]
        raise missing_key("obsm", key, present, "Name the guide matrix (or MuData modality) with --guide-key.")
    if isinstance(matrix, pd.DataFrame):
        return matrix, text_names(matrix.columns, where=f"the columns of {where}"), where
    if matrix.ndim != 2:
        raise InputError(f"{where} has shape {matrix.shape}; it must be cells × guides.")
    holder = view.find("uns", names_key)
    if holder is None:
        raise missing_key("uns", names_key, view.keys("uns"), f"{where} is a bare matrix: put its {matrix.shape[1]} guide names there.")
    names = text_names(holder.get("uns", names_key), where=f"uns[{names_key!r}]")
    if names.size != matrix.shape[1]:
        raise InputError(f"uns[{names_key!r}] has {names.size} names but {where} has {matrix.shape[1]} columns. Give one name for each column.")
    return matrix, names, where


def read_guide_map(
    view: View,
    given: GuideMap | pd.DataFrame | str | Path | None,
    *,
    keys: Sequence[str] = ("guide_map", "guide2gene"),
    ntc_labels: Sequence[str] = NTC_LABELS,
    mend: str = "Give a guide map file (--guide-map), or uns['guide_map'], or uns['guide2gene'].",
) -> tuple[GuideMap, str]:
    """The guide map given, else the one at the first of `keys` that `uns` has; and what to call it."""
    if isinstance(given, GuideMap):
        return given, "the guide map"
    if isinstance(given, pd.DataFrame):
        return GuideMap.from_frame(given, ntc_labels=ntc_labels), "the guide map"
    if given is not None:
        return GuideMap.from_file(given, ntc_labels=ntc_labels), f"the guide map {given}"
    for key in keys:
        holder = view.find("uns", key)
        if holder is None:
            continue
        found, where = holder.get("uns", key), f"uns[{key!r}]"
        if isinstance(found, pd.DataFrame):
            return GuideMap.from_frame(found, ntc_labels=ntc_labels, where=where), where
        if isinstance(found, Mapping):
            return GuideMap.from_mapping(found, ntc_labels=ntc_labels, where=where), where
        raise InputError(f"{where} is a {type(found).__name__}; it must be a DataFrame or a dict of guide → gene.")
    raise missing_key("uns", keys[0], view.keys("uns"), mend)


def _column(view: View, key: str, covar: str) -> tuple[pd.Series, str] | None:
    """`obsm[covar][key]` or `obs[key]`, and where it was."""
    if view.find("obsm", covar) is not None:
        table = view.need("obsm", covar, "")
        if isinstance(table, pd.DataFrame) and key in table.columns:
            return one_column(table, key, f"obsm[{covar!r}]"), f"obsm[{covar!r}][{key!r}]"
    if view.find("obs", key) is not None:
        return view.need("obs", key, ""), f"obs[{key!r}]"
    return None


def _rep(view: View, keys: ScreenKeys) -> tuple[pd.Series, str]:
    found = _column(view, keys.rep, keys.covar)
    if found is None:
        raise missing_key("obs", keys.rep, view.keys("obs"), f"Name the replicate column (in obs or obsm[{keys.covar!r}]) with --rep-key.")
    return found


def _cluster(view: View, key: str, covar: str, cells: np.ndarray) -> pd.Series:
    parts = []
    whole = _column(view, key, covar) is not None  # a column whose own name has a "+"
    for name in [key] if whole else [part.strip() for part in key.split("+")]:
        found = _column(view, name, covar)
        if found is None:
            raise missing_key("obs", name, view.keys("obs"), "Name the cluster columns with --cluster-key, joined by '+'.")
        values, where = found
        if isinstance(values.dtype, pd.CategoricalDtype):
            values = values.cat.remove_unused_categories()
        codes, labels = level_codes(values, cells, where=where)
        parts.append(pd.Series(np.array(labels, dtype=object)[codes]))
    return pd.Series([" × ".join(labels) for labels in zip(*parts, strict=True)])


def _unique(names: np.ndarray) -> None:
    repeated = pd.Index(names).duplicated()
    if repeated.any():
        raise InputError(f"obs_names repeat: {first_few(pd.unique(names[repeated]))}. Call .obs_names_make_unique().")


def _say_absent(mapping: GuideMap, carried: np.ndarray, dropped: dict[str, object]) -> None:
    """Say which guides and genes of the map no kept cell carries; they have no place in the model."""
    there = np.isin(mapping.guide.astype(str), carried.astype(str))
    targeting = ~mapping.is_ntc
    lost = sorted(set(mapping.gene[targeting]) - set(mapping.gene[targeting & there]))
    dropped["guides_without_cells"] = int((~there).sum())
    dropped["genes_without_cells"] = lost
    if not there.all():
        warn(f"{int((~there).sum())} guides of the map are in no kept cell and were left out: {first_few(mapping.guide[~there])}")
    if lost:
        warn(f"{len(lost)} genes have no guide in the data and were dropped: {first_few(lost)}")
