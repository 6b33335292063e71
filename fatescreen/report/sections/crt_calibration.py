"""Calibration section of the report on conditional randomization tests."""

from typing import Any

import numpy as np

from crt.results import CRTResult
from fatescreen.figures import p_histogram, qq_plot
from fatescreen.report.blocks import Block, Figure, Figures, Prose, Section
from fatescreen.report.inline_svg import panel


def calibration_section(result: CRTResult) -> Section:
    """QQ plot and histogram of the p-values, and how many propensity and skew-normal fits failed."""
    raw, skew = result.table["p_raw"].to_numpy(float), result.table["p_skew"].to_numpy(float)
    saddlepoint = result.settings["method"] == "saddlepoint"
    given = {"saddlepoint": result.table["p"].to_numpy(float)} if saddlepoint else {"empirical": raw, "skew-normal": skew}
    curves = {name: p for name, p in given.items() if np.isfinite(p).any()}
    units = result.treated_df
    failed, separated = int((~units["propensity_converged"].astype(bool)).sum()), int(units["propensity_separated"].astype(bool).sum())
    why, count = ("saddlepoint approximation is not accurate", "n_resampled") if saddlepoint else ("skew-normal fit was rejected", "n_skew_fallback")
    text = [
        f"Propensity fits that did not converge: {failed:,}; with separation: {separated:,}. Tests that report the empirical p-value because the {why}: "
        f"{int(units[count].sum()):,}."
    ]
    figures: list[Block] = [Figures(items=_figures(curves, result))] if curves else [Prose(text=["No test has a defined p-value."])]
    return Section(id="calibration", title="Calibration", blocks=[*figures, Prose(text=text)])


def _figures(curves: dict[str, Any], result: CRTResult) -> list[Figure]:
    most = 0 if "saddlepoint" in curves else result.treated_df["n_resamples"].max()
    used = curves["skew-normal" if "skew-normal" in curves and result.settings.get("calibrated") else next(iter(curves))]
    return [
        Figure(
            axes=qq_plot(curves, floor=1 / (float(most) + 1) if most else None, ax=panel(300)),
            title="QQ plot of p-values",
            caption="All defined tests. The curve should follow the band and rise above it only at the right, where the effects are. If it leaves the band "
            "early or lies below it, the null distribution may be wrong: run diagnose-null.",
        ),
        Figure(
            axes=p_histogram(used, ax=panel()),
            title="Histogram of p-values",
            caption="Without effects the histogram is flat; effects add a peak at the left. A peak at the right or a slope indicates miscalibration.",
        ),
    ]
