"""Resamples: synthetic treated sets drawn given the covariates.

Two samplers, each as a public function that returns the cells it drew and as frozen settings that also feed the statistic without ever
writing the cells down; both make the same draws from the same seed.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from crt.inputs import CRTInputs
from crt.kernels import kernels as _kernels
from crt.sampling.raw_columns import batch_of, burden_of
from crt.sampling.strata import BIN_METHODS, BinMethod, Strata, batch_codes, build_strata
from crt.sampling.streams import stream_state
from data_prep.errors import InputError, first_few, whole_number


class Resamples(NamedTuple):
    """Ragged lists of treated cells: resample b treats `indices[indptr[b]:indptr[b + 1]]`.

    Attributes
    ----------
    indptr
        Where each resample begins, int64 (B + 1,).
    indices
        The treated cells, int32.

    Examples
    --------
    >>> import numpy as np
    >>> from crt import bernoulli_index_sampler
    >>> resamples = bernoulli_index_sampler(np.full(10, 0.3), B=2, seed=1)
    >>> [resamples.indices[a:b].tolist() for a, b in zip(resamples.indptr, resamples.indptr[1:])]
    [[2, 7], [0]]
    """

    indptr: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """What a sampler is told of one unit.

    Attributes
    ----------
    cells
        The cells it lives on, int32 (n,), rising.
    treated
        Positions among `cells` of the treated, rising.
    p
        Propensity of `cells`, float64 (n,).
    whole
        `cells` is every cell of the screen.
    """

    cells: np.ndarray
    treated: np.ndarray
    p: np.ndarray
    whole: bool


class Drawer(Protocol):
    """A sampler made ready for one screen."""

    def sums(self, unit: Unit, rows: np.ndarray, n_resamples: int, seed: int) -> tuple[np.ndarray, dict[str, int]]:
        """Sums of `rows` over the treated cells of each resample, float32 (B, width), and diagnostics."""

    def draw(self, unit: Unit, n_resamples: int, seed: int) -> Resamples:
        """The same draws, written down; `indices` are cells of the screen."""


def bernoulli_index_sampler(p: np.ndarray, B: int, seed: int) -> Resamples:
    """Treat every cell independently in each resample with its own probability.

    Gaps between a cell's hits are geometric: ⌊E/h⌋ with E ~ Exp(1) and h = −log(1 − p); what is left of E at the end of a cell's resamples runs on into
    the next cell (the exponential has no memory). The cost is one number for each treated draw, plus N.

    Parameters
    ----------
    p
        Probabilities, (n,).
    B
        Number of resamples.
    seed
        Of the stream.

    Returns
    -------
    Resamples
        Each resample's cells are rising.

    Raises
    ------
    InputError
        Where a probability is NaN or outside [0, 1], or B is not a whole number, 1 or more.

    Examples
    --------
    >>> import numpy as np
    >>> from crt import bernoulli_index_sampler
    >>> resamples = bernoulli_index_sampler(np.full(1000, 0.1), B=200, seed=1)
    >>> round(resamples.indices.size / 200 / 1000, 2)
    0.1
    """
    hazard, state = _hazard(_checked_p(p)), stream_state(seed)
    counts = np.zeros(whole_number("the number of resamples", B), np.int64)
    _kernels.bernoulli_counts(hazard, counts, state)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    indices = np.empty(indptr[-1], np.int32)
    _kernels.bernoulli_indices(hazard, indptr[:-1].copy(), indices, state)
    return Resamples(indptr, indices)


def stratified_permutation_sampler(
    x_obs: np.ndarray,
    p_hat: np.ndarray,
    B: int,
    seed: int,
    batch_raw: np.ndarray | pd.Series | None = None,
    n_bins: int = 20,
    stratify_by_batch: bool = True,
    min_stratum_size: int = 2,
    burden_values: np.ndarray | None = None,
    n_burden_bins: int = 8,
    burden_bin_method: BinMethod = "quantile",
    burden_clip_quantiles: tuple[float, float] = (0.0, 1.0),
) -> Resamples:
    """Within each stratum treat exactly the observed number of cells, chosen uniformly without replacement.

    Strata are (batch, propensity bin, burden bin); strata smaller than `min_stratum_size` are merged into one.

    Parameters
    ----------
    x_obs
        0/1 treatment, (n,).
    p_hat
        Propensity, (n,).
    B
        Number of resamples.
    seed
        Of the stream.
    batch_raw
        Batch labels, (n,), used if `stratify_by_batch`.
    n_bins
        Propensity bins, by quantiles.
    stratify_by_batch
        Whether batches are strata.
    min_stratum_size
        Smaller strata are merged.
    burden_values
        Finite numbers, (n,), or None for no burden bins.
    n_burden_bins
        Bins of them.
    burden_bin_method
        "quantile" or "uniform", see `compute_bins`.
    burden_clip_quantiles
        Quantiles between which the bins' edges are laid.

    Returns
    -------
    Resamples
        Each resample's cells are in the order of the strata.

    Raises
    ------
    InputError
        Where an array has the wrong shape or values, or an option can't be.

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
    x_obs = np.asarray(x_obs)
    p_hat = _checked_p(p_hat)
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
            raise InputError(f"{name} has shape {np.shape(values)}; give one value for each of the {p_hat.size:,} cells.")
    drawer = _StratifiedDrawer(
        settings=settings,
        batch=None if batch_raw is None or not stratify_by_batch else batch_codes(batch_raw),
        burden=None if burden_values is None else np.asarray(burden_values, dtype=np.float64),
    )
    unit = Unit(cells=np.arange(p_hat.size, dtype=np.int32), treated=np.flatnonzero(x_obs), p=p_hat, whole=True)
    return drawer.draw(unit, whole_number("the number of resamples", B), seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class BernoulliIndex:
    """Settings of `bernoulli_index_sampler`: it has none.

    Examples
    --------
    >>> from crt import BernoulliIndex, UnitSettings
    >>> UnitSettings().sampler == BernoulliIndex()
    True
    """

    def bind(self, inputs: CRTInputs) -> Drawer:
        """Make ready for a screen."""
        return _BernoulliDrawer()


@dataclass(frozen=True, slots=True, kw_only=True)
class StratifiedPermutation:
    """Settings of `stratified_permutation_sampler`; the names are those of `resampling_kwargs`.

    Attributes
    ----------
    n_bins
        Propensity bins, by quantiles.
    stratify_by_batch
        Whether batches are strata.
    batch_key
        Column of the raw covariate table with the batch labels; None for the one that the inputs were prepared with.
    burden_key
        Numeric column of the raw covariate table to bin as well; None for no burden bins.
    n_burden_bins
        Bins of the burden.
    burden_bin_method
        "quantile" or "uniform", see `compute_bins`.
    burden_clip_quantiles
        Quantiles between which the burden bins' edges are laid.
    min_stratum_size
        Smaller strata are merged into one.

    Raises
    ------
    InputError
        On a number of bins below 1, an unknown method, or quantiles that do not rise.

    Examples
    --------
    >>> from crt import StratifiedPermutation
    >>> StratifiedPermutation(burden_key="log1p_non_ntc_guides_per_cell", burden_bin_method="uniform").n_burden_bins
    8
    """

    n_bins: int = 20
    stratify_by_batch: bool = True
    batch_key: str | None = None
    burden_key: str | None = None
    n_burden_bins: int = 8
    burden_bin_method: BinMethod = "quantile"
    burden_clip_quantiles: tuple[float, float] = (0.0, 1.0)
    min_stratum_size: int = 2

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("n_bins", "n_burden_bins", "min_stratum_size"):
            whole_number(name, getattr(self, name))
        if self.burden_bin_method not in BIN_METHODS:
            raise InputError(f"burden_bin_method is {self.burden_bin_method!r}; choose {' or '.join(map(repr, BIN_METHODS))}.")
        clip = tuple(self.burden_clip_quantiles)
        if len(clip) != 2 or not 0 <= clip[0] < clip[1] <= 1:
            raise InputError(f"burden_clip_quantiles is {self.burden_clip_quantiles}; give two, rising, between 0 and 1.")
        object.__setattr__(self, "burden_clip_quantiles", clip)

    def bind(self, inputs: CRTInputs) -> Drawer:
        """Make ready for a screen: batch codes and burden values, once for all its units."""
        return _StratifiedDrawer(
            settings=self,
            batch=batch_of(inputs, self.batch_key) if self.stratify_by_batch else None,
            burden=None if self.burden_key is None else burden_of(inputs, self.burden_key),
        )


Sampler = BernoulliIndex | StratifiedPermutation
SAMPLERS: dict[str, type[BernoulliIndex] | type[StratifiedPermutation]] = {"bernoulli_index": BernoulliIndex, "stratified_perm": StratifiedPermutation}


def make_sampler(method: str, kwargs: dict[str, Any] | None = None) -> Sampler:
    """The settings named: `SAMPLERS[method](**kwargs)`, with an error that lists the known names."""
    if method not in SAMPLERS:
        raise InputError(f"resampling_method is {method!r}; choose {' or '.join(map(repr, SAMPLERS))}.")
    known = [f.name for f in fields(SAMPLERS[method])]
    unknown = [name for name in kwargs or {} if name not in known]
    if unknown:
        raise InputError(f"{method} does not know the option {first_few(unknown)}; its options are: {', '.join(known) or 'none'}.")
    return SAMPLERS[method](**(kwargs or {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _BernoulliDrawer:
    def sums(self, unit: Unit, rows: np.ndarray, n_resamples: int, seed: int) -> tuple[np.ndarray, dict[str, int]]:
        sums = np.zeros((n_resamples, rows.shape[1]), np.float32)
        _kernels.bernoulli_sums(rows, unit.cells, _hazard(unit.p), sums, stream_state(seed))
        return sums, {}

    def draw(self, unit: Unit, n_resamples: int, seed: int) -> Resamples:
        indptr, indices = bernoulli_index_sampler(unit.p, n_resamples, seed)
        return Resamples(indptr, unit.cells[indices])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _StratifiedDrawer:
    settings: StratifiedPermutation
    batch: np.ndarray | None
    burden: np.ndarray | None

    def strata(self, unit: Unit) -> Strata:
        s = self.settings
        pick = slice(None) if unit.whole else unit.cells
        return build_strata(
            unit.treated,
            unit.p,
            n_bins=s.n_bins,
            batch=None if self.batch is None else self.batch[pick],
            burden=None if self.burden is None else self.burden[pick],
            n_burden_bins=s.n_burden_bins,
            burden_method=s.burden_bin_method,
            burden_clip=s.burden_clip_quantiles,
            min_stratum_size=s.min_stratum_size,
            cells=unit.cells,
        )

    def sums(self, unit: Unit, rows: np.ndarray, n_resamples: int, seed: int) -> tuple[np.ndarray, dict[str, int]]:
        strata = self.strata(unit)
        sums = np.zeros((n_resamples, rows.shape[1]), np.float32)
        _kernels.stratified_sums(rows, strata.cells.copy(), strata.offsets, strata.n_treated, sums, stream_state(seed))
        return sums, strata.diagnostics()

    def draw(self, unit: Unit, n_resamples: int, seed: int) -> Resamples:
        strata = self.strata(unit)
        total = int(strata.n_treated.sum())
        indices = np.empty(total * n_resamples, np.int32)
        _kernels.stratified_indices(strata.cells.copy(), strata.offsets, strata.n_treated, n_resamples, indices, stream_state(seed))
        return Resamples(np.arange(n_resamples + 1, dtype=np.int64) * total, indices)


def _hazard(p: np.ndarray) -> np.ndarray:
    """−log(1 − p); 1e300 stands for infinity where p = 1."""
    certain = p >= 1
    if certain.any():
        return np.where(certain, 1e300, -np.log1p(-np.where(certain, 0.0, p)))
    return -np.log1p(-p)


def _checked_p(p: np.ndarray) -> np.ndarray:
    p = np.ascontiguousarray(p, dtype=np.float64)
    if p.ndim != 1 or p.size == 0:
        raise InputError(f"the probabilities have shape {p.shape}; give one for each cell.")
    if not (np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1):
        raise InputError(f"{int((~((p >= 0) & (p <= 1))).sum()):,} of the {p.size:,} probabilities are NaN or outside [0, 1].")
    return p
