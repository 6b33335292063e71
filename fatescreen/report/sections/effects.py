"""Results section of the report on a fit: ranked table, volcano plot, heat map, forest plots."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import log_ndtr, ndtr

from fatescreen.figures import Estimate, forest_plot
from fatescreen.report.blocks import Block, Cell, Choice, Column, Figure, Figures, Heading, Heat, More, Prose, Section, Table, Volcano
from fatescreen.report.inline_svg import panel
from fatescreen.report.numbers import signed
from fatescreen.report.sections.limits import FOREST_GENES, FOREST_GUIDES, FOREST_ROWS, HEAT_GENES, OPEN_FORESTS
from hierarchy.effects import ContrastEffects, DaywiseEffects

Z95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """Effects on the log-odds of one fate against another.

    Attributes
    ----------
    fate
        Name of the fate.
    reference
        Name of the fate that it is compared with.
    genes
        Names of the genes.
    days
        Labels of the days.
    mean
        Posterior mean of θ, genes × days; NaN where no cell carries a guide of the gene.
    sd
        Posterior standard deviation of θ, genes × days; NaN likewise.
    """

    fate: str
    reference: str
    genes: np.ndarray
    days: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, effects: DaywiseEffects, contrast: str) -> "Contrast":
        """The effects in a contrast of fates."""
        own = effects.of_genes(contrast)
        mean, sd = (np.where(own.cells > 0, values, np.nan) for values in (own.mean, own.sd))
        return cls(fate=own.fate, reference=own.against, genes=effects.genes, days=effects.days, mean=mean, sd=sd)

    @property
    def z(self) -> np.ndarray:
        """z-scores of θ, genes × days; NaN where there are no cells."""
        return self.mean / self.sd

    @property
    def size(self) -> np.ndarray:
        """|z|, and 0 where there are no cells."""
        return np.nan_to_num(np.abs(self.z), nan=0.0)

    @property
    def ranked(self) -> np.ndarray:
        """Positions of the genes in order of their largest |z| over days."""
        return np.argsort(-self.size.max(1), kind="stable")


def results_section(contrasts: Sequence[Contrast], effects: DaywiseEffects) -> Section:
    """Ranked table, volcano plot, heat map and forest plots of the first contrast, and the same without forest plots of the others."""
    contrast = contrasts[0]
    forests = top_forests(contrast, effects)
    intro = (
        f"Effects θ are differences in the log-odds of {contrast.fate} against {contrast.reference} in cells that carry a guide of the gene: +0.69 doubles the "
        "odds. Effects are posterior means and SE is the posterior SD; gene_daywise_for_mash.csv has the likelihood-type estimates, which are not shrunk. "
        "An empty field means that no cell carries a guide of the gene on that day."
    )
    blocks: list[Block] = [
        _table(contrast, 0),
        _volcano(contrast, 0),
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
    for i, other in enumerate(contrasts[1:], 1):
        blocks.append(More(title=f"Effects on {other.fate} against {other.reference}", blocks=[_table(other, i), _volcano(other, i), _heat(other)]))
    return Section(id="results", title="Results", blocks=blocks, intro=intro)


def ranked_frame(contrast: Contrast) -> pd.DataFrame:
    """One row for each gene, in order of |z|: gene, day, z, lfsr, and for each day the effect, its SE and −log10 of the two-sided p-value."""
    order, z = contrast.ranked, contrast.z
    best = contrast.size.argmax(1)
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


def _table(contrast: Contrast, number: int) -> Table:
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
    full = "effects.csv" if number else "gene_daywise_posterior.csv"
    return Table(id=_numbered("genes", number), caption=caption, columns=columns, frame=frame, total=len(frame), full=full)


def _numbered(name: str, number: int) -> str:
    """An identifier, unique in the page."""
    return f"{name}-{number}" if number else name


def _volcano(contrast: Contrast, number: int) -> Volcano:
    return Volcano(
        id=_numbered("volcano", number),
        title="Volcano plot by day",
        caption=f"Each point is a gene; those with |z| > {Z95} on the chosen day are coloured. “Find” marks genes by name.",
        table=_numbered("genes", number),
        names=("gene",),
        chooser="Day",
        choices=[Choice(label=day, x=f"effect_{d}", y=f"y_{d}") for d, day in enumerate(contrast.days)],
        x_label=f"θ, log-odds of {contrast.fate}",
        y_label="−log10 p",
        flag=("", 1.3010),
        flag_label=f"with |z| > {Z95}",
        first=int(contrast.size.max(0).argmax()),
    )


def _heat(contrast: Contrast) -> Heat:
    top = contrast.ranked[:HEAT_GENES]
    limit = max(float(np.nan_to_num(np.abs(contrast.mean[top])).max(initial=0.0)), 1e-12)
    rows = []
    for g in top:
        cells = [
            Cell(text="", note="no cells")
            if np.isnan(m)
            else Cell(text=signed(f"{m:.2f}"), note=f"± {s:.2f}", shade=round(5 * float(m) / limit), strong=bool(abs(m) > Z95 * s))
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
    guides = effects.of_guides(f"{contrast.fate}:{contrast.reference}")
    return [_forest(contrast, effects, guides, int(g)) for g in contrast.ranked[:FOREST_GENES]]


def _forest(contrast: Contrast, effects: DaywiseEffects, guides: ContrastEffects, g: int) -> Figure:
    own = np.flatnonzero(effects.gene_of_guide == contrast.genes[g])
    shown = own[:FOREST_GUIDES]
    days = range(len(contrast.days))
    best = int(contrast.size[g].argmax())
    with_guides = set(days) if len(days) * (1 + shown.size) <= FOREST_ROWS else {best}
    groups = []
    for d in days:
        rows = [Estimate(name=contrast.days[d], mean=float(contrast.mean[g, d]), sd=float(contrast.sd[g, d]), main=True)]
        if d in with_guides:
            rows += [_guide_row(effects, guides, int(i), d) for i in shown]
        groups.append(rows)
    caption = f"The first {shown.size} of {own.size} guides." if shown.size < own.size else ""
    if len(with_guides) < len(days):
        caption += f" Guides are shown on the strongest day only, {contrast.days[best]}."
    axes = forest_plot(groups, x_label="log-odds", ax=panel(60 + 15 * sum(map(len, groups)) + 7 * len(groups)))
    return Figure(axes=axes, title=str(contrast.genes[g]), caption=caption.strip())


def _guide_row(effects: DaywiseEffects, guides: ContrastEffects, i: int, d: int) -> Estimate:
    mean, sd = (float(values[i, d]) if guides.cells[i, d] else float("nan") for values in (guides.mean, guides.sd))
    return Estimate(name=str(effects.guides[i]), mean=mean, sd=sd, main=False)
