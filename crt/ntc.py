"""p-values of NTC groups: the null that observed p-values are held against."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crt.engine import T, UnitResult, UnitSettings, each_unit, run_unit
from crt.inputs import CRTInputs
from crt.ntc_groups import Groups, check_groups
from crt.propensity import Propensity
from crt.pvalues import Side, leave_one_out_pvalues
from crt.run import Method, make_settings, one_side
from crt.statistics import NullDraws


def crt_pvals_for_ntc_groups_ensemble(
    inputs: CRTInputs,
    ensemble: Sequence[Groups],
    *,
    group_size: int = 6,
    B: int = 1023,
    n_jobs: int = 1,
    base_seed: int = 123,
    resampling_method: Method = "bernoulli_index",
    resampling_kwargs: Mapping[str, Any] | None = None,
    side: Side = "both",
    skew_normal_side_code: int = 0,
    propensity_mode: Propensity = "fit",
    adaptive: bool = False,
) -> pd.DataFrame:
    """Empirical p-values of the groups: one row a group, indexed by (ensemble, group), one column a program.

    Groups are tested as genes are, in one run over all members; the options and their defaults are those of `run_all_genes_union_crt`.
    """
    side = one_side(side, skew_normal_side_code)
    settings = make_settings(
        B=B,
        base_seed=base_seed,
        resampling_method=resampling_method,
        resampling_kwargs=resampling_kwargs,
        skew_normal=False,
        side=side,
        propensity_mode=propensity_mode,
        adaptive=adaptive,
    )
    units = ntc_group_results(run_unit, inputs, ensemble, settings, group_size=group_size, n_jobs=n_jobs)
    return pvalue_table(units, ensemble, inputs, "p_raw")


def crt_pvals_for_ntc_groups_ensemble_skew(
    inputs: CRTInputs,
    ensemble: Sequence[Groups],
    *,
    group_size: int = 6,
    B: int = 1023,
    n_jobs: int = 1,
    base_seed: int = 123,
    resampling_method: Method = "bernoulli_index",
    resampling_kwargs: Mapping[str, Any] | None = None,
    side: Side = "both",
    skew_normal_side_code: int = 0,
    propensity_mode: Propensity = "fit",
    adaptive: bool = False,
) -> pd.DataFrame:
    """Skew-normal p-values of the groups, from the same draws: see `crt_pvals_for_ntc_groups_ensemble`."""
    side = one_side(side, skew_normal_side_code)
    settings = make_settings(
        B=B,
        base_seed=base_seed,
        resampling_method=resampling_method,
        resampling_kwargs=resampling_kwargs,
        skew_normal=True,
        side=side,
        propensity_mode=propensity_mode,
        adaptive=adaptive,
    )
    units = ntc_group_results(run_unit, inputs, ensemble, settings, group_size=group_size, n_jobs=n_jobs)
    return pvalue_table(units, ensemble, inputs, "p_skew")


def compute_ntc_group_null_pvals_parallel(
    inputs: CRTInputs,
    groups: Groups,
    *,
    group_size: int = 6,
    B: int = 1023,
    n_jobs: int = 1,
    base_seed: int = 123,
    resampling_method: Method = "bernoulli_index",
    resampling_kwargs: Mapping[str, Any] | None = None,
    side: Side = "both",
    skew_normal_side_code: int = 0,
    propensity_mode: Propensity = "fit",
) -> np.ndarray:
    """Leave-one-out p-values of the resamples themselves, float32 (groups, B, K), for the null curve; NaN where undefined.

    Takes one partition, a member of the ensemble: with 50 groups, 70 programs and B = 1023 the result is 14 MB. The
    options are those of `run_all_genes_union_crt`, without `adaptive`.
    """
    settings = make_settings(
        B=B,
        base_seed=base_seed,
        resampling_method=resampling_method,
        resampling_kwargs=resampling_kwargs,
        skew_normal=False,
        side=one_side(side, skew_normal_side_code),
        propensity_mode=propensity_mode,
        adaptive=False,
    )
    found = ntc_group_results(_leave_one_out, inputs, [groups], settings, group_size=group_size, n_jobs=n_jobs)
    return np.stack([one.p for one in found])


def ntc_group_results(
    test: Callable[..., T], inputs: CRTInputs, ensemble: Sequence[Groups], settings: UnitSettings, *, group_size: int, n_jobs: int = 1
) -> list[T]:
    """Every group of every member through one run, in their order; `test` is as in `each_unit` and gives something with a `name`."""
    check_groups(ensemble, group_size)
    columns = {name: cols for groups in ensemble for name, cols in groups.items()}
    found: dict[str, T] = {}
    for batch in each_unit(test, list(columns), lambda name: inputs.treated(columns[name]), inputs, settings, n_jobs=n_jobs):
        found.update({one.name: one for one in batch})  # type: ignore[attr-defined]
    return [found[name] for name in columns]


def pvalue_table(units: Sequence[UnitResult], ensemble: Sequence[Groups], inputs: CRTInputs, which: str) -> pd.DataFrame:
    """`which` of each unit, (groups of all members) × programs."""
    index = pd.MultiIndex.from_tuples([(m, name) for m, groups in enumerate(ensemble) for name in groups], names=["ensemble", "group"])
    return pd.DataFrame(np.array([getattr(u, which) for u in units]), index, pd.Index(inputs.program_names, dtype=object))


class _LeaveOneOut(NamedTuple):
    name: str
    p: np.ndarray


def _leave_one_out(name: str, treated: np.ndarray, inputs: CRTInputs, settings: UnitSettings, **shared: Any) -> _LeaveOneOut:
    seen: list[NullDraws] = []
    run_unit(name, treated, inputs, settings, look=seen.append, **shared)
    p = np.full((settings.n_resamples, len(inputs.program_names)), np.nan, np.float32)
    if not seen[0].reason:
        p[:] = leave_one_out_pvalues(seen[0].null, side=settings.side)
    return _LeaveOneOut(name, p)
