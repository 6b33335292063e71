"""Settings of a test: `UnitSettings`, its defaults, and how the options of the public functions become one."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

import numpy as np

from crt.sampling.methods import BernoulliIndex, ResamplingMethod, Sampler, make_sampler
from crt.sampling.streams import checked_seed, unit_seed
from data_prep.errors import InputError, whole_number
from data_prep.memory import require_memory

N_RESAMPLES = 1023  # B: empirical p-values are multiples of 1/(B + 1) = 1/1024
SEED = 123
GROUP_SIZE = 6  # guides per NTC group
STAGES = (4_999, 24_999)  # resamples of the later stages of adaptive runs
FEW = 5  # a test goes to the next stage where at most this many resamples, the observed value included, are as extreme
ControlGroup = Literal["complement", "ntc_cells"]
MultipleGuides = Literal["keep", "drop"]
Propensity = str | Callable[[np.ndarray, np.ndarray], np.ndarray]
MODES = ("fit", "oracle_const")
Side = Literal["both", "left", "right"]
Method = Literal["resample", "saddlepoint"]
Statistic = Literal["mean", "normal_scores", "cauchy"]
SIDES: dict[str, int] = {"left": -1, "both": 0, "right": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticSettings:
    """Settings of the logistic regression that fits the propensity.

    Attributes
    ----------
    penalty
        λ of ½λβ'Sβ, with S the covariance matrix of the covariates over the unit's cells: λ/2 times the variance of the linear predictor. It does not depend on
        how the covariates are coded. Of a level with a share f of the cells, λf|η̄_level − η̄| expected treated cells are moved to other levels.
    max_iter
        Maximum number of Newton steps.
    tolerance
        A fit has converged when the Newton decrement √(g'H⁻¹g) of a full step, times how far the coefficients have moved since the Hessian was computed, is at
        most this. The decrement bounds the error of the coefficients in any statistic Σ r(x − p), in units of its SD, and the product estimates what is left of
        it after the step.
    stale
        Maximum change of a coefficient in a step below which the last Hessian is reused.

    Raises
    ------
    InputError
        On a negative or infinite penalty, or limits that are not positive.

    Examples
    --------
    >>> from crt import LogisticSettings, UnitSettings
    >>> UnitSettings(logistic=LogisticSettings(penalty=0.1)).logistic.penalty
    0.1
    """

    penalty: float = 0.01
    max_iter: int = 50
    tolerance: float = 1e-6
    stale: float = 0.01

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (self.penalty >= 0 and math.isfinite(self.penalty)):
            raise InputError(f"penalty is {self.penalty}; it must be finite, and zero or more.", "propensity_penalty")
        if self.max_iter < 1 or not self.tolerance > 0:
            raise InputError(f"max_iter is {self.max_iter} and tolerance {self.tolerance}; both must be positive.")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """How units (genes, and groups of NTC guides) are tested.

    Attributes
    ----------
    n_resamples
        Number of resamples B, in adaptive runs that of the first stage.
    sampler
        Settings of the sampler, `BernoulliIndex` or `StratifiedPermutation`.
    seed
        Random seed; the random stream of a unit depends on this seed and the unit's name.
    side
        Alternative hypothesis: "both", "left" or "right".
    skew_normal
        Whether skew-normal p-values are computed.
    propensity_mode
        Model of the propensity: "fit"; "oracle_const", the treated share for every cell; or a function of (treated, C) that returns one probability per cell.
    logistic
        Settings of the logistic regression for "fit".
    stages
        Numbers of resamples of further stages, for units with a small p-value; () for none, (4999, 24999) for those of `adaptive=True`.
    method
        How p-values are computed: "resample", from resamples; "saddlepoint", from the exact cumulants of the null distribution, without resamples.
    statistic
        What is tested: "mean", the outcome itself; "normal_scores", the normal scores of its residuals; "cauchy", both, their p-values combined.
    min_treated
        Minimum number of treated cells; a unit with fewer is not tested.
    min_control
        Minimum number of control cells; a unit with fewer is not tested.

    Raises
    ------
    InputError
        On an invalid number, side, mode or seed.

    Examples
    --------
    >>> from crt import StratifiedPermutation, UnitSettings
    >>> settings = UnitSettings(n_resamples=4999, sampler=StratifiedPermutation(n_bins=10), seed=7)
    >>> settings.sampler.n_bins, settings.side
    (10, 'both')
    """

    n_resamples: int = N_RESAMPLES
    sampler: Sampler = BernoulliIndex()
    seed: int = SEED
    side: Side = "both"
    skew_normal: bool = False
    propensity_mode: Propensity = "fit"
    logistic: LogisticSettings = LogisticSettings()
    stages: tuple[int, ...] = ()
    method: Method = "resample"
    statistic: Statistic = "mean"
    min_treated: int = 1
    min_control: int = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("n_resamples", "min_treated", "min_control"):
            whole_number(name, getattr(self, name))
        self.require_memory(16)  # the least width of the rows
        check_side(self.side)
        check_mode(self.propensity_mode)
        checked_seed(self.seed)
        for name, kinds in (("method", Method), ("statistic", Statistic)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(f"{name} is {getattr(self, name)!r}; choose {', '.join(map(repr, get_args(kinds)))}.", name)
        if self.method == "saddlepoint" and (self.skew_normal or self.stages):
            what, name = ("skew-normal p-values", "calibrate_skew_normal") if self.skew_normal else ("further resamples", "adaptive")
            raise InputError(f"method is 'saddlepoint', which has no resamples, so {what} cannot be computed. Set method to 'resample'.", name, "method")

    def require_memory(self, width: int) -> None:
        """Raise an `InputError` if the sums over the treated cells of all resamples of one unit, float32 (resamples, width), exceed the memory."""
        require_memory(4 * width * self.n_resamples * (self.method == "resample"), f"the sums of {self.n_resamples:,} resamples", "n_resamples")

    def with_stages(self, stages: tuple[int, ...]) -> tuple[int, ...]:
        """Numbers of resamples of all stages, the first included."""
        return (self.n_resamples, *(b for b in stages if b > self.n_resamples))


def stage_seed(seed: int, name: str, stage: int) -> int:
    """The random seed of a unit's stage, the first of which is 1."""
    return unit_seed(seed, name, purpose="resamples" if stage == 1 else f"resamples, stage {stage}")


class UnitOptions(TypedDict, total=False):
    """The options that all public functions which test units share; defaults and descriptions are those of `run_all_genes_union_crt`."""

    B: int
    base_seed: int
    resampling_method: ResamplingMethod
    resampling_kwargs: Mapping[str, Any] | None
    side: Side
    skew_normal_side_code: int
    propensity_mode: Propensity
    propensity_penalty: float
    statistic: Statistic
    min_treated: int
    min_control: int


class AdaptiveOptions(UnitOptions, total=False):
    """`UnitOptions` of functions that can draw in stages."""

    adaptive: bool


class MethodOptions(AdaptiveOptions, total=False):
    """`AdaptiveOptions` of functions that offer every method."""

    method: Method


def settings_of(options: Mapping[str, Any], *, skew_normal: bool = False) -> UnitSettings:
    """The settings that `UnitOptions` and the kinds derived from it describe; only `UnitOptions` without `skew_normal_side_code` must be complete."""
    return UnitSettings(
        n_resamples=options["B"],
        sampler=make_sampler(options["resampling_method"], options["resampling_kwargs"]),
        seed=options["base_seed"],
        side=_one_side(options["side"], options.get("skew_normal_side_code", 0)),
        skew_normal=skew_normal,
        propensity_mode=options["propensity_mode"],
        logistic=LogisticSettings(penalty=options["propensity_penalty"]),
        stages=STAGES if options.get("adaptive") else (),
        method=options.get("method", "resample"),
        statistic=options["statistic"],
        min_treated=options["min_treated"],
        min_control=options["min_control"],
    )


def check_mode(mode: Propensity) -> None:
    """Raise unless the propensity mode is a known name or a function."""
    if not callable(mode) and mode not in MODES:
        raise InputError(f"propensity_mode is {mode!r}; choose {' or '.join(map(repr, MODES))}, or give a function.", "propensity_mode")


def check_side(side: str) -> None:
    """Raise unless the alternative hypothesis is a known one."""
    if side not in SIDES:
        raise InputError(f"side is {side!r}; choose {', '.join(map(repr, SIDES))}.", "side")


def _one_side(side: Side, code: int) -> Side:
    """The side that a name and a code describe; they may not contradict each other."""
    by_code = {value: name for name, value in SIDES.items()}
    if code not in by_code:
        raise InputError(f"skew_normal_side_code is {code!r}; choose −1 (left), 0 (both) or 1 (right).")
    if code == 0 or side == by_code[code]:
        return side
    if side != "both":
        raise InputError(f"side is {side!r} but skew_normal_side_code is {code} ({by_code[code]}). Give one of the two.", "side")
    return by_code[code]  # type: ignore[return-value]
