"""A run of the test, and a diagnosis of its null, as one HTML page each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crt.diagnostics import LEVELS, NullDiagnostics
from crt.inputs import LOW_MOI, CRTInputs
from crt.report_reading import reading_section
from crt.report_tests import FDR, results_section
from crt.results import CRTResult
from crt.store import inputs_digest
from data_prep.errors import first_few
from data_prep.page import Block, Facts, Figures, Heading, Notice, Page, PlainTable, Prose, Section, Table, render
from data_prep.page.blocks import Column
from data_prep.page.charts import p_histogram, qq_figure
from data_prep.page.numbers import shown
from data_prep.page.record import settings_section, warnings_of

CRT_FILES = {
    "crt_results.csv": "one row a test",
    "pvals.csv": "p-values, targets × programs",
    "betas.csv": "coefficients, targets × programs",
    "run.json": "settings, versions, seed, what was undefined, one record a target",
    "finished": "finished targets, from which a later run continues",
}
NULL_FILES = {
    "diagnostics_units.csv": "one row a gene or NTC group: sizes, propensity, moments of the null, p",
    "diagnostics_summary.json": "quantiles, rates with intervals, the verdict with its figures",
    "diagnostics_summary.txt": "the same to read",
    "pvals_real.csv": "empirical p of genes",
    "pvals_real_skew.csv": "skew-normal p of genes",
    "pvals_ntc_raw.csv": "empirical p of NTC groups",
    "pvals_ntc_skew.csv": "skew-normal p of NTC groups",
    "pvals_ntc_oracle_raw.csv": "empirical p of NTC groups with a constant propensity",
    "skew_normal_checks.csv": "NTC tests at random with the law that their p comes from",
    "qq_null.png": "QQ figure of genes and NTC groups",
    "qq_ntc_fit_vs_oracle.png": "QQ figure with the fitted and with a constant propensity",
}
FOOTER = "Numbers in the page have five significant digits; the files beside it have ten."
CURVES = {
    "real_raw": "genes, empirical",
    "real_skew": "genes, skew-normal",
    "ntc_raw": "NTC groups, empirical",
    "ntc_skew": "NTC groups, skew-normal",
    "ntc_oracle_raw": "NTC groups, constant propensity",
}
UNIT_COLUMNS = (
    ("unit_id", "unit", "text", "gene or NTC group"),
    ("unit_type", "type", "text", ""),
    ("guide_count", "guides", "count", ""),
    ("n_treated", "treated", "count", "cells that carry any of its guides"),
    ("n_control", "control", "count", ""),
    ("reason", "undefined because", "text", "nothing where the unit could be tested"),
    ("den_share", "spread left", "share", "share of the spread of treatment that the covariates leave; near 0, treatment is a function of them"),
    ("propensity_auc", "AUC", "share", "how well the propensity tells treated cells from others; 0.5 is not at all, near 1 is separation"),
    ("misfit", "misfit", "z", "Σ (treated − expected)²/variance over bins of the covariates; its degrees of freedom are in diagnostics_units.csv"),
    ("null_nan_frac", "undefined resamples", "share", ""),
    ("z_null_mean", "null mean", "z", "of the described program, in standard errors; near 0"),
    ("z_null_sd", "null SD", "z", "of the described program, in standard errors; near 1"),
    ("z_null_skewness", "null skewness", "z", ""),
    ("pmin_raw", "smallest p", "p", "empirical, over programs"),
)


def crt_report(*, inputs: CRTInputs, result: CRTResult, record: Mapping[str, Any]) -> str:
    """The report of a run of the test, as HTML text that needs no other file.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    result
        Of `run_all_genes_union_crt`.
    record
        `command`, `options`, `versions` and `warnings` of the run; `files`, where given, are the names of the files beside the page.

    Returns
    -------
    str
        The page; write it as UTF-8.

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
        run="conditional randomization test",
        title=f"{len(result.treated_df):,} targets × {len(inputs.program_names):,} programs",
        summary=_test_summary(inputs, result),
        warnings=warnings_of(record),
        sections=[
            reading_section(inputs, result.treated_df),
            results_section(result),
            _test_calibration(result),
            settings_section(record, fingerprint=inputs_digest(inputs), files=CRT_FILES, also=_own_settings(result.settings, record)),
        ],
        footer=FOOTER,
    )
    return render(page)


