"""Sections of the report on null diagnostics: verdict, calibration curves, tested units."""

from collections.abc import Mapping

import numpy as np

from crt.null.diagnostics import NullDiagnostics
from crt.null.rates import LEVELS
from crt.null.verdict import Finding
from fatescreen.figures import null_qq_plot, p_histogram, propensity_qq_plot
from fatescreen.figures.null import defined
from fatescreen.options.arguments import with_options
from fatescreen.options.diagnose_null import DiagnoseOptions
from fatescreen.report.blocks import Block, Column, Facts, Figure, Figures, Heading, Notice, PlainTable, Prose, Section, Table
from fatescreen.report.inline_svg import panel
from fatescreen.report.numbers import Kind, shown

NULL_FILES = {
    "diagnostics_units.csv": "one row for each gene and NTC group: sizes, propensity, moments of the null distribution, p-values",
    "diagnostics_summary.json": "quantiles, rates with confidence intervals, and the verdict with its statistics",
    "diagnostics_summary.txt": "the same as text",
    "pvals_real.csv": "p-values of genes, empirical or of the saddlepoint",
    "pvals_real_skew.csv": "skew-normal p-values of genes; empty without resamples",
    "pvals_ntc_raw.csv": "p-values of NTC groups, empirical or of the saddlepoint",
    "pvals_ntc_skew.csv": "skew-normal p-values of NTC groups; empty without resamples",
    "pvals_ntc_oracle_raw.csv": "p-values of NTC groups with a constant propensity, empirical or of the saddlepoint",
    "skew_normal_checks.csv": "randomly chosen NTC tests with the fitted skew-normal distributions",
    "qq_null.png": "QQ plot of genes and NTC groups",
    "qq_ntc_fit_vs_oracle.png": "QQ plot of NTC groups with the fitted and with a constant propensity",
}
CURVES = {
    "real_raw": "genes",
    "real_skew": "genes, skew-normal",
    "ntc_raw": "NTC groups",
    "ntc_skew": "NTC groups, skew-normal",
    "ntc_oracle_raw": "NTC groups, constant propensity",
}
UNIT_COLUMNS = (
    Column(key="unit_id", label="unit", help="gene or NTC group"),
    Column(key="unit_type", label="type"),
    Column(key="guide_count", label="guides", kind="count"),
    Column(key="n_treated", label="treated", kind="count", help="cells that carry any guide of the unit"),
    Column(key="n_control", label="control", kind="count"),
    Column(key="reason", label="reason undefined", help="empty if the unit could be tested"),
    Column(
        key="den_share",
        label="residual variance",
        kind="share",
        help="share of the variance of treatment that the covariates do not explain; near 0, treatment is determined by the covariates",
    ),
    Column(key="propensity_auc", label="AUC", kind="share", help="how well the propensity separates treated from control cells: 0.5 not at all, 1 completely"),
    Column(
        key="misfit",
        label="misfit",
        kind="z",
        help="Hosmer–Lemeshow-type statistic: Σ (observed − expected)²/variance of treated cells over bins of the covariates; degrees of freedom are in "
        "diagnostics_units.csv",
    ),
    Column(key="null_nan_frac", label="undefined resamples", kind="share"),
    Column(key="z_null_mean", label="null mean", kind="z", help="mean of the null distribution of the described program, in standard errors; should be near 0"),
    Column(key="z_null_sd", label="null SD", kind="z", help="SD of the null distribution of the described program, in standard errors; should be near 1"),
    Column(key="z_null_skewness", label="null skewness", kind="z", help="skewness of the null distribution of the described program"),
    Column(key="pmin_raw", label="smallest p", kind="p", help="smallest p-value over programs, empirical or of the saddlepoint"),
)
CHECKED: tuple[tuple[str, Kind], ...] = (("p_raw", "p"), ("p_skew", "p"), ("z_obs", "z"), ("null_skewness", "z"))


def verdict_blocks(found: NullDiagnostics) -> list[Block]:
    """The verdict with the statistics it is based on, and the next step."""
    return [_inconclusive(f) if f.cause == "inconclusive" else _cause(f) for f in found.verdict.findings] or [_calibrated(found.verdict.figures)]


def _calibrated(figures: Mapping[str, float]) -> Notice:
    text = []
    if "raw_rate_0.05" in figures:
        constant = f" ({figures['oracle_rate_0.05']:.3g} with a constant propensity)" if "oracle_rate_0.05" in figures else ""
        text.append(
            f"Rate of p ≤ 0.05 among the tests of NTC groups: {figures['raw_rate_0.05']:.3g}{constant}. With this number of groups the minimum detectable rate "
            f"is {figures['detectable_rate_0.05']:.2g}; a smaller excess can remain undetected."
        )
    return Notice(tone="good", title="Calibrated: no cause of miscalibration was found.", text=text)


