"""Sections of the report on hits: ranked genes and heat map, forest plots of guides, learned prior."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from fatescreen.figures import Estimate, bar_plot, forest_plot
from fatescreen.report.blocks import Block, Cell, Column, Figure, Figures, Heading, Heat, More, Prose, Section, Table
from fatescreen.report.inline_svg import panel
from fatescreen.report.numbers import signed
from fatescreen.report.sections.limits import FOREST_GENES, FOREST_GUIDES, FOREST_ROWS, HEAT_GENES, OPEN_FORESTS
from hierarchy.mash.hits import CALL_LFSR, Hits
from hierarchy.mash.patterns import PATTERNS

LEAST_SHOWN = 0.005  # weight below which a covariance is not drawn
COLUMNS = (
    Column(key="gene", label="gene"),
    Column(key="best_day", label="best day", help="day with the smallest lfsr"),
    Column(key="active_days", label="active days", help="days with lfsr below 0.05"),
    Column(key="pattern", label="pattern", help="most probable pattern over days"),
    Column(key="pattern_prob", label="P(pattern)", kind="share", help="its posterior probability"),
    Column(key="best_mean", label="effect", kind="effect", help="posterior mean on the best day, in log-odds"),
    Column(key="min_lfsr", label="lfsr", kind="p", help="posterior probability that the sign on the best day is wrong or that there is no effect"),
    Column(key="svalue", label="s-value", kind="p", help="mean lfsr of this gene and all stronger ones: the expected share of wrong calls down to this row"),
    Column(key="guides_agree", label="guides agree", kind="count", help="guides whose estimate on the best day has the sign of the gene’s"),
    Column(key="n_guides", label="guides", kind="count"),
    Column(
        key="lfsr_leave_one_guide_out", label="lfsr without one guide", kind="p", help="the largest lfsr on the best day when one of the guides is left out"
    ),
    Column(key="n_cells", label="cells", kind="count", help="cells that carry a guide of the gene"),
)


def hits_section(hits: Sequence[Hits]) -> Section:
    """Ranked genes, heat map and patterns of the first contrast, and of the others in parts that can be opened."""
    blocks = _contrast_blocks(hits[0], 0)
    for i, other in enumerate(hits[1:], 1):
        blocks.append(More(title=f"{other.estimates.contrast.replace(':', ' against ', 1)}", blocks=_contrast_blocks(other, i)))
    intro = (
        "Effects are posterior means of mash in log-odds, which share information between days and genes. The local false sign rate (lfsr) is the posterior "
        "probability that the sign of an effect is wrong or that there is none."
    )
    return Section(id="hits", title="Hits", blocks=blocks, intro=intro)


def _contrast_blocks(own: Hits, number: int) -> list[Block]:
    days = list(own.estimates.days)
    frame = own.table.assign(best_mean=[row[f"mean_d{days.index(row['best_day'])}"] if row["best_day"] else np.nan for row in own.table.to_dict("records")])
    caption = "Genes in order of their smallest lfsr over days."
    name = f"hits-{number}" if number else "hits-table"
    table = Table(id=name, caption=caption, columns=COLUMNS, frame=frame[[c.key for c in COLUMNS]], total=len(frame), full="hits.csv")
    counts = own.table[own.called]["pattern"].value_counts()
    shown = [pattern for pattern in PATTERNS if pattern in counts]
    patterns = bar_plot(shown, [float(counts[p]) for p in shown], x_label="hits", ax=panel(60 + 22 * len(shown)))
    text = (
        "Constant: on all days. Early: on the first days only. Late: on the last days only. Transient: on other days. Sign change: with both signs. "
        "A day counts where the effect is at least a third of the gene’s largest; the pattern is the most frequent one in draws from the posterior."
    )
    drawn: list[Block] = [Heading(text="Patterns"), Figure(axes=patterns, title="Hits by pattern", caption=text)] if shown else []
    return [table, Heading(text="Heat map"), _heat(own), *drawn]


def _heat(own: Hits) -> Heat:
    """Posterior means of the strongest genes, coloured where the lfsr is below 0.05."""
    top = own.table.iloc[:HEAT_GENES]
    mean, lfsr = (top.filter(regex=rf"^{name}_d\d+$").to_numpy() for name in ("mean", "lfsr"))
    called = lfsr < CALL_LFSR
    limit = max(float(np.abs(mean[called]).max(initial=0.0)), 1e-12)
    rows = []
    for g, gene in enumerate(top["gene"]):
        cells = [_heat_cell(m, p, limit) for m, p in zip(mean[g], lfsr[g], strict=True)]
        rows.append((str(gene), cells))
    fate, _, against = own.estimates.contrast.partition(":")
    return Heat(
        caption=f"Posterior means by day: the first {len(top)} of {len(own.table):,} genes. Days with lfsr of 0.05 or more have no colour; below is the lfsr.",
        corner="gene",
        head=own.estimates.days,
        rows=rows,
        ends=(f"−{limit:.2g} towards {against}", f"+{limit:.2g} towards {fate}"),
    )


def _heat_cell(mean: float, lfsr: float, limit: float) -> Cell:
    if np.isnan(mean):
        return Cell(text="", note="no cells")
    called = lfsr < CALL_LFSR
    note = "<0.001" if lfsr < 0.001 else f"{lfsr:.2g}"
    return Cell(text=signed(f"{mean:.2f}"), note=note, shade=round(5 * mean / limit) if called else 0, strong=called)


def guides_section(own: Hits) -> Section:
    """Forest plots of the strongest hits with their guides."""
    hits = own.table[own.called].iloc[:FOREST_GENES]
    position = {name: i for i, name in enumerate(own.estimates.genes)}
    forests = [_forest(own, position[row["gene"]], row) for row in hits.to_dict("records")]
    text = (
        f"The {len(forests)} strongest hits in {own.estimates.contrast}. Diamonds: posterior mean and SD of the gene by mash. Dots: likelihood-type estimates "
        "of its guides, which are not shrunk. Thick bars are 90 % intervals, thin bars 95 % intervals."
    )
    blocks: list[Block] = [Prose(text=[text if forests else "No gene has an lfsr below 0.05."])]
    if forests:
        blocks.append(Figures(items=forests[:OPEN_FORESTS]))
    if len(forests) > OPEN_FORESTS:
        blocks.append(More(title=f"{len(forests) - OPEN_FORESTS} more genes", blocks=[Figures(items=forests[OPEN_FORESTS:])]))
    return Section(id="guides", title="Guides of the strongest hits", blocks=blocks)


def _forest(own: Hits, g: int, row: Mapping[Hashable, Any]) -> Figure:
    data, days = own.estimates, own.estimates.days
    guides = np.flatnonzero(data.gene_of_guide == g)
    shown = guides[:FOREST_GUIDES]
    best = days.index(str(row["best_day"]))
    with_guides = set(range(len(days))) if len(days) * (1 + shown.size) <= FOREST_ROWS else {best}
    se = np.sqrt(data.guide_covariance.diagonal(axis1=1, axis2=2)[shown])
    groups = []
    for d, day in enumerate(days):
        rows = [Estimate(name=day, mean=float(own.genes.mean[g, d]), sd=float(own.genes.sd[g, d]), main=True)]
        if d in with_guides:
            for i, s in zip(shown, se, strict=True):
                rows.append(Estimate(name=str(data.guides[i]), mean=float(data.guide_betahat[i, d]), sd=float(s[d]), main=False))
        groups.append(rows)
    caption = f"{row['pattern']}, lfsr {row['min_lfsr']:.2g}, without one guide {row['lfsr_leave_one_guide_out']:.2g}."
    caption += f" The first {shown.size} of {guides.size} guides." if shown.size < guides.size else ""
    caption += f" Guides are shown on the best day only, {days[best]}." if len(with_guides) < len(days) else ""
    axes = forest_plot(groups, x_label="log-odds", ax=panel(60 + 15 * sum(map(len, groups)) + 7 * len(groups)))
    return Figure(axes=axes, title=str(row["gene"]), caption=caption)


def prior_section(hits: Sequence[Hits]) -> Section:
    """The weights of the covariances."""
    intro = (
        "mash learns from all genes how often effects follow each covariance: null (no effect), singleton_j (day j only), equal_effects (the same on all "
        "days), simple_het (similar), onset_j (from day j on), offset_j (before day j), random_walk, decay, growth, and ed_… (learned from "
        "the strongest genes)."
    )
    figures = []
    for own in hits:
        for level, fitted in (("genes", own.genes), ("guides", own.guides)):
            weights = {name: w for name, w in fitted.covariance_weights.items() if w >= LEAST_SHOWN}
            axes = bar_plot(list(weights), list(weights.values()), x_label="weight", ax=panel(60 + 22 * len(weights)))
            caption = f"Weights of at least {LEAST_SHOWN}."
            if pseudo := fitted.penalty[1:].sum():
                caption += f" {pseudo:.0f} pseudo-genes with independent days were added, because this raised the likelihood of {level} left out of the fit."
            figures.append(Figure(axes=axes, title=f"{own.estimates.contrast}: {level}", caption=caption))
    return Section(id="prior", title="Learned prior", blocks=[Figures(items=figures)], intro=intro)
