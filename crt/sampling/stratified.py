"""Permutation of the treatment within strata of cells with similar propensity."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int, Shaped

from crt.kernels import sums as _kernels
from crt.propensity import given_propensity
from crt.sampling.base import Resamples, Unit, checked_probabilities
from crt.sampling.methods import BinMethod, StratifiedPermutation
from crt.sampling.strata import Strata, batch_codes, compute_bins, sorted_strata
from crt.sampling.streams import stream_state
from data_prep.errors import InputError, first_few, whole_number


def stratified_permutation_sampler(
    x_obs: Shaped[np.ndarray, " cells"],
    p_hat: Float[np.ndarray, " cells"],
    B: int,
    seed: int,
    batch_raw: Shaped[np.ndarray, " _"] | pd.Series | None = None,
    n_bins: int = 20,
    stratify_by_batch: bool = True,
    min_stratum_size: int = 2,
    burden_values: Shaped[np.ndarray, " _"] | None = None,
    n_burden_bins: int = 8,
    burden_bin_method: BinMethod = "quantile",
    burden_clip_quantiles: tuple[float, float] = (0.0, 1.0),
) -> Resamples:
    """In each stratum treat exactly the observed number of cells, drawn uniformly without replacement.

    Strata are combinations of batch, propensity bin and burden bin; strata smaller than `min_stratum_size` are merged into one. Subsets are drawn by the
    first steps of a Fisher–Yates shuffle.

    Parameters
    ----------
    x_obs
        Observed treatment, 0 or 1, (cells,).
    p_hat
        Propensity, (cells,).
    B
        Number of resamples.
    seed
        Random seed.
    batch_raw
        Batch labels, (cells,); used if `stratify_by_batch`.
    n_bins
        Number of propensity bins, by quantiles.
    stratify_by_batch
        Whether strata differ between batches.
    min_stratum_size
        Minimum number of cells in a stratum; smaller strata are merged.
    burden_values
        Values to bin as well, finite, (cells,); None for no burden bins.
    n_burden_bins
        Number of burden bins.
    burden_bin_method
        "quantile" or "uniform", see `compute_bins`.
    burden_clip_quantiles
        Lower and upper quantile of the burden between which the bin edges are placed.

    Returns
    -------
    Resamples
        The cells of a resample are in the order of the strata.

    Raises
    ------
    InputError
        Where an array has a wrong shape or wrong values, or an option is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from crt import stratified_permutation_sampler
    >>> x, batch = np.array([1, 0, 0, 1, 1, 0]), np.array(["a", "a", "a", "b", "b", "b"])
    >>> resamples = stratified_permutation_sampler(x, np.full(6, 0.5), B=100, seed=1, batch_raw=batch)
    >>> first = resamples.indices.reshape(100, 3)
    >>> set((first < 3).sum(1).tolist())  # one treated cell of batch a in each resample, as observed
    {1}
    """
    x_obs, p_hat = np.asarray(x_obs), checked_probabilities(p_hat, "p_hat")
    if x_obs.shape != p_hat.shape or not np.isin(x_obs, (0, 1)).all():
        raise InputError(f"x_obs must be 0 or 1 for each of the {p_hat.size:,} cells; it has shape {x_obs.shape} and values {first_few(np.unique(x_obs), 3)}.")
    settings = StratifiedPermutation(
        n_bins=n_bins,
        stratify_by_batch=stratify_by_batch,
        n_burden_bins=n_burden_bins,
        burden_bin_method=burden_bin_method,
        burden_clip_quantiles=burden_clip_quantiles,
        min_stratum_size=min_stratum_size,
    )
    for name, values in (("batch_raw", batch_raw), ("burden_values", burden_values)):
        if values is not None and np.shape(values) != p_hat.shape:
            raise InputError(f"{name} has shape {np.shape(values)}. Give one value for each of the {p_hat.size:,} cells.", name)
    drawer = StratifiedDrawer(
        settings=settings,
        batch=None if batch_raw is None or not stratify_by_batch else batch_codes(batch_raw),
        burden=None if burden_values is None else np.asarray(burden_values, dtype=np.float64),
    )
    unit = Unit(cells=np.arange(p_hat.size, dtype=np.int32), treated=np.flatnonzero(x_obs), propensity=given_propensity(p_hat), whole=True)
    return drawer.resamples(unit, whole_number("B", B), seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StratifiedDrawer:
    """A `StratifiedPermutation` bound to a screen.

    Attributes
    ----------
    settings
        The settings of the sampler.
    batch
        Batch codes of the cells, (cells,); None for one batch.
    burden
        Burden of the cells, (cells,); None for no burden bins.
    """

    settings: StratifiedPermutation
    batch: Int[np.ndarray, " cells"] | None
    burden: Float[np.ndarray, " cells"] | None

    def strata(self, unit: Unit) -> Strata:
        """The strata of a unit's cells: stratum `batch·(P·Q) + p_bin·Q + b_bin`, with P and Q the effective numbers of propensity and burden bins."""
        s, pick = self.settings, slice(None) if unit.whole else unit.cells
        p_bin, n_p, _ = compute_bins(unit.p, s.n_bins)
        b_bin, n_b = (0, 1) if self.burden is None else compute_bins(self.burden[pick], s.n_burden_bins, s.burden_bin_method, s.burden_clip_quantiles)[:2]
        stratum, n_batches = p_bin * n_b + b_bin, 1
        if self.batch is not None:
            batch = self.batch[pick]
            stratum, n_batches = stratum + batch * (n_p * n_b), int(np.unique(batch).size)
        numbers = {"n_propensity_bins": n_p, "n_batches": n_batches, "n_burden_bins": n_b}
        return sorted_strata(stratum, unit, min_stratum_size=s.min_stratum_size, numbers=numbers)

    def sums(
        self, unit: Unit, rows: Float32[np.ndarray, "cells width"], n_resamples: int, seed: int
    ) -> tuple[Float32[np.ndarray, "resamples width"], dict[str, int]]:
        """Sums of `rows` over the treated cells of each resample, and the numbers of strata.

        Parameters
        ----------
        unit
            The unit.
        rows
            Rows of the screen.
        n_resamples
            Number of resamples.
        seed
            Random seed of the unit.
        """
        strata = self.strata(unit)
        sums = np.zeros((n_resamples, rows.shape[1]), np.float32)
        _kernels.stratified_sums(rows, strata.cells.copy(), strata.offsets, strata.n_treated, sums, stream_state(seed))
        return sums, strata.numbers

    def resamples(self, unit: Unit, n_resamples: int, seed: int) -> Resamples:
        """The draws of `sums` as lists of cells."""
        strata = self.strata(unit)
        total = int(strata.n_treated.sum())
        indices = np.empty(total * n_resamples, np.int32)
        _kernels.stratified_indices(strata.cells.copy(), strata.offsets, strata.n_treated, n_resamples, indices, stream_state(seed))
        return Resamples(np.arange(n_resamples + 1, dtype=np.int64) * total, indices)
