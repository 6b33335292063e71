"""h5ad / h5mu / zarr / AnnData / MuData → `Screen`: the only reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Shaped

from data_prep.blocks.base import block_slices
from data_prep.errors import InputError, Problems, first_few, missing_key, warn, whole_number
from data_prep.outcomes import check_fate_prob
from data_prep.read.cell_names import each_once, same_cells, unique
from data_prep.read.container import View, open_view
from data_prep.read.fates import read_fates
from data_prep.read.guide_map import GENE_NAMES, GuideMap
from data_prep.read.guide_tables import read_guide_table
from data_prep.read.guides import match_map, presence
from data_prep.read.keys import NTC_LABELS, ScreenKeys
from data_prep.read.labels import day_codes, level_codes, text_names
from data_prep.read.rows import StoredTable
from data_prep.screen import Screen

USUAL_KEYS = ("guide", "guide_assignment")  # of the guides


def read_screen(
    source: Any,
    *,
    keys: ScreenKeys | None = None,
    guides: str | Path | pd.DataFrame | None = None,
    guide_map: GuideMap | pd.DataFrame | str | Path | None = None,
    ntc_labels: Sequence[str] = NTC_LABELS,
    min_umi: int | None = None,
    max_guides_per_cell: int = 20,
) -> Screen:
    """Read a screen for the hierarchical model, and check it.

    Parameters
    ----------
    source
        Path of an .h5ad, .h5mu or .zarr, an AnnData or a MuData. Only the parts named by `keys` are read.
    keys
        Keys of the parts.
    guides
        Table of the guides in cells, used instead of those in the screen; see `read_guide_table`.
    guide_map
        Table or file of guide_name, gene_name, is_ntc, or a guide map of SCEPTRE or Cell Ranger; by default `uns["guide_map"]` or `uns["guide2gene"]`.
    ntc_labels
        Gene names that mark non-targeting guides, in any case.
    min_umi
        Minimum number of UMIs of a guide that a cell carries, for guides that are counts; None for calls. Raw counts without a minimum are refused.
    max_guides_per_cell
        Maximum number of mapped guides (NTC included); cells with more are dropped.

    Returns
    -------
    Screen
        The kept cells and the guides that they carry.

    Raises
    ------
    InputError
        If a part is missing or wrong.

    Warns
    -----
    ScreenWarning
        If cells, guides or genes are left out, rows are renormalised, or no cell carries an NTC guide.

    Examples
    --------
    >>> from data_prep import ScreenDesign, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata
    >>> screen = read_screen(adata)
    >>> screen.fate_prob.shape, screen.rep_labels
    ((500, 3), ('rep1', 'rep2'))
    """
    keys = keys or ScreenKeys()
    whole_number("max_guides_per_cell", max_guides_per_cell)
    with open_view(source) as view:
        parts = _read_parts(view, keys, guides, guide_map, ntc_labels, min_umi)
    return _screen_of(_few_guides(parts, max_guides_per_cell), keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The parts of a screen before cells, guides and genes are left out."""

    cells: np.ndarray
    carriers: sp.csr_matrix
    guide_names: np.ndarray
    gene: np.ndarray
    is_ntc: np.ndarray
    guides_where: str
    mapping: GuideMap
    prob: np.ndarray
    fate_names: tuple[str, ...]
    day: pd.Series
    rep: pd.Series
    rep_where: str
    cluster: pd.Series | None
    simulated: bool
    dropped: dict[str, object]


def _read_parts(
    view: View,
    keys: ScreenKeys,
    guides: str | Path | pd.DataFrame | None,
    guide_map: GuideMap | pd.DataFrame | str | Path | None,
    ntc_labels: Sequence[str],
    min_umi: int | None,
) -> _Parts:
    cells = view.names("obs")
    if cells.size == 0:
        raise InputError(f"the screen {view.name} has no cells.")
    each_once(cells)
    problems = Problems()
    with problems:
        prob, fate_names = read_fates(view, keys.fate)
        prob = check_fate_prob(prob, fate_names, cells, where=f"obsm[{keys.fate!r}]")
    with problems:
        carriers, guide_names, where = read_guides(view, key=keys.guide, names_key=keys.guide_names, given=guides, min_umi=min_umi, argument="keys.guide")
    with problems:
        day = view.need("obs", keys.day, "Name the day column with keys.day.", "keys.day")
    with problems:
        rep, rep_where = _rep(view, keys)
    with problems:
        cluster = None if keys.cluster is None else _cluster(view, keys.cluster, keys.covar, cells)
    with problems:
        mapping, _ = read_guide_map(view, guide_map, guide_key=keys.guide, ntc_labels=ntc_labels)
    problems.report()
    origin = view.find("uns", "real_or_simulated")
    carriers, mapped_names, gene, is_ntc = match_map(carriers, guide_names, mapping, where=where)
    return _Parts(
        cells=cells,
        carriers=carriers,
        guide_names=mapped_names,
        gene=gene,
        is_ntc=is_ntc,
        guides_where=where,
        mapping=mapping,
        prob=prob,
        fate_names=fate_names,
        day=day,
        rep=rep,
        rep_where=rep_where,
        cluster=cluster,
        simulated=origin is not None and str(origin.get("uns", "real_or_simulated")).upper() == "SIMULATED",
        dropped={"guides_not_in_map": int(guide_names.size - mapped_names.size)},
    )


