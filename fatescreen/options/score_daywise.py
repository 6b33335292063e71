"""Options of score-daywise."""

from pathlib import Path

from pydantic import Field

from fatescreen.options.base import ARGUMENT, Options


class ScoreOptions(Options):
    """Options of score-daywise."""

    table: Path = Field(description="gene_daywise_for_mash.csv", json_schema_extra=ARGUMENT)
    truth: Path = Field(description="truth.csv of the simulation", json_schema_extra=ARGUMENT)
    uncentred: Path | None = Field(None, description="the same table from a fit without centring, to compare")
    contrast_fate: str = Field("MES", description="fate of the truth that the table is of")
    level: float = Field(0.9, gt=0, lt=1, description="nominal coverage of the intervals")
    out: Path | None = Field(None, description="also write scores.csv in this folder")
