"""Options of diagnose-null."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from data_prep.errors import InputError
from fatescreen.options.base import SCREEN, Count, Seed
from fatescreen.options.crt import CRTOptions

SIMULATED = "with --simulate: "


class DiagnoseOptions(CRTOptions):
    """Check whether the p-values of a screen are calibrated, by genes and NTC groups, and if not, which of the causes A-D explains it."""

    screen: CliPositionalArg[Path | None] = Field(None, description=SCREEN)
    h5ad: Path | None = Field(None, description="screen, as an option instead of an argument")
    simulate: bool = Field(False, description="whether to simulate a high-MOI screen without effects instead of reading one")
    cells: Count = Field(50_000, description=f"{SIMULATED}number of cells")
    programs: Count = Field(70, description=f"{SIMULATED}number of programs")
    genes: Count = Field(300, description=f"{SIMULATED}number of target genes, with six guides each")
    confounding: float = Field(0.0, ge=0, description=f"{SIMULATED}strength of confounding between guides and programs")
    group_size: Count | None = Field(None, description="number of NTC guides in a group; the genes' median number of guides if not given")
    n_ensemble: Count = Field(10, description="number of random partitions of the NTC guides")
    max_groups: Count | None = Field(None, description="maximum number of groups in a partition; no maximum if not given")
    program: int = Field(0, ge=0, description="index of the program whose null is described for each unit")
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_screen(self) -> Self:
        if (self.screen is not None) + (self.h5ad is not None) + self.simulate != 1:
            raise InputError("give one screen: SCREEN, or --h5ad FILE, or --simulate.")
        return self

    @property
    def file(self) -> Path | None:
        """The screen's file, if it is not simulated."""
        return self.screen or self.h5ad