def null_report(*, inputs: CRTInputs, found: NullDiagnostics, null: np.ndarray | None, record: Mapping[str, Any]) -> str:
    """The report of a diagnosis of the null, as HTML text that needs no other file.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    found
        Of `diagnose_null`.
    null
        p-values of resamples against one another (`compute_ntc_group_null_pvals_parallel`), or None.
    record
        `command`, `options`, `versions` and `warnings` of the run; `files`, where given, are the names of the files beside the page.

    Returns
    -------
    str
        The page; write it as UTF-8.

    Examples
    --------
    >>> from crt import UnitSettings, diagnose_null, make_sceptre_style_synth, null_report, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> found = diagnose_null(inputs, UnitSettings(n_resamples=255), group_size=2, n_ensemble=1)
    >>> record = {"command": "notebook", "options": {"B": 255}, "versions": {}, "warnings": []}
    >>> page = null_report(inputs=inputs, found=found, null=None, record=record)
    >>> page.rstrip().endswith("</html>"), len(page) < 5_000_000
    (True, True)
    """
    genes = found.units[found.units["unit_type"] == "real_gene"].set_index("unit_id")
    page = Page(
        run="diagnosis of the null",
        title="Is the null right?",
        summary=_verdict(found),
        warnings=warnings_of(record),
        sections=[
            reading_section(inputs, genes),
            _null_curves(found, null),
            _units(found),
            settings_section(record, fingerprint=inputs_digest(inputs), files=NULL_FILES, also=_own_settings(found.summary["settings"], record)),
        ],
        footer=FOOTER,
    )
    return render(page)


def _own_settings(settings: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the record's options do not name."""
    options = record.get("options") or {}
    return {name: value for name, value in settings.items() if name not in options}


def control_words(inputs: CRTInputs) -> str:
    """What units are compared with, and whether that suits the screen."""
    if inputs.control_group == "ntc_cells":
        out = f"Treated cells are compared with the {inputs.ntc_cells.size:,} cells whose guides are all NTC."
        return out + (f" At this MOI ({inputs.moi:.2f}) the complement would have far more cells." if inputs.moi >= 2 * LOW_MOI else "")
    out = "Treated cells are compared with all cells that carry no guide of the target."
    return out + (" At this low MOI most of them carry some other perturbation: use --control-group ntc_cells." if inputs.moi < LOW_MOI else "")


def _test_summary(inputs: CRTInputs, result: CRTResult) -> list[Block]:
    table, units = result.table, result.treated_df
    tests, hits = int(table["p_adj"].notna().sum()), table[table["p_adj"] < FDR]
    kind = "skew-normal" if result.settings.get("calibrated") else "empirical"
    lines = [f"{tests:,} tests were made of {len(units):,} targets on {len(inputs.program_names):,} programs, by {kind} p-values."]
    if len(hits):
        best = hits.loc[hits["log10_p"].idxmin()] if hits["log10_p"].notna().any() else hits.loc[hits["p_adj"].idxmin()]
        lines.append(
            f"The strongest is {best['target']} on {best['program']}: β = {best['beta']:+.2f}, p = {shown(10.0 ** max(best['log10_p'], -320.0), 'p')}. "
            "β is the difference of treated cells on the outcome’s own scale, given the covariates."
        )
    lines.append(control_words(inputs))
    for reason, names in units.loc[units["reason"] != ""].groupby("reason").groups.items():
        lines.append(f"Not tested ({reason}): {first_few(names, 8)}.")
    if not result.settings.get("calibrated"):
        floor = 1 / (float(units["n_resamples"].max()) + 1) if units["n_resamples"].max() else 1.0
        lines.append(f"No p can be below {floor:.2g} with so many resamples; --skew-normal or --adaptive reach further.")
    head = f"{len(hits):,} {'discovery' if len(hits) == 1 else 'discoveries'} at a 10 % false discovery rate"
    head += f", in {hits['target'].nunique():,} of {len(units):,} targets." if len(hits) else "."
    return [Notice(tone="good" if len(hits) else "plain", title=head, text=lines)]


def _test_calibration(result: CRTResult) -> Section:
    raw, skew = result.table["p_raw"].to_numpy(float), result.table["p_skew"].to_numpy(float)
    curves = {"empirical": raw} | ({"skew-normal": skew} if np.isfinite(skew).any() else {})
    most = result.treated_df["n_resamples"].max()
    shown_p = skew if np.isfinite(skew).any() and result.settings.get("calibrated") else raw
    figures = [
        qq_figure(
            curves,
            title="QQ of p",
            floor=1 / (float(most) + 1) if most else None,
            caption="All defined tests. The curve should lie in the band and leave it upwards at the right, where the effects are. One that leaves it early, or lies "
            "below it, speaks of a null that is wrong: run diagnose-null.",
        ),
        p_histogram(shown_p, title="Histogram of p", caption="Flat, with a peak at the left made by effects. A peak at the right or a slope throughout is a bad sign."),
    ]
    params = result.treated_df
    words = [
        f"{int((~params['propensity_converged'].astype(bool)).sum()):,} propensity fits did not converge, {int(params['propensity_separated'].astype(bool).sum()):,} "
        f"were separated, and {int(params['n_skew_fallback'].sum()):,} skew-normal p-values fell back to the empirical one."
    ]
    return Section(id="calibration", title="Calibration", blocks=[Figures(items=figures), Prose(text=words)])


def _verdict(found: NullDiagnostics) -> list[Block]:
    verdict = found.verdict
    if not verdict.findings:
        text = verdict.lines()[:-1] + ["“Calibrated” means that nothing was seen with this many groups. Next: run-crt with the same settings."]
        return [Notice(tone="good", title="Calibrated: no cause of a wrong null shows.", text=text)]
    out: list[Block] = []
    for finding in verdict.findings:
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in finding.figures.items())
        name = f"Cause {finding.cause}" if len(finding.cause) == 1 else "Unexplained"
        out.append(Notice(tone="bad", title=f"{name}: {finding.title}.", text=[f"Figures: {figures}.", f"Next step: {finding.next_step}"]))
    return out


