"""Results section of the report on a fit: ranked table, volcano plot, heat map, forest plots."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import log_ndtr, ndtr

from fatescreen.figures import Estimate, forest_plot
from fatescreen.report.blocks import Block, Cell, Choice, Column, Figure, Figures, Heading, Heat, More, Prose, Section, Table, Volcano
from fatescreen.report.inline_svg import panel
from fatescreen.report.numbers import signed
from hierarchy.effects import DaywiseEffects

HEAT_GENES, FOREST_GENES, OPEN_FORESTS, FOREST_GUIDES, FOREST_ROWS = 40, 12, 6, 8, 60
Z95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """Effects on the log-odds of one fate against the reference fate.

    Attributes
    ----------
    fate
        Name of the non-reference fate.
    reference
        Name of the reference fate.
    genes
        Names of the genes.
    days
        Labels of the days.
    mean
        Posterior mean of θ, genes × days.
    sd
        Posterior standard deviation of θ, genes × days.
    """

    fate: str
    reference: str
    genes: np.ndarray
    days: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, effects: DaywiseEffects, fate: str, reference: str) -> "Contrast":
        """The effects on a non-reference fate."""
        f = effects.fate_index(fate)
        return cls(fate=fate, reference=reference, genes=effects.genes, days=effects.days, mean=effects.theta_mean[:, f], sd=effects.theta_sd[:, f])

    @property
    def z(self) -> np.ndarray:
        """z-scores of θ, genes × days."""
        return self.mean / self.sd

    @property
    def ranked(self) -> np.ndarray:
        """Positions of the genes in order of their largest |z| over days."""
        return np.argsort(-np.abs(self.z).max(1), kind="stable")


def results_section(contrast: Contrast, effects: DaywiseEffects) -> Section:
    """Ranked table, volcano plot, heat map and forest plots."""
    forests = top_forests(contrast, effects)
    intro = (
        f"Effects θ are differences in the log-odds of {contrast.fate} against {contrast.reference} in cells that carry a guide of the gene: +0.69 doubles the "
        "odds. SE is the standard error (posterior SD)."
    )
    blocks: list[Block] = [
        _table(contrast),
        _volcano(contrast),
        Heading(text="Heat map"),
        _heat(contrast),
        Heading(text="Forest plots of the strongest genes"),
        Prose(
            text=[
                f"The {len(forests)} genes with the largest |z|. Diamonds show the effect θ of the gene on each day, dots the effects β = θ + δ of its guides; "
                "thick bars are 90 % intervals, thin bars 95 % intervals. Guides with opposite signs indicate an off-target or inefficient guide."
            ]
        ),
        Figures(items=forests[:OPEN_FORESTS]),
        *([More(title=f"{len(forests) - OPEN_FORESTS} more genes", blocks=[Figures(items=forests[OPEN_FORESTS:])])] if len(forests) > OPEN_FORESTS else []),
    ]
    return Section(id="results", title="Results", blocks=blocks, intro=intro)


def ranked_frame(contrast: Contrast) -> pd.DataFrame:
    """One row for each gene, in order of |z|: gene, day, z, lfsr, and for each day the effect, its SE and −log10 of the two-sided p-value."""
    order, z = contrast.ranked, contrast.z
    best = np.abs(z).argmax(1)
    strongest = z[np.arange(len(z)), best]
    frame: dict[str, np.ndarray] = {
        "gene": contrast.genes,
        "day": np.array(contrast.days, dtype=object)[best],
        "z": strongest,
        "lfsr": ndtr(-np.abs(strongest)),
    }
    for d in range(len(contrast.days)):
        frame |= {f"effect_{d}": contrast.mean[:, d], f"se_{d}": contrast.sd[:, d], f"y_{d}": -(log_ndtr(-np.abs(z[:, d])) + np.log(2)) / np.log(10)}
    return pd.DataFrame(frame).iloc[order]


def _table(contrast: Contrast) -> Table:
    columns = [
        Column(key="gene", label="gene"),
        Column(key="day", label="strongest day", help="day with the largest |z|"),
        Column(key="z", label="z", kind="z", help="θ divided by its SE on the strongest day"),
        Column(key="lfsr", label="lfsr", kind="p", help="local false sign rate on the strongest day: posterior probability that θ has the opposite sign"),
    ]
    for d, day in enumerate(contrast.days):
        columns += [Column(key=f"effect_{d}", label=f"θ {day}", kind="effect"), Column(key=f"se_{d}", label=f"SE {day}", kind="effect")]
    frame = ranked_frame(contrast)
    caption = f"Genes in order of their largest |z| over days; θ is the effect on {contrast.fate} against {contrast.reference}."
    return Table(id="genes", caption=caption, columns=columns, frame=frame, total=len(frame), full="gene_daywise_for_mash.csv")


def _volcano(contrast: Contrast) -> Volcano:
    return Volcano(
        id="volcano",
        title="Volcano plot by day",
        caption=f"Each point is a gene; those with |z| > {Z95} on the chosen day are coloured. “Find” marks genes by name.",
        table="genes",
        names=("gene",),
        chooser="Day",
        choices=[Choice(label=day, x=f"effect_{d}", y=f"y_{d}") for d, day in enumerate(contrast.days)],
        x_label=f"θ, log-odds of {contrast.fate}",
        y_label="−log10 p",
        flag=("", 1.3010),
        flag_label=f"with |z| > {Z95}",
        first=int(np.abs(contrast.z).max(0).argmax()),
    )


def _heat(contrast: Contrast) -> Heat:
    top = contrast.ranked[:HEAT_GENES]
    limit = max(float(np.abs(contrast.mean[top]).max(initial=0.0)), 1e-12)
    rows = []
    for g in top:
        cells = [
            Cell(text=signed(f"{m:.2f}"), note=f"± {s:.2f}", shade=round(5 * float(m) / limit), strong=bool(abs(m) > Z95 * s))
            for m, s in zip(contrast.mean[g], contrast.sd[g], strict=True)
        ]
        rows.append((str(contrast.genes[g]), cells))
    caption = f"θ ± SE by day: the {len(top)} of {len(contrast.genes):,} genes with the largest |z| over days. Framed: |z| > {Z95}."
    return Heat(
        caption=caption,
        corner="gene",
        head=contrast.days,
        rows=rows,
        ends=(f"−{limit:.2g} towards {contrast.reference}", f"+{limit:.2g} towards {contrast.fate}"),
    )


def top_forests(contrast: Contrast, effects: DaywiseEffects) -> list[Figure]:
    """A forest plot for each of the strongest genes."""
    f = effects.fate_index(contrast.fate)
    return [_forest(contrast, effects, f, int(g)) for g in contrast.ranked[:FOREST_GENES]]


def _forest(contrast: Contrast, effects: DaywiseEffects, f: int, g: int) -> Figure:
    own = np.flatnonzero(effects.gene_of_guide == contrast.genes[g])
    shown = own[:FOREST_GUIDES]
    days = range(len(contrast.days))
    best = int(np.abs(contrast.z[g]).argmax())
    with_guides = set(days) if len(days) * (1 + shown.size) <= FOREST_ROWS else {best}
    groups = []
    for d in days:
        rows = [Estimate(name=contrast.days[d], mean=float(contrast.mean[g, d]), sd=float(contrast.sd[g, d]), main=True)]
        if d in with_guides:
            rows += [
                Estimate(name=str(effects.guides[i]), mean=float(effects.beta_mean[i, f, d]), sd=float(effects.beta_sd[i, f, d]), main=False) for i in shown
            ]
        groups.append(rows)
    caption = f"The first {shown.size} of {own.size} guides." if shown.size < own.size else ""
    if len(with_guides) < len(days):
        caption += f" Guides are shown on the strongest day only, {contrast.days[best]}."
    axes = forest_plot(groups, x_label="log-odds", ax=panel(60 + 15 * sum(map(len, groups)) + 7 * len(groups)))
    return Figure(axes=axes, title=str(contrast.genes[g]), caption=caption.strip())
