"""Input section of the reports on conditional randomization tests."""

import numpy as np
import pandas as pd

from crt.inputs import CRTInputs
from data_prep.errors import first_few
from fatescreen.figures import count_histogram
from fatescreen.report.blocks import Block, Column, Facts, Figure, Figures, Heading, PlainTable, Section, Table
from fatescreen.report.inline_svg import panel

REASONS = {
    "no_treated": "no cell carries a guide of the target",
    "all_treated": "every cell carries a guide of the target, so there are no control cells",
    "few_treated": "too few cells carry a guide of the target (--min-treated)",
    "few_control": "too few control cells (--min-control)",
    "nonfinite": "the statistic is not finite",
    "singular": "treatment is determined by the covariates",
}


def input_section(inputs: CRTInputs, units: pd.DataFrame) -> Section:
    """Cells, guides, MOI, burden, treated cells of each target, and targets that could not be tested; `units` has a row for each target."""
    burden = np.bincount(inputs.guides.indices, minlength=inputs.all_cells.size)
    table = pd.DataFrame(
        {
            "gene": units.index.astype(str),
            "guides": [len(inputs.gene_to_cols.get(gene, (1,))) for gene in units.index],
            "treated": units["n_treated"].to_numpy(),
            "control": units["n_control"].to_numpy(),
            "reason": units["reason"].replace("", "–").to_numpy(),
        }
    )
    blocks: list[Block] = [
        _facts(inputs, len(units)),
        Heading(text="Targets not tested"),
        PlainTable(caption="Targets that could not be tested, by reason", head=("reason", "targets"), rows=undefined(units)),
        Figures(items=_histograms(burden, table)),
        _table(table),
    ]
    return Section(id="input", title="Input", blocks=blocks)


def undefined(units: pd.DataFrame) -> list[tuple[str, str]]:
    """Rows of reason and targets without a p-value."""
    reasons = units.loc[units["reason"] != "", "reason"]
    rows = []
    for reason in sorted(set(reasons)):
        names = reasons.index[reasons == reason]
        rows.append((f"{reason}: {REASONS[reason]}" if reason in REASONS else str(reason), f"{len(names):,}: {first_few(names, 15)}"))
    return rows or [("none", "all targets were tested")]


def _facts(inputs: CRTInputs, n_tested: int) -> Facts:
    return Facts(
        items=[
            ("Cells", f"{inputs.all_cells.size:,}", f"{inputs.ntc_cells.size:,} carry NTC guides only"),
            ("Cells left out", f"{inputs.n_several:,}", "carry guides of several genes"),
            ("Targets tested", f"{n_tested:,}", f"of {len(inputs.genes):,} in the screen"),
            ("Guides", f"{len(inputs.guide_names):,}", f"{inputs.ntc_cols.size:,} of them NTC"),
            ("MOI", f"{inputs.moi:.2f}", "mean number of guides per cell"),
            ("Programs", f"{len(inputs.program_names):,}", first_few(inputs.program_names, 3)),
            ("Covariates", f"{len(inputs.covar_names)}", first_few(inputs.covar_names, 8)),
            ("Batches", "none" if inputs.batch_raw is None else f"{inputs.batch_raw.nunique():,}", ""),
            ("Control cells", "NTC cells" if inputs.control_group == "ntc_cells" else "complement", ""),
        ]
    )


def _histograms(burden: np.ndarray, table: pd.DataFrame) -> list[Figure]:
    return [
        burden_figure(burden),
        Figure(axes=count_histogram(table["guides"], x_label="guides", y_label="genes", ax=panel()), title="Guides per gene"),
        Figure(axes=count_histogram(table["treated"], x_label="treated cells", y_label="genes", ax=panel()), title="Treated cells per gene"),
    ]


def burden_figure(burden: np.ndarray) -> Figure:
    """Histogram of the number of guides in each cell."""
    caption = f"Number of guides per cell, NTC guides included; the mean is {burden.mean():.2f}."
    return Figure(axes=count_histogram(burden, x_label="guides per cell", ax=panel()), title="Burden", caption=caption)


def _table(table: pd.DataFrame) -> Table:
    columns = [
        Column(key="gene", label="gene"),
        Column(key="guides", label="guides", kind="count"),
        Column(key="treated", label="treated cells", kind="count", help="cells that carry any guide of the gene"),
        Column(key="control", label="control cells", kind="count", help="cells that the treated cells are compared with"),
        Column(key="reason", label="reason not tested"),
    ]
    return Table(id="cells-per-gene", caption="Treated and control cells of each gene.", columns=columns, frame=table, total=len(table), page=10)
