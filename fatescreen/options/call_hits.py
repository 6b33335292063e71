"""Options of call-hits."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from fatescreen.options.base import Count, Names, Options, Seed


class HitOptions(Options):
    """Rank the genes of a fit by multivariate adaptive shrinkage (mash): days, signs and patterns with local false sign rates, in hits.csv."""

    fit: CliPositionalArg[Path] = Field(description="output folder of fit-hierarchy")
    out: Path | None = Field(None, description="folder for the results; the folder hits in FIT if not given")
    report: bool = Field(True, description="whether to write report.html")
    contrast_fate: Names | None = Field(None, description="contrasts of the fit that are analysed; all if not given")
    joint: bool = Field(False, description="whether days and contrasts are analysed jointly, so that an effect in one contrast is evidence in the others")
    covariances: Literal["auto", "mashr", "canonical"] = Field(
        "auto", description="covariances of effects over days: canonical, temporal and data-driven (auto), without the temporal ones (mashr), or canonical only"
    )
    null_weight: float = Field(10.0, ge=1, le=1e6, description="penalty that prefers the null where the data do not decide; 1 for none")
    draws: Count = Field(500, description="number of posterior draws from which the patterns are computed")
    truth: Path | None = Field(None, description="truth.csv of a simulation, with which the hits are compared")
    seed: Seed = 0

    def settings(self) -> dict[str, Any]:
        """Arguments of `call_hits`."""
        return {"covariances": self.covariances, "null_weight": self.null_weight, "n_draws": self.draws, "seed": self.seed}
