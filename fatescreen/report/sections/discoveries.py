"""Results section of the report on conditional randomization tests: ranked table, volcano plot, forest plots, heat map."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crt.results import CRTResult, strongest_first
from fatescreen.figures import Estimate, forest_plot
from fatescreen.report.blocks import MAX_ROWS, Block, Cell, Choice, Column, Figure, Figures, Heading, Heat, Prose, Section, Table, Volcano
from fatescreen.report.inline_svg import panel
from fatescreen.report.numbers import signed

FDR = 0.1
FOREST_TARGETS, FOREST_PROGRAMS = 6, 12
HEAT_TARGETS, HEAT_PROGRAMS = 30, 20
COLUMNS = (
    Column(key="target", label="target"),
    Column(key="program", label="program"),
    Column(key="beta", label="β", kind="effect"),
    Column(key="z", label="z", kind="z", help="test statistic minus the mean of its null distribution, divided by its SD"),
    Column(key="se", label="SE", kind="z", help="standard error of β"),
    Column(key="ci_low", label="95 % from", kind="effect", help="lower end of the 95 % interval of the effect"),
    Column(key="ci_high", label="to", kind="effect", help="upper end of the 95 % interval of the effect"),
    Column(key="p", label="p", kind="p", help="p-value used for inference"),
    Column(key="p_raw", label="p_raw", kind="p", help="empirical p-value"),
    Column(key="p_skew", label="p_skew", kind="p", help="p-value from a skew-normal fit to the null distribution"),
    Column(key="p_adj", label="p_adj", kind="p", help="p-value adjusted for the false discovery rate over all tests"),
    Column(key="n_treated", label="treated", kind="count", help="cells that carry any guide of the target"),
    Column(key="reason", label="reason undefined", help="why a test has no p-value"),
)


def results_section(result: CRTResult, record: Mapping[str, Any]) -> Section:
    """Ranked table, volcano plot, forest plots and heat map."""
    frame = ranked_frame(result.table)
    shown = [column for column in COLUMNS if column.key not in ("p_raw", "p_skew") or frame[column.key].notna().any()]
    columns = [dataclasses.replace(column, help=beta_meaning(record)) if column.key == "beta" else column for column in shown]
    table = Table(
        id="tests", caption="Tests in order of p-value, smallest first.", columns=columns, frame=frame, total=len(result.table), full="crt_results.csv"
    )
    blocks: list[Block] = [table, _volcano(table, result), *_forests(result), Heading(text="Heat map"), heat(result)]
    return Section(id="results", title="Results", blocks=blocks)


def beta_meaning(record: Mapping[str, Any]) -> str:
    """What β is, which depends on the run's transform of the outcome."""
    transform = (record.get("options") or {}).get("transform")
    scale = {"clr": "in centred log-ratio of usage", "none": "on the outcome’s own scale"}.get(str(transform), "on the scale of the tested outcome")
    return f"difference {scale} between treated and control cells, adjusted for the covariates"


def ranked_frame(tests: pd.DataFrame) -> pd.DataFrame:
    """The tests of the page, in order of p-value and then of |z|, undefined ones last; `y` is −log10 p."""
    ranked = strongest_first(tests, most=MAX_ROWS)
    frame = ranked[[c.key for c in COLUMNS]]
    return frame.assign(reason=frame["reason"].replace("", "–"), y=-ranked["log10_p"].to_numpy(float))


def _volcano(table: Table, result: CRTResult) -> Volcano:
    kept = set(table.frame["program"])
    programs = [str(name) for name in result.pvals_df.columns if name in kept]
    return Volcano(
        id="volcano",
        title="Volcano plot by program",
        caption="Each point is a target; discoveries at a 10 % false discovery rate are coloured. “Find” marks targets by name.",
        table=table.id,
        names=("target",),
        chooser="Program",
        choices=[Choice(label=name, x="beta", y="y", only=("program", name)) for name in programs],
        x_label="β",
        y_label="−log10 p",
        flag=("p_adj", FDR),
        flag_label="at a 10 % false discovery rate",
        first=programs.index(str(table.frame["program"].iloc[0])) if programs else 0,
    )


def _forests(result: CRTResult) -> list[Block]:
    """A forest plot for each of the targets with the smallest p-values: its programs in order of p-value."""
    tests = result.table
    drawn = (tests["p"].notna() & tests["se"].notna()).to_numpy()
    ranked = strongest_first(tests.loc[drawn, ["target", "log10_p", "z"]])
    figures = []
    for target in ranked["target"].drop_duplicates().head(FOREST_TARGETS):
        own = strongest_first(tests[drawn & (tests["target"] == target).to_numpy()], most=FOREST_PROGRAMS)
        values = zip(own["program"], (own["ci_low"] + own["ci_high"]) / 2, own["se"], own["p_adj"] < FDR, strict=True)
        rows = [Estimate(name=str(name), mean=float(mean), sd=float(se), main=bool(hit)) for name, mean, se, hit in values]
        figures.append(Figure(axes=forest_plot([rows], x_label="effect", ax=panel(60 + 15 * len(rows))), title=str(target)))
    text = (
        f"Targets with the smallest p-values, and up to {FOREST_PROGRAMS} programs of each in order of p-value. Effects are β minus the mean of its null "
        "distribution, with 90 % (thick) and 95 % (thin) intervals. Diamonds: discoveries at a 10 % false discovery rate."
    )
    return [Heading(text="Strongest effects"), Prose(text=[text]), Figures(items=figures)] if figures else []


def heat(result: CRTResult) -> Heat:
    """Heat map of z for the targets and programs with the smallest p-values."""
    tests = result.table
    targets, programs = list(result.pvals_df.index), list(result.pvals_df.columns)
    shape = (len(targets), len(programs))
    z, p, adjusted = (tests[name].to_numpy(float).reshape(shape) for name in ("z", "log10_p", "p_adj"))
    ranked = np.where(np.isfinite(p), p, 0.0)
    rows, columns = np.argsort(ranked.min(1), kind="stable")[:HEAT_TARGETS], np.argsort(ranked.min(0), kind="stable")[:HEAT_PROGRAMS]
    part = z[np.ix_(rows, columns)]
    limit = max(3.0, float(np.nanquantile(np.abs(part), 0.95))) if np.isfinite(part).any() else 3.0
    cells = [(str(targets[r]), [_cell(z[r, c], adjusted[r, c], limit) for c in columns]) for r in rows]
    caption = (
        f"z-scores of the {len(rows)} of {len(targets):,} targets and {len(columns)} of {len(programs):,} programs with the smallest p-values. "
        "Framed: discoveries at a 10 % false discovery rate."
    )
    return Heat(caption=caption, corner="target", head=[str(programs[c]) for c in columns], rows=cells, ends=(f"z ≤ −{limit:.2g}", f"z ≥ +{limit:.2g}"))


def _cell(z: float, adjusted: float, limit: float) -> Cell:
    if not np.isfinite(z):
        return Cell(text="–")
    return Cell(text=signed(f"{z:.1f}"), shade=round(5 * float(np.clip(z / limit, -1, 1))), strong=bool(adjusted < FDR))
