"""The part of the test's reports that says what was read."""

import numpy as np
import pandas as pd

from crt.inputs import CRTInputs
from data_prep.errors import first_few
from fatescreen.figures.charts import counts_histogram
from fatescreen.report import Block, Facts, Figures, Heading, PlainTable, Section, Table
from fatescreen.report.blocks import Column

REASONS = {
    "no_treated": "no cell carries a guide of the target",
    "all_treated": "every cell carries a guide of the target, so there is nothing to compare with",
    "nonfinite": "the statistic is not finite",
    "singular": "treatment is a function of the covariates",
}


def reading_section(inputs: CRTInputs, units: pd.DataFrame) -> Section:
    """Cells, guides, MOI, burden, treated cells of each gene, what could not be tested and why; `units` has a row for each gene tested."""
    burden = np.bincount(inputs.guides.indices, minlength=inputs.all_cells.size)
    n_guides = {gene: len(columns) for gene, columns in inputs.gene_to_cols.items()}
    table = pd.DataFrame(
        {
            "gene": units.index.astype(str),
            "guides": [n_guides[gene] for gene in units.index],
            "treated": units["n_treated"].to_numpy(),
            "control": units["n_control"].to_numpy(),
            "reason": units["reason"].replace("", "–").to_numpy(),
        }
    )
    batches = "none" if inputs.batch_raw is None else f"{inputs.batch_raw.nunique():,}"
    blocks: list[Block] = [
        Facts(
            items=[
                ("Cells", f"{inputs.all_cells.size:,}", f"{inputs.ntc_cells.size:,} carry NTC guides only"),
                ("Targets tested", f"{len(units):,}", f"of {len(inputs.genes):,} in the screen"),
                ("Guides", f"{len(inputs.guide_names):,}", f"{inputs.ntc_cols.size:,} of them NTC"),
                ("MOI", f"{inputs.moi:.2f}", "mean guides in a cell"),
                ("Programs", f"{len(inputs.program_names):,}", first_few(inputs.program_names, 3)),
                ("Covariates", f"{len(inputs.covar_names)}", first_few(inputs.covar_names, 8)),
                ("Batches", batches, ""),
                ("Controls", "NTC cells" if inputs.control_group == "ntc_cells" else "complement", ""),
            ]
        ),
        Heading(text="Not tested"),
        PlainTable(caption="Targets that could not be tested, and why", head=("reason", "targets"), rows=undefined(units)),
        Figures(
            items=[
                counts_histogram(burden, title="Burden", x_label="guides in a cell", caption=f"NTC guides included; the mean is {burden.mean():.2f}."),
                counts_histogram(table["guides"].to_numpy(), title="Guides of each gene", x_label="guides", y_label="genes"),
                counts_histogram(table["treated"].to_numpy(), title="Treated cells of each gene", x_label="treated cells", y_label="genes"),
            ]
        ),
        _table(table),
    ]
    return Section(id="read", title="What was read", blocks=blocks)


def undefined(units: pd.DataFrame) -> list[tuple[str, str]]:
    """Each reason with the targets it holds for."""
    lost = units.loc[units["reason"] != "", "reason"]
    rows = []
    for reason in sorted(set(lost)):
        names = lost.index[lost == reason]
        rows.append((f"{reason}: {REASONS[reason]}" if reason in REASONS else str(reason), f"{len(names):,}: {first_few(names, 15)}"))
    return rows or [("none", "all targets were tested")]


def _table(table: pd.DataFrame) -> Table:
    columns = [
        Column(key="gene", label="gene"),
        Column(key="guides", label="guides", kind="count"),
        Column(key="treated", label="treated cells", kind="count", help="cells that carry any guide of the gene"),
        Column(key="control", label="control cells", kind="count", help="cells they are compared with"),
        Column(key="reason", label="not tested because"),
    ]
    return Table(id="cells-per-gene", caption="Treated and control cells of each gene.", columns=columns, frame=table, total=len(table), page=10)
