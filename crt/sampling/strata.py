"""Bins, and strata: cells that are exchangeable given batch, propensity bin and burden bin."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from crt.kernels import bins as _kernels
from crt.sampling.base import Unit
from crt.sampling.methods import BinMethod, check_binning
from data_prep.errors import InputError


def compute_bins(
    values: Float[np.ndarray, " cells"], n_bins: int, method: BinMethod = "quantile", clip_quantiles: tuple[float, float] = (0.0, 1.0)
) -> tuple[Int[np.ndarray, " cells"], int, Float[np.ndarray, " edges"]]:
    """Assign values to at most `n_bins` bins: `(bin_id, n_effective_bins, edges)`.

    Bins include their left edge; the last bin includes both. Equal edges are merged, so ties reduce the number of bins, and equal values give one bin.
    Values beyond the clip quantiles belong to the outer bins.

    Parameters
    ----------
    values
        Finite numbers, (cells,).
    n_bins
        Number of bins requested, 1 or more.
    method
        "quantile" for bins with about equal numbers of values, "uniform" for bins of equal width.
    clip_quantiles
        Lower and upper quantile of the values between which the edges are placed.

    Returns
    -------
    bin_id : numpy.ndarray
        Bin of each value, int64 (cells,), from 0 to n_effective_bins − 1.
    n_effective_bins : int
        Number of bins after equal edges are merged.
    edges : numpy.ndarray
        Edges of the bins, float64 (n_effective_bins + 1,).

    Raises
    ------
    InputError
        Where values are not finite, or an option is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from crt import compute_bins
    >>> compute_bins(np.array([0.0, 1.0, 2.0, 3.0]), 2)
    (array([0, 0, 1, 1]), 2, array([0. , 1.5, 3. ]))
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"values has shape {values.shape}. Give one number per cell.")
    if not np.isfinite(values).all():
        raise InputError(f"{int((~np.isfinite(values)).sum()):,} of the {values.size:,} values to bin are NaN or infinite.")
    check_binning(n_bins=n_bins, method=method, clip_quantiles=clip_quantiles)
    ordered = np.sort(values)
    low, high = clip_quantiles
    if method == "quantile":
        edges = _quantile(ordered, np.linspace(low, high, n_bins + 1))
    else:
        first, last = _quantile(ordered, np.array([low, high]))
        edges = np.linspace(first, last, n_bins + 1)
    edges = np.unique(edges)
    if edges.size < 2:
        edges = np.repeat(edges, 2)
    bins = np.empty(values.size, np.int32)
    _kernels.assign_bins(values, edges[1:-1], bins)
    return bins.astype(np.int64), edges.size - 1, edges


def _quantile(ordered: np.ndarray, q: np.ndarray) -> np.ndarray:
    """`np.quantile` of values that are sorted already; `np.quantile` would partition them again, which takes longer than the sort."""
    at = q * (ordered.size - 1)
    lower = np.floor(at).astype(np.int64)
    upper = np.minimum(lower + 1, ordered.size - 1)
    return ordered[lower] + (at - lower) * (ordered[upper] - ordered[lower])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strata:
    """The strata of a unit's cells.

    Attributes
    ----------
    cells
        The unit's cells sorted by stratum, int32 (cells,); within a stratum in their original order.
    offsets
        Bounds of the strata: stratum s is `cells[offsets[s]:offsets[s + 1]]`, int64 (strata + 1,).
    n_treated
        Number of treated cells in each stratum, int64 (strata,).
    numbers
        Numbers for the record: strata, effective bins and batches, cells in merged strata (`n_merged_cells`), and strata in which no cell or every cell
        is treated (`n_fixed`), so that there is nothing to permute.
    """

    cells: Int[np.ndarray, " cells"]
    offsets: Int[np.ndarray, " bounds"]
    n_treated: Int[np.ndarray, " strata"]
    numbers: dict[str, int]


def batch_codes(labels: Shaped[np.ndarray, " cells"] | pd.Series) -> Int[np.ndarray, " cells"]:
    """Batch labels as codes in the sorted order of the labels; a missing label is an error."""
    values = pd.Series(np.asarray(labels, dtype=object))
    absent = np.flatnonzero(values.isna())
    if absent.size:
        raise InputError(f"{absent.size:,} cells have no batch label, first in row {absent[0]}. Fill in the labels, or drop those cells.")
    codes, _ = pd.factorize(values.astype(str), sort=True)
    return codes.astype(np.int64)


def sorted_strata(stratum: Int[np.ndarray, " cells"], unit: Unit, *, min_stratum_size: int, numbers: Mapping[str, int]) -> Strata:
    """Sort a unit's cells by stratum, after strata with fewer than `min_stratum_size` cells are merged into one.

    Parameters
    ----------
    stratum
        Code of each cell's stratum, 0 or more, (cells,).
    unit
        The unit.
    min_stratum_size
        Minimum number of cells in a stratum.
    numbers
        How the strata were made, for the record.
    """
    size = np.bincount(stratum)
    small = (size > 0) & (size < min_stratum_size)
    n_merged = int(size[small].sum())
    if n_merged:
        stratum = np.where(small[stratum], size.size, stratum)
        size = np.bincount(stratum)
    narrow = stratum.astype(np.uint16) if size.size < 2**16 else stratum  # numpy sorts 16-bit integers by radix
    order = np.argsort(narrow, kind="stable")
    occupied = np.flatnonzero(size)
    n_treated = np.bincount(stratum[unit.treated], minlength=size.size)[occupied]
    size = size[occupied]
    fixed = (n_treated == 0) | (n_treated == size)
    return Strata(
        cells=unit.cells[order],
        offsets=np.concatenate([[0], np.cumsum(size)]).astype(np.int64),
        n_treated=n_treated.astype(np.int64),
        numbers={"n_strata": size.size, **numbers, "n_merged_cells": n_merged, "n_fixed": int(fixed.sum())},
    )