def _null_curves(found: NullDiagnostics, null: np.ndarray | None) -> Section:
    members = [rows.to_numpy() for _, rows in found.ntc_raw.groupby(level="ensemble")]
    n = int(np.isfinite(members[0]).sum()) or None if members else None
    floor = 1 / (found.summary["settings"]["n_resamples"] + 1)
    curves = {"genes": found.real_raw, "NTC groups, empirical": found.ntc_raw, "NTC groups, skew-normal": found.ntc_skew}
    curves |= {} if null is None else {"resamples (null)": null}
    fitted = {"fitted propensity": found.ntc_raw, "constant propensity": found.oracle_raw}
    read = "NTC curves should stay in the band (that of one partition). Above it, the test finds what is not there; below it, it misses what is. "
    histograms = {"Genes, empirical": found.real_raw, "NTC groups, empirical": found.ntc_raw, "NTC groups, skew-normal": found.ntc_skew}
    blocks: list[Block] = [
        Figures(
            items=[
                qq_figure(curves, title="Genes and NTC groups", band_n=n, floor=floor, caption=read + "Genes may rise above it at the right."),
                qq_figure(fitted, title="NTC groups by propensity", band_n=n, floor=floor, caption="If the constant one mends the curve, the propensity is at fault."),
            ]
        ),
        Figures(items=[p_histogram(p, title=name, caption="Flat is right; for genes with a peak at the left.") for name, p in histograms.items()]),
        PlainTable(caption="How often p is small, with 95 % intervals as if tests were independent", head=_rate_head(), rows=_rate_rows(found)),
    ]
    return Section(id="calibration", title="Calibration", blocks=blocks)


def _rate_head() -> tuple[str, ...]:
    return ("curve", "tests", "KS distance", *(f"p ≤ {level:g}" for level in LEVELS))


def _rate_rows(found: NullDiagnostics) -> list[tuple[str, ...]]:
    rows = []
    for name, curve in found.summary["curves"].items():
        if curve["tests"]:
            rates = ("{rate:.4f} [{low:.4f}, {high:.4f}]".format(**curve[f"p<={level:g}"]) for level in LEVELS)
            rows.append((CURVES.get(name, name), f"{curve['tests']:,}", f"{curve['ks_distance']:.4f}", *rates))
    return rows


def _units(found: NullDiagnostics) -> Section:
    frame = found.units.assign(
        unit_type=found.units["unit_type"].map({"real_gene": "gene", "ntc_group": "NTC group"}), reason=found.units["reason"].replace("", "–")
    )
    columns = [Column(key=key, label=label, kind=kind, help=help) for key, label, kind, help in UNIT_COLUMNS]  # type: ignore[arg-type]
    frame = frame[[c.key for c in columns]]
    checks = found.checks
    rows = [
        (str(r.unit_id), str(r.program), shown(r.p_raw, "p"), shown(r.p_skew, "p"), shown(r.z_obs, "z"), shown(r.null_skewness, "z"), "yes" if r.fallback else "no")
        for r in checks.itertuples()
    ]
    blocks: list[Block] = [
        Facts(
            items=[
                ("Group size", f"{found.summary['group_size']}", "NTC guides in a group"),
                ("Partitions", f"{found.summary['n_ensemble']}", "of the NTC guides, at random"),
                ("Described program", str(found.summary["program"]), "the one whose null the table describes"),
            ]
        ),
        Table(id="units", caption="Genes and NTC groups, and what was measured on each.", columns=columns, frame=frame, total=len(frame), full="diagnostics_units.csv"),
        Heading(text="Skew-normal checks"),
        Prose(text=["NTC tests at random: where the law is right, p_raw and p_skew are close."]),
        PlainTable(caption="Skew-normal checks", head=("unit", "program", "p_raw", "p_skew", "z", "null skewness", "fell back"), rows=rows),
        Heading(text="All figures of the verdict"),
        PlainTable(
            caption="What the verdict looked at", head=("figure", "value"), rows=[(k.replace("_", " "), f"{v:.4g}") for k, v in found.verdict.figures.items()]
        ),
    ]
    return Section(id="units-section", title="Units", blocks=blocks)
