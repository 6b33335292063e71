"""Sections of the report on conditional randomization tests on the screen's own truth: NTC groups and positive controls."""

import numpy as np
import pandas as pd

from crt.hits.power import discovery_threshold
from crt.null.diagnostics import NullDiagnostics
from crt.null.ntc_pvalues import too_few_groups
from crt.results import CRTResult
from fatescreen.figures import p_strip_plot
from fatescreen.report.blocks import Block, Column, Figure, Figures, Heading, Prose, Section, Table
from fatescreen.report.inline_svg import panel
from fatescreen.report.sections.discoveries import FDR
from fatescreen.report.sections.null import curves_section, verdict_blocks

CONTROL_COLUMNS = (
    Column(key="target", label="target"),
    Column(key="program", label="program"),
    Column(key="beta", label="β", kind="effect"),
    Column(key="se", label="SE", kind="z"),
    Column(key="p", label="p", kind="p"),
    Column(key="p_adj", label="p_adj", kind="p"),
    Column(key="rank", label="rank", kind="count", help="rank of the p-value among all tests of the run"),
    Column(key="found", label="found", help="whether it is a discovery at a 10 % false discovery rate"),
    Column(key="n_treated", label="treated", kind="count"),
    Column(key="reason", label="reason undefined"),
)


def ntc_section(result: CRTResult, found: NullDiagnostics) -> Section:
    """Verdict, QQ plots and rates of NTC groups, and the discoveries relative to them."""
    curves = curves_section(found, None).blocks
    relative: list[Block] = [Heading(text="p-values relative to NTC groups"), Prose(text=[_relative(result, found)])]
    return Section(id="ntc", title="Negative controls", blocks=[*verdict_blocks(found), *curves, *relative])


def _relative(result: CRTResult, found: NullDiagnostics) -> str:
    if reason := too_few_groups(found):
        return f"Not computed: {reason}"
    table = result.table
    both, own, high = (int((table[name] < FDR).sum()) for name in ("p_adj", "q_ntc", "q_ntc_high"))
    return (
        "p_ntc in crt_results.csv is the p-value of z under a t distribution with the location and scale of the NTC groups’ z scores, by program. q_ntc is the "
        "same adjusted for the false discovery rate, and q_ntc_high the upper end of its 95 % interval. Discoveries at a 10 % false discovery rate: "
        f"{both:,} by p_adj, {own:,} by q_ntc, {high:,} by q_ntc_high. If q_ntc gives far fewer, a confounder that is no covariate inflates the p-values: "
        "interpret the others with caution."
    )


def controls_section(result: CRTResult, controls: pd.DataFrame, found: NullDiagnostics | None) -> Section:
    """Table and figure of positive controls, with NTC groups if they were tested."""
    frame = controls.assign(found=controls["found"].map({True: "yes", False: "no"}), reason=controls["reason"].replace("", "–"))
    n_found, n = int(controls["found"].sum()), len(controls)
    tests = result.table.set_index(["target", "program"])["log10_p"]
    columns = {"all tests": tests.to_numpy(), "positive controls": tests.loc[pd.MultiIndex.from_frame(controls[["target", "program"]])].to_numpy()}
    if found is not None:
        with np.errstate(divide="ignore"):
            columns = {"NTC groups": np.log10(found.ntc_raw.to_numpy()), **columns}
    blocks: list[Block] = [
        Prose(text=[f"{n_found:,} of {n:,} positive controls are discoveries at a 10 % false discovery rate."]),
        Figures(
            items=[
                Figure(
                    axes=p_strip_plot(columns, threshold=discovery_threshold(result), ax=panel(300)),
                    title="Power check",
                    caption="Each point is a test; bars are medians. Tests above the dashed line are discoveries.",
                )
            ]
        ),
        Table(id="controls", caption="Positive controls.", columns=CONTROL_COLUMNS, frame=frame, total=n, full="crt_positive_controls.csv"),
    ]
    return Section(id="positive-controls", title="Positive controls", blocks=blocks)
