"""Input section of the report on a fit."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from data_prep.errors import first_few
from data_prep.screen import Screen
from fatescreen.figures import count_histogram
from fatescreen.report.blocks import Block, Column, Facts, Figure, Figures, Heading, PlainTable, Section, Table
from fatescreen.report.inline_svg import panel
from fatescreen.report.sections.crt_input import burden_figure
from hierarchy.effects import DaywiseEffects

DROPPED = {
    "guides_not_in_map": "guides of the data that are missing from the guide map",
    "cells_over_max_guides": "cells with more guides than --max-guides-per-cell",
    "guides_without_cells": "guides of the map that no cell carries",
    "genes_without_cells": "genes without any cell that carries one of their guides",
}


def input_section(screen: Screen, effects: DaywiseEffects) -> Section:
    """Cells, guides, MOI, burden, cells for each gene and day, and what was excluded."""
    burden = np.diff(screen.guides.indptr)
    table = cells_per_gene(effects)
    guides = Figure(
        axes=count_histogram(table["guides"], x_label="guides", y_label="genes", ax=panel()),
        title="Guides per gene",
        caption="With a single guide, the effect of the gene cannot be separated from that of the guide.",
    )
    blocks: list[Block] = [
        _facts(screen, effects, _span(table["guides"])),
        Heading(text="Excluded"),
        PlainTable(caption="Excluded data, by reason", head=("reason", "number"), rows=excluded(screen.dropped)),
        Figures(items=[burden_figure(burden), guides]),
        _table(table, screen.day_labels),
    ]
    return Section(id="input", title="Input", blocks=blocks)


def _facts(screen: Screen, effects: DaywiseEffects, guides_per_gene: str) -> Facts:
    targeted = np.diff(screen.guides[:, np.flatnonzero(~screen.is_ntc)].indptr) > 0
    return Facts(
        items=[
            ("Cells", f"{targeted.size:,}", f"{int((~targeted).sum()):,} carry no targeting guide"),
            ("Genes", f"{effects.genes.size:,}", f"{effects.guides.size:,} guides, {guides_per_gene} per gene"),
            ("NTC guides", f"{int(screen.is_ntc.sum()):,}", ""),
            ("MOI", f"{screen.moi:.2f}", "mean number of guides per cell, NTC included"),
            ("Days", ", ".join(screen.day_labels), _sizes(screen.day, screen.day_labels)),
            ("Replicates", first_few(screen.rep_labels, 6), _sizes(screen.rep, screen.rep_labels)),
            ("Fates", first_few(screen.fate_names, 6), ""),
            ("Data", "simulated" if screen.simulated else "measured", ""),
        ]
    )


def cells_per_gene(effects: DaywiseEffects) -> pd.DataFrame:
    """Number of cells that carry any guide of each gene; a cell with two guides of a gene counts once. Columns gene, guides, total, `day_0`, `day_1`, …"""
    number = effects.gene_cells
    guides = pd.Series(effects.gene_of_guide).value_counts().reindex(effects.genes).to_numpy()
    table = pd.DataFrame({"gene": effects.genes, "guides": guides, "total": number.sum(1)})
    return table.assign(**{f"day_{d}": number[:, d] for d in range(number.shape[1])})


def excluded(dropped: Mapping[str, object]) -> list[tuple[str, str]]:
    """Rows of reason and number, with the first names."""
    rows = []
    for key, value in dropped.items():
        reason = DROPPED.get(key, key.replace("_", " "))
        if isinstance(value, (list, tuple)):
            rows.append((reason, f"{len(value):,}" + (f": {first_few(value, 10)}" if value else "")))
        else:
            rows.append((reason, f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)))
    return rows or [("nothing", "0")]


def _sizes(codes: np.ndarray, labels: tuple[str, ...]) -> str:
    number = np.bincount(codes, minlength=len(labels))
    return "cells: " + first_few((f"{n:,}" for n in number), 8)


def _span(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low} to {high}"


def _table(table: pd.DataFrame, days: tuple[str, ...]) -> Table:
    columns = [
        Column(key="gene", label="gene"),
        Column(key="guides", label="guides", kind="count"),
        Column(key="total", label="all days", kind="count", help="cells that carry any guide of the gene"),
        *(Column(key=f"day_{d}", label=day, kind="count") for d, day in enumerate(days)),
    ]
    return Table(id="cells-per-gene", caption="Cells that carry a guide of each gene, by day.", columns=columns, frame=table, total=len(table), page=10)