def _cause(finding: Finding) -> Notice:
    name = f"Cause {finding.cause}" if len(finding.cause) == 1 else "Unexplained"
    return Notice(tone="bad", title=f"Off. {name}: {finding.title}.", text=_evidence(finding))


def _inconclusive(finding: Finding) -> Notice:
    return Notice(tone="plain", title=f"Inconclusive: {finding.title}.", text=_evidence(finding))


def _evidence(finding: Finding) -> list[str]:
    values = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in finding.figures.items())
    return [f"Statistics: {values}.", f"Next step: {with_options(finding.next_step, finding.arguments, DiagnoseOptions)}"]


def curves_section(found: NullDiagnostics, null: np.ndarray | None) -> Section:
    """QQ plots, histograms, and the rates of small p-values."""
    by_name = {"Genes": found.real_raw, "NTC groups": found.ntc_raw, "NTC groups, constant propensity": found.oracle_raw}
    if defined(found.ntc_skew):
        by_name["NTC groups, skew-normal"] = found.ntc_skew
    flat = "Should be flat for NTC groups; effects of genes add a peak at the left."
    histograms = [Figure(axes=p_histogram(p, ax=panel()), title=name, caption=flat) for name, p in by_name.items()]
    drawable = defined(found.real_raw) and defined(found.ntc_raw)
    blocks: list[Block] = [
        Figures(items=_qq_figures(found, null)) if drawable else Prose(text=["No gene or no NTC group has a defined p-value."]),
        Figures(items=histograms),
        PlainTable(caption="Rates of small p-values, with 95 % confidence intervals that count independent tests", head=_rate_head(), rows=_rate_rows(found)),
    ]
    return Section(id="calibration", title="Calibration", blocks=blocks)


def _qq_figures(found: NullDiagnostics, null: np.ndarray | None) -> list[Figure]:
    above = "The curves of NTC groups should stay within the band (of one partition). Above it the test has false positives, below it the test loses power. "
    return [
        Figure(axes=null_qq_plot(found, null, ax=panel(300)), title="Genes and NTC groups", caption=above + "Genes may rise above the band at the right."),
        Figure(
            axes=propensity_qq_plot(found, ax=panel(300)),
            title="NTC groups by propensity model",
            caption="If the constant propensity removes the miscalibration, the propensity model is wrong.",
        ),
    ]


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
    """Measurements of genes and NTC groups, the skew-normal checks if there are any, and all statistics of the verdict."""
    frame = found.units.assign(
        unit_type=found.units["unit_type"].map({"real_gene": "gene", "ntc_group": "NTC group"}), reason=found.units["reason"].replace("", "–")
    )
    frame = frame[[c.key for c in UNIT_COLUMNS]]
    statistics = [(name.replace("_", " "), f"{value:.4g}") for name, value in found.verdict.figures.items()]
    blocks: list[Block] = [
        Facts(
            items=[
                ("Group size", f"{found.summary['group_size']}", "NTC guides per group"),
                ("Partitions", f"{found.summary['n_ensemble']}", "random partitions of the NTC guides into groups"),
                ("Described program", str(found.summary["program"]), "program whose null distribution the table describes"),
            ]
        ),
        Table(
            id="units",
            caption="Measurements of each gene and NTC group.",
            columns=UNIT_COLUMNS,
            frame=frame,
            total=len(frame),
            full="diagnostics_units.csv",
        ),
        *(_skew_checks(found) if len(found.checks) else ()),
        Heading(text="Statistics of the verdict"),
        PlainTable(caption="Statistics that the verdict is based on", head=("statistic", "value"), rows=statistics),
    ]
    return Section(id="units-section", title="Units", blocks=blocks)


def _skew_checks(found: NullDiagnostics) -> list[Block]:
    rows = [
        (str(r.unit_id), str(r.program), *(shown(getattr(r, key), kind) for key, kind in CHECKED), "yes" if r.fallback else "no")
        for r in found.checks.itertuples()
    ]
    return [
        Heading(text="Skew-normal checks"),
        Prose(text=["Randomly chosen tests of NTC groups: if the skew-normal fit is adequate, p_raw and p_skew are close."]),
        PlainTable(caption="Skew-normal checks", head=("unit", "program", "p_raw", "p_skew", "z", "null skewness", "fit rejected"), rows=rows),
    ]
