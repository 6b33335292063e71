"""Options of fit-hierarchy."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from data_prep.errors import InputError, first_few
from data_prep.read.keys import ScreenKeys
from fatescreen.options.base import KEYS, Count, Memory, Names, Resume, Scheduler, Screen, ScreenOptions, Seed
from hierarchy.settings import FitSettings, PosteriorName

if TYPE_CHECKING:
    from torch import Tensor

_FIT = FitSettings()


class FitOptions(ScreenOptions):
    """Fit the guide → gene hierarchy of a screen and write gene_daywise_for_mash.csv."""

    screen: Screen
    fate_key: str = Field(KEYS.fate, description="obsm key of the fate probabilities")
    day_key: str = Field(KEYS.day, description="obs key of the day")
    rep_key: str = Field(KEYS.rep, description="replicate column, in obsm[covar-key] or obs")
    ref_fate: str = Field("EC", description="reference fate, the zero of the softmax")
    contrast_fate: str = Field(
        "MES",
        description="contrasts to export, separated by commas: a fate (against the reference) or two fates as A:B; the first is that of the tables",
    )
    day_gaps: Names | None = Field(
        None,
        description="gaps between days, separated by commas, or 'labels' for the differences of the numbers in the day labels: effects change by a random walk "
        "with one variance for each unit of time; if not given, each step between days has its own variance",
    )
    max_guides_per_cell: Count = Field(20, description="maximum number of guides in a cell; cells with more are dropped")
    posterior: PosteriorName = Field(_FIT.posterior, description="posterior family")
    likelihood_weight: Literal["auto", "common"] | Annotated[float, Field(gt=0)] = Field(
        _FIT.likelihood_weight,
        description="likelihood weight: 'auto' (from the Pearson dispersion, by day and replicate), 'common' (one for all cells) or a positive number",
    )
    se: Literal["posterior", "sandwich"] = Field(
        _FIT.se, description="standard errors: of the posterior, or a sandwich estimate that is robust to noise shared by the cells of a cluster"
    )
    cluster_key: str | None = Field(
        None, description="with --se sandwich: cluster columns in obs or obsm[covar-key], joined by '+'; each cell is its own cluster if not given"
    )
    calibrate_on_ntc: bool = Field(False, description="whether to multiply standard errors by the SD of the z-scores of NTC pseudo-genes, shrunk to 1")
    check: Literal["permutation"] | None = Field(None, description="a check that takes as long as the fit: 'permutation' refits with permuted guides")
    center_guides: bool = Field(
        _FIT.center_guides, description="whether guide deviations are centred within genes; switched off only to compare with the uncentred model"
    )
    draws: int = Field(1000, ge=2, description="number of posterior draws, for posterior.nc and for families without closed-form moments")
    save_posterior: bool = Field(False, description="whether to write posterior.nc as well (requires ArviZ)")
    max_steps: Count | None = Field(None, description="maximum number of steps; if not given, 60 for gene_block and 20000 for mean_field")
    device: str = Field("auto", description="device for the fit: auto, cpu or cuda")
    memory: Memory = None
    scheduler: Scheduler = None
    cache: Path | None = Field(None, description=".pt file that keeps the tensors between runs")
    resume: Resume = None
    seed: Seed = _FIT.seed

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.cluster_key is not None and self.se != "sandwich":
            raise InputError("--cluster-key is for --se sandwich.")
        self.settings()
        return self

    def settings(self) -> FitSettings:
        """How to fit."""
        return FitSettings(
            posterior=self.posterior,
            likelihood_weight=self.likelihood_weight,
            se=self.se,
            center_guides=self.center_guides,
            max_steps=self.max_steps,
            seed=self.seed,
        )

    def keys(self) -> ScreenKeys:
        """Where the parts of the screen are."""
        return ScreenKeys(
            fate=self.fate_key,
            guide=self.guide_key,
            day=self.day_key,
            rep=self.rep_key,
            covar=self.covar_key,
            guide_names=self.guide_names_key,
            cluster=self.cluster_key,
        )

    def time_scale(self, days: Sequence[str]) -> "Tensor | None":
        """Multipliers of the random walk's steps, if there are gaps: square roots of the gaps between days over their mean."""
        import torch

        if self.day_gaps is None:
            return None
        gaps = list(self.day_gaps)
        given, n_steps = ", ".join(gaps), len(days) - 1
        if gaps == ["labels"]:
            numbers = [re.findall(r"(?:(?<!\w)-)?\d+(?:\.\d+)?", label) for label in days]
            gaps = [] if any(len(own) != 1 for own in numbers) else [str(float(b) - float(a)) for (a,), (b,) in pairwise(numbers)]
            given = f"labels ({first_few(days)})"
        try:
            found = torch.tensor([float(gap) for gap in gaps], dtype=torch.float64)
        except ValueError:
            found = torch.zeros(0)
        if len(found) != n_steps or not bool(((found > 0) & found.isfinite()).all()):
            raise InputError(f"day_gaps is {given}; it must be {n_steps} positive numbers, the gaps between {first_few(days)}.", "day_gaps")
        return (found / found.mean()).sqrt()
