"""run-crt."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import first_few
from fatescreen.cli.command import Command
from fatescreen.cli.console import Console
from fatescreen.cli.storage import on_device, places
from fatescreen.options.run_crt import RunCRTOptions
from fatescreen.runs.folder import run_folder

if TYPE_CHECKING:
    import pandas as pd

    from crt.hits.guides import GuideTests
    from crt.inputs import CRTInputs
    from crt.null.diagnostics import NullDiagnostics
    from crt.results import CRTResult

log = logging.getLogger(__name__)


def run_crt(options: RunCRTOptions, console: Console) -> None:
    """Read, test, and write the tables and the report."""
    from crt.hits.positive_controls import power_check
    from crt.prepare import prepare_crt_inputs
    from crt.run import run_all_genes_union_crt
    from fatescreen.report.crt_report import crt_report
    from fatescreen.runs.null_files import write_diagnostics
    from fatescreen.runs.tables import write_table

    with run_folder(options.out, console.command) as folder, places(folder.path, memory=options.memory, scheduler=options.scheduler) as choose:
        with console.step("reading"):
            inputs = prepare_crt_inputs(options.screen, place=on_device(choose, options.device), **options.reading())
            known = _controls(inputs, options)
        if inputs.n_several:
            log.info("%s cells carry guides of several genes and are left out (--multiple-guides keep tests them)", f"{inputs.n_several:,}")
        log.info("%s cells, %d programs, %d genes; MOI %.2f", f"{inputs.all_cells.size:,}", len(inputs.program_names), len(inputs.genes), inputs.moi)
        calibration = None
        if options.check_calibration:
            with console.step("calibration"):
                calibration = _calibration(inputs, options, progress=console.progress)
        with console.step("testing"):
            result = run_all_genes_union_crt(
                inputs,
                genes=options.targets,
                n_jobs=options.n_jobs,
                out_dir=folder.path,
                resume=options.resume,
                progress=console.progress,
                **options.testing(),
            )
        with console.step("hits"):
            result, guides = _further(inputs, result, options, calibration)
            controls = None if known is None else power_check(result, known)
        record = console.record(options, **crt_record(inputs, result), **checks_record(calibration, controls))
        tables = {"crt_results": result.table, "pvals": result.pvals_df, "betas": result.betas_df}
        if guides is not None:
            tables |= {"crt_guides": guides.guides, "crt_hits": guides.hits}

        if controls is not None:
            tables["crt_positive_controls"] = controls

        def write(to: Path) -> None:
            if calibration is not None:
                write_diagnostics(to, calibration)
            for name, frame in tables.items():
                write_table(frame, to / f"{name}.csv", index=name in ("pvals", "betas"))

        def report(record: Mapping[str, Any]) -> str:
            return crt_report(inputs=inputs, result=result, record=record, guides=guides, calibration=calibration, controls=controls)

        with console.step("writing"):
            folder.publish(write, record, report=report if options.report else None)
    _log_summary(options.out, result)
    if controls is not None:
        log.info("positive controls: %d of %d are discoveries", int(controls["found"].sum()), len(controls))
    if calibration is not None:
        log.info("%s", "\n".join(calibration.verdict.lines()))


def _controls(inputs: CRTInputs, options: RunCRTOptions) -> pd.DataFrame | None:
    """The positive controls, checked before any test."""
    from crt.hits.positive_controls import checked_controls
    from crt.run import checked_genes, units_of
    from fatescreen.runs.tables import read_table

    if options.positive_controls is None:
        return None
    units = units_of(checked_genes(options.targets, inputs), inputs, options.unit)
    return checked_controls(read_table(options.positive_controls), list(units), inputs.program_names)


def _calibration(inputs: CRTInputs, options: RunCRTOptions, *, progress: bool) -> NullDiagnostics:
    """The diagnosis of the null with the settings of the run."""
    from crt.null.diagnostics import diagnose_null
    from crt.run import checked_genes, units_of
    from crt.settings import settings_of

    units = units_of(checked_genes(options.targets, inputs), inputs, options.unit)
    return diagnose_null(
        inputs if options.unit == "gene" else replace(inputs, gene_to_cols=units),  # each guide as a gene
        settings_of(options.further()),
        genes=list(units),
        n_jobs=options.n_jobs,
        progress=progress,
    )


def _further(inputs: CRTInputs, result: CRTResult, options: RunCRTOptions, calibration: NullDiagnostics | None) -> tuple[CRTResult, GuideTests | None]:
    """The result with detectable effects, p-values relative to NTC groups and centred effects, and the tests of guides, as far as they are wanted."""
    from crt.hits.centred import centred_effects
    from crt.hits.guides import guide_tests
    from crt.hits.power import detectable_effects
    from crt.null.ntc_pvalues import ntc_pvalues, too_few_groups

    result = replace(result, table=result.table.assign(mde80=detectable_effects(inputs, result)))
    if calibration is not None and not too_few_groups(calibration):
        result = replace(result, table=result.table.join(ntc_pvalues(result, calibration)))
    if options.unit == "guide":
        return result, None
    if options.transform == "clr" and options.centred:
        centred = centred_effects(inputs, result, n_jobs=options.n_jobs, **options.further())
        result = replace(result, table=result.table.assign(beta_centred=centred["beta_centred"], p_centred=centred["p_centred"]))
    return result, guide_tests(inputs, result, n_jobs=options.n_jobs, **options.further()) if options.guides_alone else None


def crt_record(inputs: CRTInputs, result: CRTResult) -> dict[str, Any]:
    """Facts of a run for `run.json`."""
    units = result.treated_df
    return {
        "cells": inputs.all_cells.size,
        "cells_with_several_genes": inputs.n_several,
        "programs": len(inputs.program_names),
        "design": list(inputs.covar_names),
        "moi": inputs.moi,
        "settings": dict(result.settings),
        "targets": len(units),
        "undefined": units["reason"][units["reason"] != ""].to_dict(),
        "resamples": {str(k): int(v) for k, v in units["n_resamples"].value_counts().sort_index().items()},
        "resampled": int(units["n_resampled"].sum()),
        "undefined_resamples": int(units["n_undefined"].sum()),
        "skew_normal_fallbacks": int(units["n_skew_fallback"].sum()),
        "propensity_not_converged": list(units.index[~units["propensity_converged"]]),
        "propensity_separated": list(units.index[units["propensity_separated"]]),
        "units": json.loads(units.reset_index().to_json(orient="records", double_precision=10)),
    }


def checks_record(calibration: NullDiagnostics | None, controls: pd.DataFrame | None) -> dict[str, Any]:
    """Facts of the checks on NTC groups and on positive controls."""
    from crt.null.ntc_pvalues import too_few_groups

    record: dict[str, Any] = {}
    if calibration is not None:
        record |= {"verdict": calibration.summary["verdict"], "p_ntc": too_few_groups(calibration) or "computed"}
    if controls is not None:
        record["positive_controls"] = {"given": len(controls), "found": int(controls["found"].sum())}
    return record


def _log_summary(out: Path, result: CRTResult) -> None:
    import pandas as pd

    from crt.results import strongest_first

    table = result.table
    defined = table["p_adj"].notna()
    found = int((table["p_adj"] < 0.1).sum())
    log.info("%s: %d targets, %s tests, %d at a 10 %% false discovery rate", out / "crt_results.csv", len(result.treated_df), f"{int(defined.sum()):,}", found)
    undefined = result.treated_df["reason"][lambda reason: reason != ""]
    for reason, names in undefined.groupby(undefined).groups.items():
        log.info("not tested (%s): %s", reason, first_few(names))
    top = strongest_first(table[defined]).head(10)
    with pd.option_context("display.width", 160):
        log.info("%s", top[["target", "program", "beta", "se", "z", "p", "p_adj", "n_treated"]].to_string(index=False, float_format="%.3g"))


main = Command("run-crt", RunCRTOptions, run_crt)
