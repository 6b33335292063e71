"""The analyses from Python in one call each, with the options of the commands under the same names."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from data_prep.errors import InputError, first_few
from fatescreen.options.call_hits import HitOptions
from fatescreen.options.fit_hierarchy import FitOptions
from fatescreen.options.run_crt import RunCRTOptions

if TYPE_CHECKING:
    from crt.results import CRTResult
    from hierarchy.mash.hits import Hits
    from hierarchy.result import Fit

UNUSED = {"screen": ".", "out": "."}  # of the commands: files that nothing is read from or written to here
OF_FILES = ("screen", "out", "report", "resume", "memory", "scheduler")  # options about the commands' files, and where the cells are
OF_FIT = (*OF_FILES, "contrast_fate", "calibrate_on_ntc", "check", "draws", "save_posterior", "cache")
OF_TEST = (*OF_FILES, "centred", "guides_alone", "check_calibration", "positive_controls")
OF_HITS = ("fit", "out", "report", "truth", "joint")


def fit_screen(source: Any, **options: Any) -> "Fit":
    """Read a screen and fit the hierarchical model, as `fit-hierarchy` does.

    Parameters
    ----------
    source
        AnnData, MuData, or a path to .h5ad, .h5mu or .zarr.
    **options
        Options of `fit-hierarchy`, with "_" in place of "-": ref_fate, guide_key, min_umi, se, seed …; `guides` and `guide_map` may be tables.

    Returns
    -------
    Fit
        The fit, for `hierarchy.summarise`, `call_hits` and `plot`.

    Raises
    ------
    InputError
        On an unknown option, a wrong value or an invalid screen.

    Examples
    --------
    >>> import fatescreen
    >>> adata = fatescreen.simulate_fate_screen(fatescreen.ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> fatescreen.fit_screen(adata, ref_fate="EC").converged
    True
    """
    from data_prep.read.screen import read_screen
    from data_prep.tensors import build_fate_data
    from hierarchy.fitting import choose_device, fit

    tables, plain = _given(options, OF_FIT, "fit_screen")
    checked = FitOptions.of(UNUSED, plain, source="fit_screen")
    reading: dict[str, Any] = {"guides": checked.guides, "guide_map": checked.guide_map, "ntc_labels": checked.ntc_labels, "min_umi": checked.min_umi}
    screen = read_screen(source, keys=checked.keys(), max_guides_per_cell=checked.max_guides_per_cell, **{**reading, **tables})
    data = build_fate_data(screen, ref_fate=checked.ref_fate)
    return fit(data.to(choose_device(checked.device)), settings=checked.settings(), time_scale=checked.time_scale(data.days))


def call_hits(fitted: "Fit", **options: Any) -> "Hits":
    """Rank the genes of a fit by mash, as `call-hits` does.

    Parameters
    ----------
    fitted
        Result of `fit_screen`.
    **options
        Options of `call-hits`, with "_" in place of "-": covariances, null_weight, draws, seed; and contrast_fate, which is "MES" by default.

    Returns
    -------
    Hits
        The ranked genes.

    Raises
    ------
    InputError
        On an unknown option or a wrong value.

    Examples
    --------
    >>> import fatescreen
    >>> adata = fatescreen.simulate_fate_screen(fatescreen.ScreenDesign(n_cells=2000, n_genes=20, n_days=2), seed=0).adata
    >>> fatescreen.call_hits(fatescreen.fit_screen(adata), covariances="canonical").table.shape[0]
    20
    """
    from hierarchy.left_out import hit_estimates
    from hierarchy.mash.hits import call_hits as call

    _, plain = _given(options, OF_HITS, "call_hits")
    checked = HitOptions.of({"fit": "."}, plain, source="call_hits")
    contrasts = checked.contrast_fate or (FitOptions.model_fields["contrast_fate"].default,)
    if len(contrasts) > 1:
        raise InputError(f"contrast_fate names {len(contrasts)} contrasts; call_hits ranks the genes of one. Call it for each.", "contrast_fate")
    estimates = hit_estimates(fitted, contrasts[0])
    return call(estimates, covariances=checked.covariances, null_weight=checked.null_weight, n_draws=checked.draws, seed=checked.seed)


def test_programs(source: Any, **options: Any) -> "CRTResult":
    """Read a screen and test which target genes shift which programs, as `run-crt` does.

    Parameters
    ----------
    source
        AnnData, MuData, or a path to .h5ad, .h5mu or .zarr.
    **options
        Options of `run-crt`, with "_" in place of "-": control_group, targets, outcomes, method, n_resamples, n_jobs …; `usage`, `guides` and `guide_map` may
        be tables.

    Returns
    -------
    CRTResult
        The tables of all targets.

    Raises
    ------
    InputError
        On an unknown option, a wrong value or an invalid screen.

    Examples
    --------
    >>> import fatescreen
    >>> adata = fatescreen.make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1)
    >>> fatescreen.test_programs(adata, targets="GENE4", method="resample", n_resamples=255).pvals_df.shape
    (1, 4)
    """
    from crt.prepare import prepare_crt_inputs
    from crt.run import run_all_genes_union_crt
    from data_prep.blocks.place import MEMORY
    from fatescreen.cli.storage import on_device

    tables, plain = _given(options, OF_TEST, "test_programs")
    checked = RunCRTOptions.of(UNUSED, plain, source="test_programs")
    place = on_device(lambda needs: MEMORY, checked.device)
    inputs = prepare_crt_inputs(source, place=place, **{**checked.reading(), **tables})
    return run_all_genes_union_crt(inputs, genes=checked.targets, n_jobs=checked.n_jobs, **checked.testing())


def _given(options: Mapping[str, Any], of_command: Sequence[str], source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that are tables in memory, and the others; an error for those that only the command uses."""
    if lost := [name for name in options if name in of_command]:
        raise InputError(f"{source}: {first_few(lost)}: only the command has this, for what it writes or does afterwards. Leave it out.")
    tables = {name: value for name, value in options.items() if isinstance(value, pd.DataFrame)}
    return tables, {name: value for name, value in options.items() if name not in tables}