def _few_guides(parts: _Parts, most: int) -> _Parts:
    """The parts without the cells that carry more guides than `most`."""
    crowded = np.diff(parts.carriers.indptr) > most
    n_crowded = int(crowded.sum())
    if n_crowded:
        warn(f"{n_crowded:,} of {crowded.size:,} cells carry more than {most} guides and were dropped.", "max_guides_per_cell")
    if crowded.all():
        problem = f"every cell carries more than {most} guides ({parts.guides_where})"
        raise InputError(f"{problem}. Raise max_guides_per_cell, or check what the entries mean.", "max_guides_per_cell")
    if not n_crowded:
        return replace(parts, dropped={**parts.dropped, "cells_over_max_guides": 0})
    keep = np.flatnonzero(~crowded)
    return replace(
        parts,
        cells=parts.cells[keep],
        carriers=parts.carriers[keep],
        prob=parts.prob[keep],
        day=parts.day.iloc[keep],
        rep=parts.rep.iloc[keep],
        cluster=None if parts.cluster is None else parts.cluster.iloc[keep],
        dropped={**parts.dropped, "cells_over_max_guides": n_crowded},
    )


def _screen_of(parts: _Parts, keys: ScreenKeys) -> Screen:
    """The screen with the guides that cells carry."""
    cells, is_ntc, n_guides = parts.cells, parts.is_ntc, parts.carriers.shape[1]
    carried = np.zeros(n_guides, bool)
    for some in block_slices(parts.carriers.nnz):
        carried[parts.carriers.indices[some]] = True
    if not (carried & ~is_ntc).any():
        raise InputError(f"no cell carries a targeting guide ({parts.guides_where}): {n_guides} mapped guides, {int(is_ntc.sum())} of them NTC.")
    absent = _absent(parts.mapping, parts.guide_names[carried])
    if not (is_ntc & carried).any():
        warn("no cell carries a non-targeting (NTC) guide: effects are relative to cells without guides, and targeting guides alone give the burden slope.")
    day, day_labels = day_codes(parts.day, cells, where=f"obs[{keys.day!r}]")
    rep, rep_labels = level_codes(parts.rep, cells, where=parts.rep_where)
    return Screen(
        cells=cells,
        guides=parts.carriers if carried.all() else parts.carriers[:, np.flatnonzero(carried)],
        guide_names=parts.guide_names[carried],
        guide_gene=parts.gene[carried],
        is_ntc=is_ntc[carried],
        fate_prob=parts.prob,
        fate_names=parts.fate_names,
        day=day,
        day_labels=day_labels,
        rep=rep,
        rep_labels=rep_labels,
        clusters=None if parts.cluster is None else level_codes(parts.cluster, cells, where=f"cluster {keys.cluster!r}")[0],
        simulated=parts.simulated,
        dropped={**parts.dropped, **absent},
    )


