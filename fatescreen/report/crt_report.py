"""The report on a run of conditional randomization tests."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from crt.hits.guides import GuideTests
from crt.inputs import LOW_MOI, CRTInputs
from crt.null.diagnostics import NullDiagnostics
from crt.results import CRTResult, strongest_first
from crt.resume import inputs_digest
from data_prep.errors import first_few
from fatescreen.report.blocks import Block, Notice, Page
from fatescreen.report.glossary import TEST, glossary_section
from fatescreen.report.inline_svg import page_style
from fatescreen.report.numbers import shown, signed
from fatescreen.report.record import FOOTER, own_settings, settings_section, warnings_of
from fatescreen.report.render import render
from fatescreen.report.sections.crt_calibration import calibration_section
from fatescreen.report.sections.crt_checks import controls_section, ntc_section
from fatescreen.report.sections.crt_guides import guides_section
from fatescreen.report.sections.crt_input import input_section
from fatescreen.report.sections.discoveries import FDR, beta_meaning, results_section
from fatescreen.report.sections.null import NULL_FILES

STATISTICS = {"mean": "test of the mean", "normal_scores": "test of normal scores", "cauchy": "tests of the mean and of normal scores combined"}
CRT_FILES = {
    "crt_results.csv": "one row for each test",
    "crt_guides.csv": "tests of the guides one by one",
    "crt_hits.csv": "hits with the agreement of their guides, and centred effects",
    "crt_positive_controls.csv": "positive controls with their p-values and ranks",
    "pvals.csv": "p-values, targets × programs",
    "betas.csv": "coefficients, targets × programs",
    "run.json": "settings, versions, seed, undefined tests, and one record for each target",
    "finished": "finished targets, from which a later run resumes",
}


@page_style()
def crt_report(
    *,
    inputs: CRTInputs,
    result: CRTResult,
    record: Mapping[str, Any],
    guides: GuideTests | None = None,
    calibration: NullDiagnostics | None = None,
    controls: pd.DataFrame | None = None,
) -> str:
    """The report on a run of conditional randomization tests, as HTML text that needs no other file.

    Parameters
    ----------
    inputs
        Result of `prepare_crt_inputs`.
    result
        Result of `run_all_genes_union_crt`.
    record
        Record of the run with `command`, `options`, `versions` and `warnings`; `files`, if given, are the names of the files in the folder of the page.
    guides
        Result of `guide_tests`, for a section on the guides of hits.
    calibration
        Result of `diagnose_null` with the same settings, for a section on NTC groups.
    controls
        Result of `power_check`, for a section on positive controls.

    Returns
    -------
    str
        The page; save it as UTF-8.

    Examples
    --------
    >>> from crt import crt_report, make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> record = {"command": "notebook", "options": {"B": 255}, "versions": {}, "warnings": []}
    >>> page = crt_report(inputs=inputs, result=run_all_genes_union_crt(inputs, B=255), record=record)
    >>> page.rstrip().endswith("</html>"), len(page) < 5_000_000
    (True, True)
    """
    page = Page(
        run="conditional randomization tests",
        title=f"{len(result.treated_df):,} targets × {len(inputs.program_names):,} programs",
        summary=_summary(inputs, result, record),
        warnings=warnings_of(record),
        sections=[
            input_section(inputs, result.treated_df),
            results_section(result, record),
            *([guides_section(guides)] if guides is not None else []),
            calibration_section(result),
            *([ntc_section(result, calibration)] if calibration is not None else []),
            *([controls_section(result, controls, calibration)] if controls is not None else []),
            settings_section(record, fingerprint=inputs_digest(inputs), files=CRT_FILES | NULL_FILES, also=own_settings(result.settings, record)),
            glossary_section(*TEST),
        ],
        footer=FOOTER,
    )
    return render(page)


def _summary(inputs: CRTInputs, result: CRTResult, record: Mapping[str, Any]) -> list[Block]:
    table, units = result.table, result.treated_df
    tests, hits = int(table["p_adj"].notna().sum()), table[table["p_adj"] < FDR]
    saddlepoint = result.settings.get("method") == "saddlepoint"
    kind = "skew-normal" if result.settings.get("calibrated") else f"saddlepoint ({STATISTICS[result.settings['statistic']]})" if saddlepoint else "empirical"
    lines = [f"{tests:,} tests of {len(units):,} targets on {len(inputs.program_names):,} programs, with {kind} p-values."]
    if len(hits):
        lines.append(_strongest(hits, record))
    lines.append(control_text(inputs))
    for reason, names in units.loc[units["reason"] != ""].groupby("reason").groups.items():
        lines.append(f"Not tested ({reason}): {first_few(names, 8)}.")
    if resampled := int(units["n_resampled"].sum()):
        lines.append(f"The p-values of {resampled:,} tests are empirical, as the saddlepoint approximation is not accurate there.")
    if not result.settings.get("calibrated") and not saddlepoint:
        floor = 1 / (float(units["n_resamples"].max()) + 1) if units["n_resamples"].max() else 1.0
        further = "--skew-normal gives" if result.settings.get("stages") else "--skew-normal or --adaptive give"
        lines.append(f"With this number of resamples, the smallest possible p-value is {floor:.2g}; {further} smaller ones.")
    title = f"{len(hits):,} {'discovery' if len(hits) == 1 else 'discoveries'} at a 10 % false discovery rate"
    title += f", in {hits['target'].nunique():,} of {len(units):,} targets." if len(hits) else "."
    return [Notice(tone="good" if len(hits) else "plain", title=title, text=lines)]


def _strongest(hits: pd.DataFrame, record: Mapping[str, Any]) -> str:
    best = strongest_first(hits).iloc[0]
    beta, p = signed(f"{best['beta']:.2f}"), shown(10.0 ** max(best["log10_p"], -320.0), "p")
    return f"The strongest is {best['target']} on {best['program']}: β = {beta}, p = {p}. β is the {beta_meaning(record)}."


def control_text(inputs: CRTInputs) -> str:
    """Which cells the treated cells are compared with, and whether that suits the MOI of the screen."""
    if inputs.control_group == "ntc_cells":
        out = f"Treated cells are compared with the {inputs.ntc_cells.size:,} cells that carry NTC guides only."
        return out + (f" At this MOI ({inputs.moi:.2f}), --control-group complement would use many more cells." if inputs.moi >= 2 * LOW_MOI else "")
    out = "Treated cells are compared with all cells that carry no guide of the target."
    return out + (" At this low MOI most of them carry another perturbation: use --control-group ntc_cells." if inputs.moi < LOW_MOI else "")
