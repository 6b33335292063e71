"""The samplers by name, and their settings. The command line reads their defaults, so nothing heavy is imported before a sampler is bound to a screen."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from data_prep.errors import InputError, first_few, whole_number

if TYPE_CHECKING:
    from crt.inputs import CRTInputs
    from crt.sampling.base import Drawer

ResamplingMethod = Literal["bernoulli_index", "stratified_perm"]
BinMethod = Literal["quantile", "uniform"]
BIN_METHODS = ("quantile", "uniform")


def check_binning(**options: Any) -> None:
    """Check a number of bins, a method and clip quantiles, in this order, given under the names that errors show."""
    (n_name, n_bins), (method_name, method), (clip_name, clip) = options.items()
    whole_number(n_name, n_bins)
    if method not in BIN_METHODS:
        raise InputError(f"{method_name} is {method!r}; choose {' or '.join(map(repr, BIN_METHODS))}.", method_name)
    if len(clip) != 2 or not 0 <= clip[0] < clip[1] <= 1:
        raise InputError(f"{clip_name} is {clip}. Give two quantiles between 0 and 1, in ascending order.", clip_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BernoulliIndex:
    """Settings of `bernoulli_index_sampler`: it has none.

    Examples
    --------
    >>> from crt import BernoulliIndex, UnitSettings
    >>> UnitSettings().sampler == BernoulliIndex()
    True
    """

    def bind(self, inputs: "CRTInputs") -> "Drawer":
        """The sampler for one screen."""
        from crt.sampling.bernoulli import BernoulliDrawer

        return BernoulliDrawer()


@dataclass(frozen=True, slots=True, kw_only=True)
class StratifiedPermutation:
    """Settings of `stratified_permutation_sampler`; the names are those of `resampling_kwargs`.

    Attributes
    ----------
    n_bins
        Number of propensity bins, by quantiles.
    stratify_by_batch
        Whether strata differ between batches.
    batch_key
        Column of the raw covariate table with the batch labels; None for the one that the inputs were prepared with.
    burden_key
        Numeric column of the raw covariate table to bin as well; None for no burden bins.
    n_burden_bins
        Number of burden bins.
    burden_bin_method
        "quantile" or "uniform", see `compute_bins`.
    burden_clip_quantiles
        Lower and upper quantile of the burden between which the bin edges are placed.
    min_stratum_size
        Minimum number of cells in a stratum; smaller strata are merged into one.

    Raises
    ------
    InputError
        Where a number of bins is below 1, the method is unknown, or the quantiles are not ascending.

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
        """Check the settings."""
        for name in ("n_bins", "min_stratum_size"):
            whole_number(name, getattr(self, name))
        object.__setattr__(self, "burden_clip_quantiles", tuple(self.burden_clip_quantiles))
        check_binning(n_burden_bins=self.n_burden_bins, burden_bin_method=self.burden_bin_method, burden_clip_quantiles=self.burden_clip_quantiles)

    def bind(self, inputs: "CRTInputs") -> "Drawer":
        """The sampler for one screen: batch codes and burden values, once for all its units."""
        from crt.sampling.raw_columns import batch_of, burden_of
        from crt.sampling.stratified import StratifiedDrawer

        return StratifiedDrawer(
            settings=self,
            batch=batch_of(inputs, self.batch_key) if self.stratify_by_batch else None,
            burden=None if self.burden_key is None else burden_of(inputs, self.burden_key),
        )


Sampler = BernoulliIndex | StratifiedPermutation
SAMPLERS: dict[str, type[BernoulliIndex] | type[StratifiedPermutation]] = {"bernoulli_index": BernoulliIndex, "stratified_perm": StratifiedPermutation}


def make_sampler(method: str, options: Mapping[str, Any] | None = None) -> Sampler:
    """The settings `SAMPLERS[method](**options)`; an unknown name is an error that lists the known ones."""
    if method not in SAMPLERS:
        raise InputError(f"resampling_method is {method!r}; choose {' or '.join(map(repr, SAMPLERS))}.", "resampling_method")
    options = dict(options or {})
    known = [f.name for f in fields(SAMPLERS[method])]
    if unknown := [name for name in options if name not in known]:
        raise InputError(
            f"{method} has no option {first_few(unknown)} in resampling_kwargs; its options are: {', '.join(known) or 'none'}.", "resampling_method"
        )
    return SAMPLERS[method](**options)