def read_guides(
    view: View,
    *,
    key: str,
    names_key: str = "guide_names",
    given: str | Path | pd.DataFrame | None = None,
    min_umi: int | None = None,
    argument: str = "guide_assignment_key",
) -> tuple[sp.csr_matrix, Shaped[np.ndarray, " guides"], str]:
    """Find the guides of the cells: in a table, in obsm or layers, in a modality, or as labels in obs.

    Parameters
    ----------
    view
        The screen.
    key
        Key of the guide matrix in `obsm` or `layers`, name of the modality, or column of `obs` with the one guide of each cell.
    names_key
        Key in `uns` of the names of the guides, for an array.
    given
        Table to use instead; see `read_guide_table`.
    min_umi
        Minimum number of UMIs of a guide that a cell carries, for counts; None for calls.
    argument
        Name of the argument that sets `key`, for error messages.

    Returns
    -------
    tuple
        Presence, a CSR matrix of ones (cells, guides); names of the guides, each once, (guides,); name of the matrix in error messages.

    Raises
    ------
    InputError
        If there is no such matrix, if its cells or names do not fit, or if it holds raw counts and there is no minimum.
    """
    cells = view.names("obs")
    if given is not None:
        carriers, names, where = read_guide_table(given, cells, min_umi=min_umi)
    else:
        matrix, names, where = _stored_guides(view, key, names_key, argument)
        carriers = presence(matrix, cells, where=where, min_umi=min_umi)
    unique(names, f"{where}: guide names repeat", "Make them unique.")
    return carriers, names, where


def _stored_guides(view: View, key: str, names_key: str, argument: str) -> tuple[Any, np.ndarray, str]:
    key = guides_at(view, key)
    if key in view.modalities:
        part = view.modalities[key]
        view.same_cells(part)
        return part.matrix(), part.names("var"), f"mod[{key!r}].X"
    if view.find("obsm", key) is None and view.find("layers", key) is None and view.find("obs", key) is not None:
        return _labelled(view.need("obs", key, ""), f"obs[{key!r}]")
    for slot in ("obsm", "layers"):
        if view.find(slot, key) is not None:
            where, matrix = f"{slot}[{key!r}]", view.need_rows(slot, key, "")
            break
    else:
        present = view.keys("obsm") + [f"layers/{k}" for k in view.keys("layers")] + [f"modality {m}" for m in view.modalities]
        raise missing_key("obsm", key, present, f"Name the guide matrix (or MuData modality) with {argument}.", argument)
    if isinstance(matrix, pd.DataFrame):
        same_cells(matrix.index, view.names("obs"), where=where)
        return matrix, text_names(matrix.columns, where=f"the columns of {where}"), where
    if isinstance(matrix, StoredTable):
        return matrix, np.array(matrix.columns, dtype=object), where
    if matrix.ndim != 2:
        raise InputError(f"{where} has shape {matrix.shape}; it must be cells × guides.")
    holder = view.find("uns", names_key)
    if holder is None:
        raise missing_key("uns", names_key, view.keys("uns"), f"{where} is a bare matrix: put its {matrix.shape[1]} guide names there.")
    names = text_names(holder.get("uns", names_key), where=f"uns[{names_key!r}]")
    if names.size != matrix.shape[1]:
        raise InputError(f"uns[{names_key!r}] has {names.size} names but {where} has {matrix.shape[1]} columns. Give one name for each column.")
    return matrix, names, where


def guides_at(view: View, key: str) -> str:
    """The key of the guides: if a usual one, "guide" or "guide_assignment", is not there, the other is tried."""
    tried = [key, *(other for other in USUAL_KEYS if other != key)] if key in USUAL_KEYS else [key]
    return next((k for k in tried if k in view.modalities or view.find("obsm", k) is not None or view.find("layers", k) is not None), key)


