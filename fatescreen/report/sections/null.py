"""The parts of the report of a null: the verdict, the curves, the units."""

from typing import Any

import numpy as np

from crt.null.diagnostics import LEVELS, NullDiagnostics
from fatescreen.figures.charts import p_histogram, qq_figure
from fatescreen.report import Block, Facts, Figures, Heading, Notice, PlainTable, Prose, Section, Table
from fatescreen.report.blocks import Column
from fatescreen.report.numbers import Kind, shown

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
CURVES = {
    "real_raw": "genes, empirical",
    "real_skew": "genes, skew-normal",
    "ntc_raw": "NTC groups, empirical",
    "ntc_skew": "NTC groups, skew-normal",
    "ntc_oracle_raw": "NTC groups, constant propensity",
}
UNIT_COLUMNS = (
    Column(key="unit_id", label="unit", help="gene or NTC group"),
    Column(key="unit_type", label="type"),
    Column(key="guide_count", label="guides", kind="count"),
    Column(key="n_treated", label="treated", kind="count", help="cells that carry any of its guides"),
    Column(key="n_control", label="control", kind="count"),
    Column(key="reason", label="undefined because", help="nothing where the unit could be tested"),
    Column(
        key="den_share",
        label="spread left",
        kind="share",
        help="share of the spread of treatment that the covariates leave; near 0, treatment is a function of them",
    ),
    Column(
        key="propensity_auc", label="AUC", kind="share", help="how well the propensity tells treated cells from others; 0.5 is not at all, near 1 is separation"
    ),
    Column(
        key="misfit",
        label="misfit",
        kind="z",
        help="Σ (treated − expected)²/variance over bins of the covariates; its degrees of freedom are in diagnostics_units.csv",
    ),
    Column(key="null_nan_frac", label="undefined resamples", kind="share"),
    Column(key="z_null_mean", label="null mean", kind="z", help="of the described program, in standard errors; near 0"),
    Column(key="z_null_sd", label="null SD", kind="z", help="of the described program, in standard errors; near 1"),
    Column(key="z_null_skewness", label="null skewness", kind="z"),
    Column(key="pmin_raw", label="smallest p", kind="p", help="empirical, over programs"),
)
CHECKED: tuple[tuple[str, Kind], ...] = (("p_raw", "p"), ("p_skew", "p"), ("z_obs", "z"), ("null_skewness", "z"))


def verdict_blocks(found: NullDiagnostics) -> list[Block]:
    """The verdict with its figures and the next step."""
    verdict = found.verdict
    if not verdict.findings:
        figures = verdict.figures
        text = [f"At p ≤ 0.05 the tests of NTC groups have a rate of {figures['raw_rate_0.05']:.3g}"] if "raw_rate_0.05" in figures else []
        if text and "oracle_rate_0.05" in figures:
            text[0] += f", and of {figures['oracle_rate_0.05']:.3g} with a constant propensity"
        if text:
            text[0] += f". With so many groups a rate of {figures['seen_from_0.05']:.2g} or more would have been seen; a smaller one need not have been."
        text.append("Next: run-crt with the same settings.")
        return [Notice(tone="good", title="Calibrated: no cause of a wrong null shows.", text=text)]
    out: list[Block] = []
    for finding in verdict.findings:
        decided = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in finding.figures.items())
        name = f"Cause {finding.cause}" if len(finding.cause) == 1 else "Unexplained"
        out.append(Notice(tone="bad", title=f"{name}: {finding.title}.", text=[f"Figures: {decided}.", f"Next step: {finding.next_step}"]))
    return out


def curves_section(found: NullDiagnostics, null: np.ndarray | None) -> Section:
    """QQ figures, histograms, and the rates of small p."""
    members = [rows.to_numpy() for _, rows in found.ntc_raw.groupby(level="ensemble")]
    n = int(np.isfinite(members[0]).sum()) or None if members else None
    floor = 1 / (found.summary["settings"]["n_resamples"] + 1)
    curves: dict[str, Any] = {"genes": found.real_raw, "NTC groups, empirical": found.ntc_raw, "NTC groups, skew-normal": found.ntc_skew}
    curves |= {} if null is None else {"resamples (null)": null}
    fitted = {"fitted propensity": found.ntc_raw, "constant propensity": found.oracle_raw}
    read = "NTC curves should stay in the band (that of one partition). Above it, the test finds what is not there; below it, it misses what is. "
    histograms = {"Genes, empirical": found.real_raw, "NTC groups, empirical": found.ntc_raw, "NTC groups, skew-normal": found.ntc_skew}
    histograms["NTC groups, constant propensity"] = found.oracle_raw
    blocks: list[Block] = [
        Figures(
            items=[
                qq_figure(curves, title="Genes and NTC groups", band_n=n, floor=floor, caption=read + "Genes may rise above it at the right."),
                qq_figure(
                    fitted, title="NTC groups by propensity", band_n=n, floor=floor, caption="If the constant one mends the curve, the propensity is at fault."
                ),
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


def units_section(found: NullDiagnostics) -> Section:
    """What was measured on genes and NTC groups, the skew-normal checks, and all figures of the verdict."""
    frame = found.units.assign(
        unit_type=found.units["unit_type"].map({"real_gene": "gene", "ntc_group": "NTC group"}), reason=found.units["reason"].replace("", "–")
    )
    frame = frame[[c.key for c in UNIT_COLUMNS]]
    rows = [
        (
            str(r.unit_id),
            str(r.program),
            *(shown(getattr(r, key), kind) for key, kind in CHECKED),
            "yes" if r.fallback else "no",
        )
        for r in found.checks.itertuples()
    ]
    blocks: list[Block] = [
        Facts(
            items=[
                ("Group size", f"{found.summary['group_size']}", "NTC guides in a group"),
                ("Partitions", f"{found.summary['n_ensemble']}", "of the NTC guides, at random"),
                ("Described program", str(found.summary["program"]), "the one whose null the table describes"),
            ]
        ),
        Table(
            id="units",
            caption="Genes and NTC groups, and what was measured on each.",
            columns=UNIT_COLUMNS,
            frame=frame,
            total=len(frame),
            full="diagnostics_units.csv",
        ),
        Heading(text="Skew-normal checks"),
        Prose(text=["NTC tests at random: where the law is right, p_raw and p_skew are close."]),
        PlainTable(caption="Skew-normal checks", head=("unit", "program", "p_raw", "p_skew", "z", "null skewness", "fell back"), rows=rows),
        Heading(text="All figures of the verdict"),
        PlainTable(
            caption="What the verdict looked at", head=("figure", "value"), rows=[(k.replace("_", " "), f"{v:.4g}") for k, v in found.verdict.figures.items()]
        ),
    ]
    return Section(id="units-section", title="Units", blocks=blocks)
