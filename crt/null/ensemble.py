"""p-values of NTC groups: the null that observed p-values are held against."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crt.engine import T, UnitResult, UnitSettings, all_units, run_unit
from crt.inputs import CRTInputs
from crt.null.groups import Groups, check_groups
from crt.propensity import Propensity
from crt.pvalues import Side, leave_one_out_pvalues
from crt.run import Method, make_settings, one_side
from crt.statistic import NullDraws


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
    """Empirical p-values of NTC groups, which are tested as genes are, in one run over all members.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    ensemble
        Of `make_ntc_groups_ensemble`.
    group_size
        Guides in a group; a group of another size is an error.
    B
        Resamples.
    n_jobs
        Worker threads; nothing depends on it.
    base_seed
        A group's stream is a function of it and the group's name only.
    resampling_method
        The sampler, as in `run_all_genes_union_crt`.
    resampling_kwargs
        Its options.
    side
        "both", "left" or "right".
    skew_normal_side_code
        The same as 0, −1 or 1.
    propensity_mode
        "fit", "oracle_const", or a function.
    adaptive
        Draw more where the smallest p is near its floor.

    Returns
    -------
    pandas.DataFrame
        One row a group, indexed by (ensemble, group), one column a program.

    Raises
    ------
    InputError
        On unknown options, or groups of another size.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import crt_pvals_for_ntc_groups_ensemble, make_ntc_groups_ensemble
    >>> ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=2, group_size=2, max_groups=3)
    >>> crt_pvals_for_ntc_groups_ensemble(inputs, ensemble, group_size=2, B=255).round(2)
                         program_0  program_1  program_2  program_3
    ensemble group
    0        ntc_00_000       0.75       0.12       0.21       0.88
             ntc_00_001       0.85       0.77       0.16       0.22
             ntc_00_002       0.98       0.32       0.54       0.61
    1        ntc_01_000       0.46       0.67       0.82       0.30
             ntc_01_001       0.25       0.37       0.99       0.83
             ntc_01_002       0.93       0.16       0.73       0.41
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
    """Skew-normal p-values of NTC groups, from the same draws as `crt_pvals_for_ntc_groups_ensemble`.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    ensemble
        Of `make_ntc_groups_ensemble`.
    group_size
        Guides in a group; a group of another size is an error.
    B
        Resamples.
    n_jobs
        Worker threads; nothing depends on it.
    base_seed
        A group's stream is a function of it and the group's name only.
    resampling_method
        The sampler, as in `run_all_genes_union_crt`.
    resampling_kwargs
        Its options.
    side
        "both", "left" or "right".
    skew_normal_side_code
        The same as 0, −1 or 1.
    propensity_mode
        "fit", "oracle_const", or a function.
    adaptive
        Draw more where the smallest p is near its floor.

    Returns
    -------
    pandas.DataFrame
        One row a group, indexed by (ensemble, group), one column a program.

    Raises
    ------
    InputError
        On unknown options, or groups of another size.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import crt_pvals_for_ntc_groups_ensemble_skew, make_ntc_groups_ensemble
    >>> ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=2, group_size=2, max_groups=3)
    >>> crt_pvals_for_ntc_groups_ensemble_skew(inputs, ensemble, group_size=2, B=255).shape
    (6, 4)
    """
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
    """Leave-one-out p-values of the resamples themselves, for the null curve of a QQ figure.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    groups
        One partition, a member of the ensemble.
    group_size
        Guides in a group; a group of another size is an error.
    B
        Resamples.
    n_jobs
        Worker threads; nothing depends on it.
    base_seed
        A group's stream is a function of it and the group's name only.
    resampling_method
        The sampler, as in `run_all_genes_union_crt`.
    resampling_kwargs
        Its options.
    side
        "both", "left" or "right".
    skew_normal_side_code
        The same as 0, −1 or 1.
    propensity_mode
        "fit", "oracle_const", or a function.

    Returns
    -------
    numpy.ndarray
        float32 (groups, B, K), NaN where undefined. With 50 groups, 70 programs and B = 1023 it takes 14 MB.

    Raises
    ------
    InputError
        On unknown options, or groups of another size.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import compute_ntc_group_null_pvals_parallel, make_ntc_groups_ensemble
    >>> groups = make_ntc_groups_ensemble(inputs, n_ensemble=1, group_size=2, max_groups=3)[0]
    >>> p = compute_ntc_group_null_pvals_parallel(inputs, groups, group_size=2, B=255)
    >>> p.shape, round(float((p <= 0.05).mean()), 2)
    ((3, 255, 4), 0.05)
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
    test: Callable[..., T], inputs: CRTInputs, ensemble: Sequence[Groups], settings: UnitSettings, *, group_size: int, n_jobs: int = 1, bar: str = ""
) -> list[T]:
    """Every group of every member through one run, in their order; `test` and `bar` are as in `all_units`, and what it gives has a `name`."""
    check_groups(ensemble, group_size)
    columns = {name: cols for groups in ensemble for name, cols in groups.items()}
    return all_units(test, list(columns), lambda name: inputs.treated(columns[name]), inputs, settings, n_jobs=n_jobs, bar=bar)


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