def _labelled(labels: pd.Series, where: str) -> tuple[sp.csr_matrix, np.ndarray, str]:
    """Presence from a column that has the one guide, or the one target, of each cell; a missing or empty label is no guide."""
    text = labels.astype(object).where(labels.notna(), "").astype(str)
    codes, names = pd.factorize(text.where(text != "", None), sort=True)
    if not len(names):
        raise InputError(f"{where} has no label. Name a column of guides or targets.")
    if len(names) > max(100, len(labels) // 2):
        raise InputError(f"{where} has {len(names):,} different labels for {len(labels):,} cells. Is it a cell name? Name a column of guides or targets.")
    there = np.flatnonzero(codes >= 0)
    matrix = sp.csr_matrix((np.ones(there.size, np.float32), (there, codes[there])), shape=(len(labels), len(names)))
    return matrix, np.asarray(names, dtype=object), where


def read_guide_map(
    view: View,
    given: GuideMap | pd.DataFrame | str | Path | None,
    *,
    guide_key: str = "",
    keys: Sequence[str] = ("guide_map", "guide2gene"),
    ntc_labels: Sequence[str] = NTC_LABELS,
    suggestion: str = "Give a guide map with guide_map, or store it in uns['guide_map'] or uns['guide2gene'].",
) -> tuple[GuideMap, str]:
    """Find the guide map, and its name in error messages.

    Parameters
    ----------
    view
        The screen.
    given
        Guide map, table or file to use.
    guide_key
        Key of the guides. If nothing is in `uns`, the map is a column of `var` of the guides' modality (such as `target`), or, for guides that are labels in
        `obs`, each label is its own target.
    keys
        Keys in `uns` to look at if nothing is given; the first that exists is used.
    ntc_labels
        Gene names that mark non-targeting guides, in any case.
    suggestion
        How to fix a missing guide map.

    Raises
    ------
    InputError
        If there is no guide map, or if it is wrong.
    """
    if isinstance(given, GuideMap):
        return given, "the guide map"
    if isinstance(given, pd.DataFrame):
        return GuideMap.from_frame(given, ntc_labels=ntc_labels), "the guide map"
    if given is not None:
        return GuideMap.from_file(given, ntc_labels=ntc_labels), f"the guide map {given}"
    guide_key = guides_at(view, guide_key)
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
    if guide_key in view.modalities and (target := view.modalities[guide_key].var_column(GENE_NAMES)) is not None:
        return GuideMap.from_mapping(
            dict(zip(target.index.astype(str), target, strict=True)), ntc_labels=ntc_labels, where=(where := f"mod[{guide_key!r}].var[{target.name!r}]")
        ), where
    if view.find("obsm", guide_key) is None and view.find("layers", guide_key) is None and view.find("obs", guide_key) is not None:
        _, names, where = _labelled(view.need("obs", guide_key, ""), f"obs[{guide_key!r}]")
        return GuideMap.from_mapping(dict(zip(names, names, strict=True)), ntc_labels=ntc_labels, where=where), where
    raise missing_key("uns", keys[0], view.keys("uns"), suggestion, "guide_map")


def _column(view: View, key: str, covar: str) -> tuple[pd.Series, str] | None:
    """`obsm[covar][key]` or `obs[key]`, and its name in error messages; None if neither exists."""
    if (found := view.column(covar, key)) is not None:
        return found, f"obsm[{covar!r}][{key!r}]"
    if view.find("obs", key) is not None:
        return view.need("obs", key, ""), f"obs[{key!r}]"
    return None


def _rep(view: View, keys: ScreenKeys) -> tuple[pd.Series, str]:
    found = _column(view, keys.rep, keys.covar)
    if found is None:
        raise missing_key("obs", keys.rep, view.keys("obs"), f"Name the replicate column (in obs or obsm[{keys.covar!r}]) with keys.rep.", "keys.rep")
    return found


def _cluster(view: View, key: str, covar: str, cells: np.ndarray) -> pd.Series:
    parts = []
    whole = _column(view, key, covar) is not None  # the name of a column can contain "+"
    for name in [key] if whole else [part.strip() for part in key.split("+")]:
        found = _column(view, name, covar)
        if found is None:
            raise missing_key("obs", name, view.keys("obs"), "Name the cluster columns with keys.cluster, joined by '+'.", "keys.cluster")
        values, where = found
        if isinstance(values.dtype, pd.CategoricalDtype):
            values = values.cat.remove_unused_categories()
        codes, labels = level_codes(values, cells, where=where)
        parts.append((codes, labels))
    codes, labels = parts[0]
    for more, others in parts[1:]:
        pair_of, pairs = pd.factorize(codes * len(others) + more)
        both = [f"{labels[pair // len(others)]} × {others[pair % len(others)]}" for pair in pairs]
        renamed, names = pd.factorize(np.array(both, dtype=object))
        codes, labels = renamed.astype(np.int64)[pair_of], tuple(names)
    return pd.Series(pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(labels))))


def _absent(mapping: GuideMap, carried: np.ndarray) -> dict[str, object]:
    """The number of guides and the names of genes of the map that no kept cell carries, with warnings about them."""
    there = np.isin(mapping.guide.astype(str), carried.astype(str))
    targeting = ~mapping.is_ntc
    lost = sorted(set(mapping.gene[targeting]) - set(mapping.gene[targeting & there]))
    if not there.all():
        warn(f"{int((~there).sum())} guides of the map are in no kept cell and were left out: {first_few(mapping.guide[~there])}")
    if lost:
        warn(f"{len(lost)} genes have no guide in the data and were dropped: {first_few(lost)}")
    return {"guides_without_cells": int((~there).sum()), "genes_without_cells": lost}
