"""run-crt."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import typer

from crt.inputs import prepare_crt_inputs
from crt.results import CRTResult
from crt.run import run_all_genes_union_crt
from data_prep.console import run
from data_prep.errors import InputError
from data_prep.files import atomic, write_text


def run_crt(
    screen: Annotated[Path, typer.Argument(help="the screen: .h5ad, .h5mu or .zarr")],
    out: Annotated[Path, typer.Option(help="folder for crt_results.csv, pvals.csv, betas.csv, run.json, and finished targets")],
    usage_key: Annotated[str, typer.Option(help="program usage, in obsm or layers")] = "cnmf_usage",
    covar_key: Annotated[str, typer.Option(help="covariates, in obsm")] = "covar",
    guide_assignment_key: Annotated[str, typer.Option(help="guides, in obsm, layers or a modality")] = "guide_assignment",
    guide2gene_key: Annotated[str, typer.Option(help="guide → gene map, in uns")] = "guide2gene",
    batch_key: Annotated[str, typer.Option(help="batch column of the covariate table")] = "batch",
    transform: Annotated[Literal["clr", "none"], typer.Option(help="clr for usage; none takes any outcome as it is")] = "clr",
    targets: Annotated[str | None, typer.Option(help="genes to test, joined by commas; all by default")] = None,
    n_resamples: Annotated[int, typer.Option(help="resamples of each target")] = 1023,
    adaptive: Annotated[bool, typer.Option("--adaptive", help="draw more (4,999, then 24,999) where p is small")] = False,
    resampling_method: Annotated[Literal["bernoulli_index", "stratified_perm"], typer.Option(help="the sampler")] = "bernoulli_index",
    stratify_by_batch: Annotated[bool, typer.Option(help="stratified_perm: batches are strata")] = True,
    n_bins: Annotated[int, typer.Option(help="stratified_perm: propensity bins")] = 20,
    burden_key: Annotated[str | None, typer.Option(help="stratified_perm: covariate to bin as well")] = None,
    n_burden_bins: Annotated[int, typer.Option(help="stratified_perm: bins of that covariate")] = 8,
    control_group: Annotated[Literal["complement", "ntc_cells"], typer.Option(help="complement at high MOI, ntc_cells at low MOI")] = "complement",
    skew_normal: Annotated[bool, typer.Option("--skew-normal", help="skew-normal p-values")] = False,
    side: Annotated[Literal["both", "left", "right"], typer.Option(help="of the tests")] = "both",
    propensity_mode: Annotated[Literal["fit", "oracle_const"], typer.Option(help="fit, or the treated share for every cell")] = "fit",
    n_jobs: Annotated[int, typer.Option(help="worker threads; results do not depend on it")] = 1,
    seed: Annotated[int, typer.Option(help="of the run")] = 123,
    resume: Annotated[bool, typer.Option(help="continue from the finished targets in the folder")] = True,
) -> None:
    """Test which target genes shift which programs, by conditional randomization."""
    kwargs: dict[str, Any] = {}
    if resampling_method == "stratified_perm":
        kwargs = {"n_bins": n_bins, "stratify_by_batch": stratify_by_batch, "batch_key": batch_key, "burden_key": burden_key, "n_burden_bins": n_burden_bins}
    elif burden_key is not None:
        raise InputError("--burden-key is an option of --resampling-method stratified_perm; bernoulli_index has no strata.")
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
    result = run_all_genes_union_crt(
        inputs,
        genes=None if targets is None else [name.strip() for name in targets.split(",") if name.strip()],
        B=n_resamples,
        n_jobs=n_jobs,
        base_seed=seed,
        resampling_method=resampling_method,
        resampling_kwargs=kwargs,
        calibrate_skew_normal=skew_normal,
        side=side,
        propensity_mode=propensity_mode,
        adaptive=adaptive,
        out_dir=out,
        resume=resume,
        progress=True,
    )
    write_tables(out, result, screen=str(screen), sizes={"cells": inputs.all_cells.size, "programs": len(inputs.program_names), "moi": inputs.moi})
    _say(out, result)


def write_tables(out: Path, result: CRTResult, *, screen: str, sizes: dict[str, Any]) -> None:
    """crt_results.csv, pvals.csv, betas.csv and run.json, each whole or not there."""
    for name, frame, index in (("crt_results", result.table, False), ("pvals", result.pvals_df, True), ("betas", result.betas_df, True)):
        with atomic(out / f"{name}.csv") as path:
            frame.to_csv(path, index=index, float_format="%.10g")
    units = result.treated_df
    record = {
        "screen": screen,
        **sizes,
        "settings": dict(result.settings),
        "targets": len(units),
        "undefined": units["reason"][units["reason"] != ""].to_dict(),
        "resamples": {str(k): int(v) for k, v in units["n_resamples"].value_counts().sort_index().items()},
        "undefined_resamples": int(units["n_undefined"].sum()),
        "skew_normal_fallbacks": int(units["n_skew_fallback"].sum()),
        "propensity_not_converged": list(units.index[~units["propensity_converged"]]),
        "propensity_separated": list(units.index[units["propensity_separated"]]),
        "units": json.loads(units.reset_index().to_json(orient="records", double_precision=10)),
    }
    write_text(out / "run.json", json.dumps(record, indent=1) + "\n")


def _say(out: Path, result: CRTResult) -> None:
    table = result.table
    defined = table["p_adj"].notna()
    found = int((table["p_adj"] < 0.1).sum())
    print(f"{out / 'crt_results.csv'}: {len(result.treated_df)} targets, {int(defined.sum()):,} tests, {found} at a 10 % false discovery rate")
    undefined = result.treated_df["reason"][lambda reason: reason != ""]
    for reason, names in undefined.groupby(undefined).groups.items():
        print(f"not tested ({reason}): {', '.join(map(str, names[:5]))}{' …' if len(names) > 5 else ''}")
    top = table[defined].sort_values("log10_p", kind="stable").head(10)
    with pd.option_context("display.width", 160):
        print(top[["target", "program", "beta", "z", "p_raw", "p_skew", "p_adj", "n_treated"]].to_string(index=False, float_format="%.3g"))


def main_run() -> None:
    """run-crt."""
    run(run_crt)
