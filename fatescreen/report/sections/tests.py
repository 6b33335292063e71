"""The part of the test's report that shows its results: ranked table, heat map, volcano."""

import numpy as np
import pandas as pd

from crt.results import CRTResult, strongest_first
from fatescreen.report import Block, Cell, Choice, Heading, Heat, Section, Table, Volcano
from fatescreen.report.blocks import MAX_ROWS, Column
from fatescreen.report.numbers import signed

FDR = 0.1
HEAT_TARGETS, HEAT_PROGRAMS = 30, 20
COLUMNS = (
    Column(key="target", label="target"),
    Column(key="program", label="program"),
    Column(key="beta", label="β", kind="effect", help="difference of treated cells on the outcome’s scale, given the covariates"),
    Column(key="z", label="z", kind="z", help="β less the null’s mean, over the null’s SD"),
    Column(key="p_raw", label="p_raw", kind="p", help="empirical p"),
    Column(key="p_skew", label="p_skew", kind="p", help="p by the skew-normal law fitted to the null; empty where it was not asked for"),
    Column(key="p_adj", label="p_adj", kind="p", help="p adjusted for the false discovery rate over all tests"),
    Column(key="n_treated", label="treated", kind="count", help="cells that carry any guide of the target"),
    Column(key="reason", label="undefined because", help="why a test has no p"),
)


def results_section(result: CRTResult) -> Section:
    """Ranked table, volcano and heat map."""
    frame = ranked_frame(result.table)
    table = Table(id="tests", caption="Tests by p, the smallest first.", columns=COLUMNS, frame=frame.iloc[:MAX_ROWS], total=len(frame), full="crt_results.csv")
    blocks: list[Block] = [table, _volcano(table, result), Heading(text="Heat map"), heat(result)]
    return Section(id="results", title="Results", blocks=blocks)


def ranked_frame(tests: pd.DataFrame) -> pd.DataFrame:
    """The tests, smallest p first and then by |z|, undefined ones last; `y` is −log10 p."""
    ranked = strongest_first(tests)
    frame = ranked[[c.key for c in COLUMNS]]
    return frame.assign(reason=frame["reason"].replace("", "–"), y=-ranked["log10_p"].to_numpy(float))


def _volcano(table: Table, result: CRTResult) -> Volcano:
    kept = set(table.frame["program"])
    programs = [str(name) for name in result.pvals_df.columns if name in kept]
    return Volcano(
        id="volcano",
        title="Effect against its p, by program",
        caption="Each point is a target; those found at a 10 % false discovery rate stand out. “Find” marks targets by name.",
        table=table.id,
        names=("target",),
        chooser="Program",
        choices=[Choice(label=name, x="beta", y="y", only=("program", name)) for name in programs],
        x_label="β",
        y_label="−log10 p",
        flag=("p_adj", FDR),
        flag_label="found at a 10 % false discovery rate",
        first=programs.index(str(table.frame["program"].iloc[0])) if programs else 0,
    )


def heat(result: CRTResult) -> Heat:
    """z of the targets and programs with the smallest p."""
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
        f"z of {len(rows)} of {len(targets):,} targets on {len(columns)} of {len(programs):,} programs, those with the smallest p. "
        "Framed: found at a 10 % false discovery rate."
    )
    return Heat(caption=caption, corner="target", head=[str(programs[c]) for c in columns], rows=cells, ends=(f"z ≤ −{limit:.2g}", f"z ≥ +{limit:.2g}"))


def _cell(z: float, adjusted: float, limit: float) -> Cell:
    if not np.isfinite(z):
        return Cell(text="–")
    return Cell(text=signed(f"{z:.1f}"), shade=round(5 * float(np.clip(z / limit, -1, 1))), strong=bool(adjusted < FDR))
