"""Effects of a fit inside an AnnData."""

from dataclasses import fields
from typing import Any

import anndata as ad
import numpy as np

from data_prep.errors import InputError, missing_key
from hierarchy.effects import DaywiseEffects

TUPLES = ("fates", "days")


def store_fit_in_adata(adata: ad.AnnData, effects: DaywiseEffects, *, key: str = "hierarchy") -> None:
    """Store the effects of a fit in `adata.uns[key]`, in a form that `write_h5ad` and `read_h5ad` preserve.

    Parameters
    ----------
    adata
        AnnData; it is modified.
    effects
        Result of `summarise`.
    key
        Key in `uns`.

    Raises
    ------
    InputError
        If the key is empty or contains "/".

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit, read_fit_from_adata, store_fit_in_adata, summarise
    >>> store_fit_in_adata(adata, summarise(fit(build_fate_data(read_screen(adata), ref_fate="EC"))))
    >>> read_fit_from_adata(adata).days
    ('d0', 'd1')
    """
    if not key or "/" in key:
        raise InputError(f"key is {key!r}. Give a name without '/'.", "key")
    stored: dict[str, Any] = {}
    for field in fields(effects):
        value = getattr(effects, field.name)
        named = isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.dtype.kind in "OU")
        stored[field.name] = np.array(list(map(str, value)), dtype=object) if named else value
    adata.uns[key] = stored


def read_fit_from_adata(adata: ad.AnnData, *, key: str = "hierarchy") -> DaywiseEffects:
    """The effects that `store_fit_in_adata` has stored; an `InputError` if there are none.

    Parameters
    ----------
    adata
        AnnData.
    key
        Key in `uns`.

    Returns
    -------
    DaywiseEffects
        The effects.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit, read_fit_from_adata, store_fit_in_adata, summarise
    >>> store_fit_in_adata(adata, summarise(fit(build_fate_data(read_screen(adata), ref_fate="EC"))))
    >>> read_fit_from_adata(adata).reference
    'EC'
    """
    if key not in adata.uns:
        raise missing_key("uns", key, adata.uns, "Store the effects of a fit there with store_fit_in_adata.", "key")
    stored = adata.uns[key]
    lost = [field.name for field in fields(DaywiseEffects) if field.name not in stored]
    if lost:
        raise InputError(f"uns[{key!r}] holds no effects of a fit: it lacks {', '.join(lost)}. Store them with store_fit_in_adata.", "key")
    values = {field.name: stored[field.name] for field in fields(DaywiseEffects)}
    for name in ("genes", "guides", "gene_of_guide"):
        values[name] = np.asarray(values[name], dtype=object)
    return DaywiseEffects(**{**values, **{name: tuple(map(str, values[name])) for name in TUPLES}, "reference": str(values["reference"])})
