"""p-values of NTC groups, with which the p-values of genes are compared."""

from collections.abc import Callable, Sequence
from typing import Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float32

from crt.engine import T, TestedUnit, UnitResult, all_units
from crt.inputs import CRTInputs
from crt.null.groups import Groups, check_groups
from crt.pvalues import leave_one_out_pvalues
from crt.run import run_all_genes_union_crt
from crt.settings import GROUP_SIZE, AdaptiveOptions, MethodOptions, UnitOptions, UnitSettings, settings_of
from crt.signatures import shared_options
from crt.tails.saddlepoint import cauchy_combination


class GroupOptions(UnitOptions, total=False):
    """The options of functions that test NTC groups, as `crt_pvals_for_ntc_groups_ensemble` defines them."""

    group_size: int
    n_jobs: int


class EnsembleOptions(GroupOptions, AdaptiveOptions, total=False):
    """`GroupOptions` of functions that can draw in stages."""


@shared_options(MethodOptions, run_all_genes_union_crt)
def crt_pvals_for_ntc_groups_ensemble(
    inputs: CRTInputs, ensemble: Sequence[Groups], *, group_size: int = GROUP_SIZE, n_jobs: int = 1, **options: Unpack[MethodOptions]
) -> pd.DataFrame:
    """p-values of NTC groups by the method of the run, which are tested as genes are, all partitions in one run.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    ensemble
        Partitions of the NTC guides, from `make_ntc_groups_ensemble`.
    group_size
        Number of guides per group; a group of another size is an error.
    n_jobs
        Number of worker threads. Results do not depend on it.
    **options
        Those of `run_all_genes_union_crt`.

    Returns
    -------
    pandas.DataFrame
        One row per group, indexed by (ensemble, group), and one column per program.

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
    0        ntc_00_000       0.74       0.18       0.23       0.91
             ntc_00_001       0.84       0.75       0.13       0.21
             ntc_00_002       0.98       0.31       0.53       0.59
    1        ntc_01_000       0.45       0.59       0.79       0.35
             ntc_01_001       0.27       0.38       0.96       0.81
             ntc_01_002       0.91       0.17       0.69       0.41
    """
    found = ntc_group_results(inputs, ensemble, settings_of(options), group_size=group_size, keep=lambda unit: unit.result, n_jobs=n_jobs)
    return pvalue_table(found, ensemble, inputs, "p")


@shared_options(EnsembleOptions, crt_pvals_for_ntc_groups_ensemble)
def crt_pvals_for_ntc_groups_ensemble_skew(inputs: CRTInputs, ensemble: Sequence[Groups], **options: Unpack[EnsembleOptions]) -> pd.DataFrame:
    """Skew-normal p-values of NTC groups, from the same draws as `crt_pvals_for_ntc_groups_ensemble`.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    ensemble
        Partitions of the NTC guides, from `make_ntc_groups_ensemble`.
    **options
        Those of `crt_pvals_for_ntc_groups_ensemble`.

    Returns
    -------
    pandas.DataFrame
        One row per group, indexed by (ensemble, group), and one column per program.

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
    settings = settings_of(options, skew_normal=True)
    size, n_jobs = options["group_size"], options["n_jobs"]
    found = ntc_group_results(inputs, ensemble, settings, group_size=size, keep=lambda unit: unit.result, n_jobs=n_jobs)
    return pvalue_table(found, ensemble, inputs, "p_skew")


@shared_options(GroupOptions, crt_pvals_for_ntc_groups_ensemble)
def compute_ntc_group_null_pvals_parallel(
    inputs: CRTInputs, groups: Groups, **options: Unpack[GroupOptions]
) -> Float32[np.ndarray, "groups resamples programs"]:
    """Leave-one-out p-values of the resamples of NTC groups, for the null curve of a QQ plot.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    groups
        One partition of the NTC guides, a member of the ensemble.
    **options
        Those of `crt_pvals_for_ntc_groups_ensemble`.

    Returns
    -------
    numpy.ndarray
        float32 (groups, B, programs), NaN where undefined; 14 MB for 50 groups, 70 programs and B = 1023.

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
    settings, size, n_jobs = settings_of(options), options["group_size"], options["n_jobs"]

    def leave_one_out(unit: TestedUnit) -> np.ndarray:
        out = np.full((settings.n_resamples, len(inputs.program_names)), np.nan, np.float32)
        if not unit.draws.reason:
            p = leave_one_out_pvalues(unit.draws.null, side=settings.side)
            out[:] = p if settings.statistic != "cauchy" else np.exp(cauchy_combination(np.log(p).reshape(len(p), 2, -1).swapaxes(0, 1)))
        return out

    return np.stack(ntc_group_results(inputs, [groups], settings, group_size=size, keep=leave_one_out, n_jobs=n_jobs))


def ntc_group_results(
    inputs: CRTInputs,
    ensemble: Sequence[Groups],
    settings: UnitSettings,
    *,
    group_size: int,
    keep: Callable[[TestedUnit], T],
    n_jobs: int = 1,
    bar: str = "",
) -> list[T]:
    """Test the groups of all partitions in one run; what is kept of each, in their order.

    Parameters
    ----------
    inputs
        Screen.
    ensemble
        Partitions of the NTC guides.
    settings
        Settings of the test.
    group_size
        Number of guides per group.
    keep
        What to keep of a tested group.
    n_jobs
        Number of worker threads.
    bar
        What the progress bar counts; no bar if empty.
    """
    check_groups(ensemble, group_size)
    units = {name: columns for groups in ensemble for name, columns in groups.items()}
    return all_units(units, inputs, settings, keep=keep, n_jobs=n_jobs, bar=bar)


def pvalue_table(units: Sequence[UnitResult], ensemble: Sequence[Groups], inputs: CRTInputs, which: str) -> pd.DataFrame:
    """The p-values `which` ("p", "p_raw" or "p_skew") of all groups, (groups of all partitions) × programs.

    Parameters
    ----------
    units
        Results of the groups, partition by partition.
    ensemble
        Partitions of the NTC guides.
    inputs
        Screen.
    which
        Attribute of the results.
    """
    index = pd.MultiIndex.from_tuples([(m, name) for m, groups in enumerate(ensemble) for name in groups], names=["ensemble", "group"])
    return pd.DataFrame(np.array([getattr(u, which) for u in units]), index, pd.Index(inputs.program_names, dtype=object))
