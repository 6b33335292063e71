"""Calibration section of the report on a fit."""

import numpy as np
from scipy.special import ndtr

from fatescreen.figures import normal_qq_plot, p_histogram
from fatescreen.report.blocks import Block, Figure, Figures, Notice, PlainTable, Prose, Section
from fatescreen.report.inline_svg import panel
from fatescreen.report.numbers import signed
from fatescreen.report.sections.effects import Contrast
from hierarchy.predictive_checks import Checks
from hierarchy.self_check import Controls


def calibration_section(contrast: Contrast, checks: Checks, controls: Controls) -> Section:
    """NTC pseudo-genes, permuted guides, normal QQ plot of the predictive residuals, and histogram of the p-values of all effects."""
    residuals = {"day × replicate": checks.composition["z"].to_numpy(float), "top genes × day": checks.genes["z"].to_numpy(float)}
    figures = [
        Figure(
            axes=normal_qq_plot(residuals, ax=panel(300)),
            title="Residuals of the predictive checks",
            caption="Days and replicates have their own parameters, so their residuals vary less than the diagonal. Residuals that vary more, or heavy tails, "
            "indicate variation of fates that the model does not include.",
        ),
        Figure(
            axes=p_histogram(2 * ndtr(-np.abs(contrast.z)), ax=panel()),
            title="Two-sided p-values of θ, all genes and days",
            caption="Flat, with a peak at the left from genes with effects. Shrinkage of genes without effects raises the right end; a peak at the left that "
            "includes most genes indicates a shift shared by all genes.",
        ),
    ]
    return Section(id="calibration", title="Calibration", blocks=[*_ntc(controls), *_permuted(controls), Figures(items=figures)])


def _ntc(controls: Controls) -> list[Block]:
    """Notice, table and QQ plot of the NTC pseudo-genes."""
    check = controls.ntc
    if check is None:
        return [Prose(text=["There are too few NTC guides in cells for NTC pseudo-genes, or the posterior is not gene_block."])]
    whole = check.table.iloc[-1]
    title = f"z-scores of NTC pseudo-genes have an SD of {whole['sd']:.2f} ({whole['low']:.2f} to {whole['high']:.2f})"
    texts = [
        "NTC guides in random groups of the sizes of the genes have no effect, so their z-scores should have a mean of 0 and an SD of 1. "
        "An SD above 1 indicates standard errors that are too small: cells share noise (clones, probabilities smoothed over neighbours), "
        "or a batch is missing from the model. The intervals hold together at 95 %.",
        f"Standard errors were multiplied by {check.factor:.3f} (--calibrate-on-ntc)."
        if controls.calibrated
        else f"--calibrate-on-ntc would multiply standard errors by {check.factor:.3f}.",
    ]
    rows = [(str(r.day), f"{r.freedom:,}", signed(f"{r.mean:.2f}"), f"{r.sd:.2f}", f"{r.low:.2f} to {r.high:.2f}") for r in check.table.itertuples()]
    figure = Figure(
        axes=normal_qq_plot({"NTC pseudo-genes": check.z[np.isfinite(check.z)]}, ax=panel(300), y_label="z"),
        title="z-scores of NTC pseudo-genes",
        caption="One of 20 partitions into groups, all days and non-reference fates. Points should follow the diagonal.",
    )
    return [
        Notice(tone="bad" if len(check.wrong) else "good", title=title, text=texts),
        PlainTable(caption="z-scores of NTC pseudo-genes", head=("day", "degrees of freedom", "mean", "SD", "interval of the SD"), rows=rows),
        Figures(items=[figure]),
    ]


def _permuted(controls: Controls) -> list[Block]:
    own = controls.permuted
    if own is None:
        return []
    share, low, high = (f"{100 * value:.1f}" for value in (own.share, own.low, own.high))
    return [Prose(text=[f"With permuted guides, {share} % of the estimates have |z| > 1.96 (interval {low} to {high} %); 5 % are expected."])]
