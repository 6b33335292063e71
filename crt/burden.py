"""Burden: the number of guides in a cell, as a covariate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd

from crt.read import guide_map_of, in_order
from data_prep.errors import InputError, missing_key
from data_prep.read.container import open_view
from data_prep.read.guide_map import NTC_LABELS, GuideMap
from data_prep.read.screen import read_guides

BURDEN_KEY = "log1p_non_ntc_guides_per_cell"


def add_burden_covariate(
    adata: ad.AnnData | Any,
    *,
    name: str = BURDEN_KEY,
    count: Literal["non_ntc", "all"] = "non_ntc",
    guides: str | Path | pd.DataFrame | None = None,
    guide_map: GuideMap | pd.DataFrame | str | Path | None = None,
    covar_key: str | None = "covar",
    guide_assignment_key: str = "guide_assignment",
    guide2gene_key: str = "guide2gene",
    guide_names_key: str = "guide_names",
    ntc_labels: Sequence[str] = NTC_LABELS,
    min_umi: int | None = None,
) -> pd.Series:
    """Add log(1 + guides in the cell) to `adata.obsm[covar_key]` as a column, or to `adata.obs` if `covar_key` is None, and return it.

    The table is replaced by a copy with the column, so that a table shared with another object does not change.

    Parameters
    ----------
    adata
        AnnData or MuData; it is modified.
    name
        Name of the column; an existing column of that name is replaced.
    count
        Guides that are counted: "non_ntc" or "all".
    guides
        Table of the guides of each cell in place of `guide_assignment_key`, as in `prepare_crt_inputs`.
    guide_map
        Guide → gene map in place of `guide2gene_key`, as in `prepare_crt_inputs`.
    covar_key
        Key of the covariates in `obsm`, a DataFrame; None where they are columns of `obs`.
    guide_assignment_key
        Key of the guides of each cell, as in `prepare_crt_inputs`.
    guide2gene_key
        Key of the guide → gene map, as in `prepare_crt_inputs`.
    guide_names_key
        Key of the names of the guides, as in `prepare_crt_inputs`.
    ntc_labels
        Genes that mark NTC guides, in any case.
    min_umi
        Minimum number of UMIs of a guide that a cell carries, as in `prepare_crt_inputs`.

    Returns
    -------
    pandas.Series
        The column, one value per cell.

    Raises
    ------
    InputError
        Where the covariates are not a DataFrame, or the guides cannot be read.

    Examples
    --------
    >>> from crt import add_burden_covariate, make_sceptre_style_synth
    >>> adata = make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1)
    >>> burden = add_burden_covariate(adata, name="log1p_guides", count="all")
    >>> list(adata.obsm["covar"].columns)[-1], round(float(burden.mean()), 2)
    ('log1p_guides', 1.65)
    """
    if count not in ("non_ntc", "all"):
        raise InputError(f"count is {count!r}; choose 'non_ntc' or 'all'.", "count")
    table = adata.obs if covar_key is None else _table(adata, covar_key)
    with open_view(adata) as view:
        carriers, names, where = read_guides(view, key=guide_assignment_key, names_key=guide_names_key, given=guides, min_umi=min_umi)
        mapping, map_where = guide_map_of(view, guide_map, guide2gene_key, ntc_labels, guide_assignment_key)
    is_ntc = in_order(mapping, names, where, map_where).is_ntc
    counted = np.ones(names.size, bool) if count == "all" else ~is_ntc
    burden = pd.Series(np.log1p(np.asarray(carriers[:, np.flatnonzero(counted)].sum(1)).ravel().astype(np.float64)), index=table.index, name=name)
    if covar_key is None:
        adata.obs[name] = burden
    else:
        adata.obsm[covar_key] = table.assign(**{name: burden})
    return burden


def _table(adata: Any, key: str) -> pd.DataFrame:
    if key not in adata.obsm:
        raise missing_key("obsm", key, adata.obsm.keys(), "The burden is added to the covariate table, or to obs if covar_key is None.", "covar_key")
    table = adata.obsm[key]
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"obsm[{key!r}] is a {type(table).__name__}; the burden is a named column, so store the covariates as a DataFrame.", "covar_key")
    return table
