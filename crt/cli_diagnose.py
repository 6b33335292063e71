"""diagnose-null."""

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from crt.diagnostics import diagnose_null
from crt.inputs import prepare_crt_inputs
from crt.ntc import compute_ntc_group_null_pvals_parallel
from crt.ntc_groups import make_ntc_groups_ensemble
from crt.report import text_lines, write_diagnostics
from crt.run import checked_genes, make_settings
from data_prep.console import run
from data_prep.errors import InputError
from data_prep.files import writable_folder
from data_prep.synthetic_usage import make_sceptre_style_synth

NULL_GROUPS = 5  # groups whose resamples make the null curve


def diagnose_null_command(
    out: Annotated[Path, typer.Option(help="folder for the tables, the summary and the figures")],
    h5ad: Annotated[Path | None, typer.Option(help="the screen: .h5ad, .h5mu or .zarr")] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="draw a high-MOI screen without effects instead")] = False,
    cells: Annotated[int, typer.Option(help="--simulate: cells")] = 50_000,
    programs: Annotated[int, typer.Option(help="--simulate: programs")] = 70,
    genes: Annotated[int, typer.Option(help="--simulate: genes, of six guides each")] = 300,
    confounding: Annotated[float, typer.Option(help="--simulate: strength of confounding")] = 0.0,
    usage_key: Annotated[str, typer.Option(help="program usage, in obsm or layers")] = "cnmf_usage",
    covar_key: Annotated[str, typer.Option(help="covariates, in obsm")] = "covar",
    guide_assignment_key: Annotated[str, typer.Option(help="guides, in obsm, layers or a modality")] = "guide_assignment",
    guide2gene_key: Annotated[str, typer.Option(help="guide → gene map, in uns")] = "guide2gene",
    batch_key: Annotated[str, typer.Option(help="batch column of the covariate table")] = "batch",
    transform: Annotated[Literal["clr", "none"], typer.Option(help="clr for usage; none takes any outcome as it is")] = "clr",
    targets: Annotated[str | None, typer.Option(help="genes to test, joined by commas; all by default")] = None,
    group_size: Annotated[int, typer.Option(help="NTC guides in a group: the number of guides that genes have")] = 6,
    n_ensemble: Annotated[int, typer.Option(help="random partitions of the NTC guides")] = 10,
    max_groups: Annotated[int | None, typer.Option(help="groups in a partition; as many as the guides make by default")] = None,
    program: Annotated[int, typer.Option(help="number of the program whose null is described unit by unit")] = 0,
    n_resamples: Annotated[int, typer.Option(help="resamples of each unit")] = 1023,
    resampling_method: Annotated[Literal["bernoulli_index", "stratified_perm"], typer.Option(help="the sampler")] = "bernoulli_index",
    stratify_by_batch: Annotated[bool, typer.Option(help="stratified_perm: batches are strata")] = True,
    n_bins: Annotated[int, typer.Option(help="stratified_perm: propensity bins")] = 20,
    burden_key: Annotated[str | None, typer.Option(help="stratified_perm: covariate to bin as well")] = None,
    n_burden_bins: Annotated[int, typer.Option(help="stratified_perm: bins of that covariate")] = 8,
    control_group: Annotated[Literal["complement", "ntc_cells"], typer.Option(help="complement at high MOI, ntc_cells at low MOI")] = "complement",
    side: Annotated[Literal["both", "left", "right"], typer.Option(help="of the tests")] = "both",
    propensity_mode: Annotated[Literal["fit", "oracle_const"], typer.Option(help="fit, or the treated share for every cell")] = "fit",
    n_jobs: Annotated[int, typer.Option(help="worker threads; results do not depend on it")] = 1,
    seed: Annotated[int, typer.Option(help="of the run; the seeds of grouping and resampling come from it")] = 0,
) -> None:
    """Tell whether the null of a screen is right, by genes and NTC groups, and if not, which of the causes A-D it is."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    kwargs: dict[str, Any] = {}
    if resampling_method == "stratified_perm":
        kwargs = {"n_bins": n_bins, "stratify_by_batch": stratify_by_batch, "batch_key": batch_key, "burden_key": burden_key, "n_burden_bins": n_burden_bins}
    elif burden_key is not None:
        raise InputError("--burden-key is an option of --resampling-method stratified_perm; bernoulli_index has no strata.")
    if (h5ad is None) != simulate:
        raise InputError("give one of --h5ad FILE and --simulate.")
    writable_folder(out)
    screen: Any = h5ad
    if simulate:
        screen = make_sceptre_style_synth(N=cells, K=programs, n_target_genes=genes, effect_size=0.0, confound_strength=confounding, seed=seed)
    inputs = prepare_crt_inputs(
        screen,
        usage_key=usage_key,
        covar_key=covar_key,
        guide_assignment_key=guide_assignment_key,
        guide2gene_key=guide2gene_key,
        batch_key=batch_key,
        transform=transform,
        control_group=control_group,
    )
    options: dict[str, Any] = {"resampling_method": resampling_method, "resampling_kwargs": kwargs, "side": side, "propensity_mode": propensity_mode}
    found = diagnose_null(
        inputs,
        make_settings(B=n_resamples, base_seed=seed, skew_normal=True, adaptive=False, **options),
        genes=checked_genes(None if targets is None else [name.strip() for name in targets.split(",") if name.strip()], inputs),
        group_size=group_size,
        n_ensemble=n_ensemble,
        max_groups=max_groups,
        program=program,
        n_jobs=n_jobs,
    )
    groups = make_ntc_groups_ensemble(inputs, n_ensemble=1, seed0=found.summary["seed_groups"], group_size=group_size, max_groups=NULL_GROUPS)[0]
    null = compute_ntc_group_null_pvals_parallel(inputs, groups, group_size=group_size, B=n_resamples, n_jobs=n_jobs, base_seed=seed, **options)
    write_diagnostics(out, found, null=null if np.isfinite(null).any() else None)
    print("\n".join(text_lines(found)))


def main() -> None:
    """diagnose-null."""
    run(diagnose_null_command)
