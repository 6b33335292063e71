"""Strata: cells that are exchangeable given batch, propensity bin and burden bin."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from crt.kernels import kernels as _kernels
from data_prep.errors import InputError, whole_number

BinMethod = Literal["quantile", "uniform"]
BIN_METHODS = ("quantile", "uniform")


def compute_bins(
    values: np.ndarray, n_bins: int, method: BinMethod = "quantile", clip_quantiles: tuple[float, float] = (0.0, 1.0)
) -> tuple[np.ndarray, int, np.ndarray]:
    """Bin values into at most `n_bins` bins: `(bin_id, n_effective_bins, edges)`.

    Bins are closed on the left, the last on both sides. Equal edges are one edge, so ties make fewer bins, and equal values make one bin of zeros.
    Values beyond the clip quantiles go to the outer bins.

    Parameters
    ----------
    values
        Finite numbers, (n,).
    n_bins
        At least 1.
    method
        "quantile" for bins of about equal numbers, "uniform" for bins of equal width.
    clip_quantiles
        Quantiles between which the edges are laid.

    Returns
    -------
    bin_id : numpy.ndarray
        int64 (n,), in [0, n_effective_bins − 1].
    n_effective_bins : int
        How many bins there are.
    edges : numpy.ndarray
        float64 (n_effective_bins + 1,).

    Raises
    ------
    InputError
        On values that are not finite, or options that can't be.

    Examples
    --------
    >>> import numpy as np
    >>> from crt import compute_bins
    >>> compute_bins(np.array([0.0, 1.0, 2.0, 3.0]), 2)
    (array([0, 0, 1, 1]), 2, array([0. , 1.5, 3. ]))
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"values to bin have shape {values.shape}; give one number for each cell.")
    if not np.isfinite(values).all():
        raise InputError(f"{int((~np.isfinite(values)).sum()):,} of the {values.size:,} values to bin are NaN or infinite.")
    _check_bins(n_bins, method, clip_quantiles)
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
    """Linear interpolation between order statistics, as numpy's default, on values already sorted."""
    at = q * (ordered.size - 1)
    lower = np.floor(at).astype(np.int64)
    upper = np.minimum(lower + 1, ordered.size - 1)
    return ordered[lower] + (at - lower) * (ordered[upper] - ordered[lower])


def _check_bins(n_bins: int, method: str, clip_quantiles: tuple[float, float]) -> None:
    whole_number("the number of bins", n_bins)
    if method not in BIN_METHODS:
        raise InputError(f"the bin method is {method!r}; choose {' or '.join(map(repr, BIN_METHODS))}.")
    if len(clip_quantiles) != 2 or not 0 <= clip_quantiles[0] < clip_quantiles[1] <= 1:
        raise InputError(f"the clip quantiles are {clip_quantiles}; give two, rising, between 0 and 1.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strata:
    """The strata of a unit's cells, with what was done to make them.

    Attributes
    ----------
    cells
        Cells sorted by stratum, and within a stratum as they came, int32 (n,).
    offsets
        Stratum s holds `cells[offsets[s]:offsets[s + 1]]`, int64 (strata + 1,).
    n_treated
        Treated cells of each stratum, int64 (strata,).
    n_propensity_bins, n_batches, n_burden_bins
        Effective numbers.
    n_merged_cells
        Cells of strata smaller than the minimum, put together as one "misc" stratum.
    n_fixed
        Strata with nothing to permute: none treated, or all.
    """

    cells: np.ndarray
    offsets: np.ndarray
    n_treated: np.ndarray
    n_propensity_bins: int
    n_batches: int
    n_burden_bins: int
    n_merged_cells: int
    n_fixed: int

    @property
    def n_strata(self) -> int:
        """Number of strata that hold cells."""
        return self.n_treated.size

    def diagnostics(self) -> dict[str, int]:
        """The numbers as a dict, for the run record."""
        names = ("n_strata", "n_propensity_bins", "n_batches", "n_burden_bins", "n_merged_cells", "n_fixed")
        return {name: int(getattr(self, name)) for name in names}


def batch_codes(labels: np.ndarray | pd.Series) -> np.ndarray:
    """Batch labels as codes in the labels' sorted order; a missing label is an error."""
    values = pd.Series(np.asarray(labels, dtype=object))
    absent = np.flatnonzero(values.isna())
    if absent.size:
        raise InputError(f"{absent.size:,} cells have no batch label, first in row {absent[0]}. Fill them, or drop those cells.")
    codes, _ = pd.factorize(values.astype(str), sort=True)
    return codes.astype(np.int64)


def build_strata(
    treated: np.ndarray,
    p_hat: np.ndarray,
    *,
    n_bins: int,
    batch: np.ndarray | None = None,
    burden: np.ndarray | None = None,
    n_burden_bins: int = 1,
    burden_method: BinMethod = "quantile",
    burden_clip: tuple[float, float] = (0.0, 1.0),
    min_stratum_size: int = 1,
    cells: np.ndarray | None = None,
) -> Strata:
    """Sort cells into strata `batch·(nP·nB) + p_bin·nB + b_bin` with the effective numbers of bins.

    Parameters
    ----------
    treated
        Positions of the treated cells.
    p_hat
        Propensity (n,).
    batch
        Codes (n,), or None for one batch.
    burden
        Values (n,), or None for no burden bins.
    cells
        What to call the cells, (n,); by default their positions.
    """
    p_bin, n_p, _ = compute_bins(p_hat, n_bins)
    b_bin, n_b = (0, 1) if burden is None else compute_bins(burden, n_burden_bins, burden_method, burden_clip)[:2]
    stratum = p_bin * n_b + b_bin
    n_batches = 1
    if batch is not None:
        n_batches = int(np.unique(batch).size)
        stratum = stratum + batch * (n_p * n_b)
    size = np.bincount(stratum)
    small = (size > 0) & (size < min_stratum_size)
    n_merged = int(size[small].sum())
    if n_merged:
        misc = size.size
        stratum = np.where(small[stratum], misc, stratum)
        size = np.bincount(stratum)
    narrow = stratum.astype(np.uint16) if size.size < 2**16 else stratum
    order = np.argsort(narrow, kind="stable").astype(np.int32)
    held = np.flatnonzero(size)
    n_treated = np.bincount(stratum[treated], minlength=size.size)[held]
    size = size[held]
    return Strata(
        cells=order if cells is None else cells[order],
        offsets=np.concatenate([[0], np.cumsum(size)]).astype(np.int64),
        n_treated=n_treated.astype(np.int64),
        n_propensity_bins=n_p,
        n_batches=n_batches,
        n_burden_bins=n_b,
        n_merged_cells=n_merged,
        n_fixed=int(((n_treated == 0) | (n_treated == size)).sum()),
    )
