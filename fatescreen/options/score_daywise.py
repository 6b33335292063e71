"""Options of score-daywise."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from fatescreen.options.base import Options


class ScoreOptions(Options):
    """Compare daywise effects with the truth of a simulation: true and false positives, RMSE, correlation and interval coverage of each day."""

    table: CliPositionalArg[Path] = Field(description="table of effects: gene_daywise_for_mash.csv")
    truth: CliPositionalArg[Path] = Field(description="truth.csv of the simulation")
    uncentred: Path | None = Field(None, description="table of effects from a fit without centring, for comparison")
    contrast_fate: str = Field("MES", description="fate whose effects are in the table")
    level: float = Field(0.9, gt=0, lt=1, description="nominal coverage of the intervals")
    out: Path | None = Field(None, description="folder for scores.csv; not written if not given")
