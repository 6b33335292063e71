"""Options of diagnose-null."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from data_prep.errors import InputError
from fatescreen.options.base import ARGUMENT, SCREEN, Count, Seed
from fatescreen.options.crt import CRTOptions


class DiagnoseOptions(CRTOptions):
    """Options of diagnose-null."""

    screen: Path | None = Field(None, description=SCREEN, json_schema_extra=ARGUMENT)
    h5ad: Path | None = Field(None, description="the same, as an option")
    simulate: bool = Field(False, description="draw a high-MOI screen without effects instead")
    cells: Count = Field(50_000, description="with --simulate: cells")
    programs: Count = Field(70, description="with --simulate: programs")
    genes: Count = Field(300, description="with --simulate: genes, of six guides each")
    confounding: float = Field(0.0, ge=0, description="with --simulate: strength of confounding")
    group_size: Count = Field(6, description="NTC guides in a group: the number of guides that genes have")
    n_ensemble: Count = Field(10, description="random partitions of the NTC guides")
    max_groups: Count | None = Field(None, description="groups in a partition; as many as the guides make by default")
    program: int = Field(0, ge=0, description="number of the program whose null is described unit by unit")
    seed: Seed = Field(0, description="of every random draw; the seeds of grouping and resampling come from it")

    @model_validator(mode="after")
    def _one_screen(self) -> Self:
        if (self.screen is not None) + (self.h5ad is not None) + self.simulate != 1:
            raise InputError("give one screen: SCREEN, or --h5ad FILE, or --simulate.")
        return self

    @property
    def file(self) -> Path | None:
        """The screen's file, if it is not simulated."""
        return self.screen or self.h5ad
