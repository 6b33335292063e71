"""Options of fit-hierarchy."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data_prep.errors import InputError
from data_prep.read.screen import ScreenKeys
from fatescreen.options.base import ARGUMENT, SCREEN, Count, ScreenOptions, Seed
from hierarchy.settings import FitSettings, PosteriorName

_DEFAULT, _KEYS = FitSettings(), ScreenKeys()


class FitOptions(ScreenOptions):
    """Options of fit-hierarchy."""

    guide_key: str = Field(_KEYS.guide, description="key of the guides of each cell, in obsm, layers or a MuData modality")
    guide_names_key: str = Field(_KEYS.guide_names, description="uns key of the guide names, where the guides are a bare matrix")
    covar_key: str = Field(_KEYS.covar, description="obsm key of the covariates")
    screen: Path = Field(description=SCREEN, json_schema_extra=ARGUMENT)
    fate_key: str = Field(_KEYS.fate, description="obsm key of the fate probabilities")
    day_key: str = Field(_KEYS.day, description="obs key of the day")
    rep_key: str = Field(_KEYS.rep, description="replicate column, in obsm[covar-key] or obs")
    ref_fate: str = Field("EC", description="reference fate, the zero of the softmax")
    contrast_fate: str = Field("MES", description="fate whose effects are exported")
    max_guides_per_cell: Count = Field(20, description="cells with more guides are dropped")
    posterior: PosteriorName = Field(_DEFAULT.posterior, description="posterior family")
    likelihood_weight: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        _DEFAULT.likelihood_weight, description="'auto' (from the Pearson dispersion) or a positive number"
    )
    se: Literal["posterior", "sandwich"] = Field(_DEFAULT.se, description="errors of the posterior, or robust to noise that cells of a cluster share")
    cluster_key: str | None = Field(
        None, description="with --se sandwich: columns in obs or obsm[covar-key], joined by '+', whose cells share noise; each cell alone without it"
    )
    center_guides: bool = Field(_DEFAULT.center_guides, description="centre guide deviations within genes; off only to show what it mends")
    draws: int = Field(1000, ge=2, description="posterior draws, for posterior.nc and for families without closed-form moments")
    save_posterior: bool = Field(False, description="also write posterior.nc, for which ArviZ must be installed")
    max_steps: Count | None = Field(None, description="most steps; by default 60 for gene_block, 20000 for mean_field")
    device: str = Field("auto", description="auto, cpu or cuda")
    cache: Path | None = Field(None, description="a .pt file that keeps the tensors between runs")
    resume: bool = Field(True, description="go on from the checkpoint of a run that was stopped")
    seed: Seed = Field(_DEFAULT.seed, description="of every random draw")

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
