"""Plots of results: each draws on the Axes it is given, or on those of a new figure, and returns them."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes

from crt.results import CRTResult, strongest_first
from data_prep.errors import InputError, did_you_mean, first_few
from fatescreen.figures import Estimate, bound_plot, forest_plot, p_strip_plot, qq_plot
from fatescreen.figures.style import COLOURS, new_axes, tidy
from hierarchy.effects import DaywiseEffects
from hierarchy.mash.hits import Hits
from hierarchy.result import Fit

FDR = 0.1
NAMED = 5  # discoveries of a volcano plot that are labelled


def volcano(result: CRTResult, program: str, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Effect and −log10 p of every target on one program; discoveries at a 10 % false discovery rate are coloured, the strongest named.

    Parameters
    ----------
    result
        Result of `test_programs`.
    program
        Name of the program.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes; by default the program.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on.
    """
    _check(program, [str(name) for name in result.pvals_df.columns], "program")
    own = result.table[(result.table["program"] == program) & result.table["p"].notna()]
    axes = new_axes() if ax is None else ax
    found = (own["p_adj"] < FDR).to_numpy()
    for mask, colour, label in ((~found, COLOURS["muted"], "other"), (found, COLOURS["s2"], "10 % false discovery rate")):
        axes.plot(own["beta"][mask], -own["log10_p"][mask], linestyle="", marker="o", markersize=4, color=colour, label=label)
    named: Any = strongest_first(own[found], most=NAMED)
    for row in named.itertuples():
        axes.annotate(str(row.target), (row.beta, -row.log10_p), textcoords="offset points", xytext=(4, 3), fontsize=8, parse_math=False)
    tidy(axes, x_label="β", y_label="−log10 p", title=program if title is None else title)
    axes.set_label(f"volcano plot of {program}: {len(own):,} targets, {int(found.sum()):,} at a 10 % false discovery rate")
    return axes


def qq(result: CRTResult, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """QQ plot of all p-values of a test, as in its report."""
    return qq_plot({"targets": result.table["p"]}, ax=ax, title=title)


def forest(effects: DaywiseEffects, gene: str, contrast: str = "MES", *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Effects of a gene (diamonds) and of its guides (dots) on each day, with their intervals, as in the report of a fit.

    Parameters
    ----------
    effects
        Result of `summarise`.
    gene
        Name of the gene.
    contrast
        Contrast of fates, "A" (against the reference) or "A:B".
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes; by default the gene.
    """
    _check(gene, [str(name) for name in effects.genes], "gene")
    of_gene, of_guides = effects.of_genes(contrast), effects.of_guides(contrast)
    g, guides = int(np.flatnonzero(effects.genes == gene)[0]), np.flatnonzero(effects.gene_of_guide == gene)
    groups = []
    for d, day in enumerate(effects.days):
        rows = [Estimate(name=f"{day}: {gene}", mean=of_gene.mean[g, d], sd=of_gene.sd[g, d], main=True)]
        groups.append([*rows, *(Estimate(name=str(effects.guides[i]), mean=of_guides.mean[i, d], sd=of_guides.sd[i, d], main=False) for i in guides)])
    return forest_plot(groups, x_label=f"log-odds of {of_gene.fate} against {of_gene.against}", ax=ax, title=gene if title is None else title)


def heatmap(found: Hits | DaywiseEffects, contrast: str = "MES", *, most: int = 30, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Effects of the strongest genes on each day; those with lfsr below 0.05 are framed.

    Parameters
    ----------
    found
        Hits, whose posterior means are drawn; or effects of a fit.
    contrast
        Contrast of fates; that of hits is their own.
    most
        Maximum number of genes.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.
    """
    if isinstance(found, Hits):
        mean, lfsr = (found.table.filter(regex=rf"^{name}_d\d+$").to_numpy() for name in ("mean", "lfsr"))
        genes, days = found.table["gene"].to_numpy(), found.estimates.days
    else:
        own = found.of_genes(contrast)
        mean, lfsr, genes, days = own.mean, own.lfsr, found.genes, found.days
    order = np.argsort(np.nan_to_num(lfsr, nan=1.0).min(1), kind="stable")[:most]
    return _heat(pd.DataFrame(mean[order], index=genes[order], columns=list(days)), lfsr[order] < 0.05, ax=ax, title=title)


def _heat(table: pd.DataFrame, framed: Float[np.ndarray, "genes days"], *, ax: Axes | None, title: str | None) -> Axes:
    axes = new_axes(1.5 + 0.7 * table.shape[1], 1.0 + 0.25 * len(table)) if ax is None else ax
    limit = float(np.nanmax(np.abs(table.to_numpy()), initial=1e-9))
    drawn = axes.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for i, j in np.argwhere(framed):
        axes.add_patch(_frame(i, j))
    axes.figure.colorbar(drawn, ax=axes, label="effect, log-odds")
    tidy(axes, x_label="day", y_label="", title=title)
    axes.grid(False)
    axes.set_xticks(range(table.shape[1]), list(map(str, table.columns)))
    axes.set_yticks(range(len(table)), list(map(str, table.index)), parse_math=False)
    axes.set_label(f"effects of {len(table)} genes on {table.shape[1]} days; {int(np.sum(framed))} with lfsr below 0.05")
    return axes


def _frame(row: int, column: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=COLOURS["ink"], linewidth=1.2)


def trace(fitted: Fit, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """The evidence lower bound after each step, as in the report of a fit."""
    return bound_plot(fitted, ax=ax, title=title)


def power(result: CRTResult, controls: pd.DataFrame, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """−log10 p of all tests beside that of known effects, as in the report of a test.

    Parameters
    ----------
    result
        Result of `test_programs`.
    controls
        Known effects, with columns target and program.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.
    """
    known = result.table.merge(controls[["target", "program"]].drop_duplicates(), on=["target", "program"])
    if known.empty:
        raise InputError(f"none of the controls was tested: {first_few(controls['target'])}. Give tested targets and programs.", "controls")
    return p_strip_plot({"all tests": result.table["log10_p"], "known effects": known["log10_p"]}, ax=ax, title=title)


def _check(name: str, known: list[str], what: str) -> None:
    if name not in known:
        raise InputError(f"there is no {what} {name!r}; there are: {first_few(known)}.{did_you_mean(name, known)}")
