"""Calibration section of the report on a fit."""

import numpy as np
from scipy.special import ndtr

from fatescreen.figures import normal_qq_plot, p_histogram
from fatescreen.report.blocks import Figure, Figures, Section
from fatescreen.report.inline_svg import panel
from fatescreen.report.sections.effects import Contrast
from hierarchy.predictive_checks import Checks


def calibration_section(contrast: Contrast, checks: Checks) -> Section:
    """Normal QQ plot of the predictive residuals, and histogram of the p-values of all effects."""
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
    return Section(id="calibration", title="Calibration", blocks=[Figures(items=figures)])
