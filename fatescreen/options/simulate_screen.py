"""Options of simulate-screen."""

from typing import Literal

from pydantic import Field

from data_prep.errors import InputError
from data_prep.simulate.fates import ScreenDesign
from fatescreen.options.base import Count, Names, OutOptions, Seed


class SimulateOptions(OutOptions):
    """Options of simulate-screen."""

    cells: Count = Field(20_000, description="number of cells")
    genes: Count = Field(100, description="number of target genes")
    guides_per_gene: str | Count = Field("6", description="guides of each gene: a number, or low-high")
    ntc_guides: int = Field(30, ge=0, description="number of non-targeting guides")
    days: Count = Field(4, description="number of days")
    reps: Count = Field(2, description="number of replicates")
    fates: Names = Field(("EC", "MES", "NEU"), description="names of the fates, the reference first")
    moi: float = Field(5.5, gt=0, le=1000, description="mean guides in a cell")
    concentration: float = Field(50.0, gt=0, le=1e12, description="Dirichlet precision of the fate probabilities")
    one_hot: bool = Field(False, description="one fate for each cell in place of probabilities")
    effects: Literal["daylocal", "model"] = Field("daylocal", description="effects on single days, or the model's random walk")
    seed: Seed = Field(0, description="of the random draws")

    def design(self) -> ScreenDesign:
        """The simulator's settings."""
        return ScreenDesign(
            n_cells=self.cells,
            n_genes=self.genes,
            guides_per_gene=_guides(str(self.guides_per_gene)),
            n_ntc_guides=self.ntc_guides,
            n_days=self.days,
            n_reps=self.reps,
            fates=self.fates,
            moi=self.moi,
            concentration=None if self.one_hot else self.concentration,
            effects=self.effects,
        )


def _guides(text: str) -> int | tuple[int, int]:
    try:
        ends = [int(part) for part in text.split("-")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2) or ends != sorted(ends):
        raise InputError(f"--guides-per-gene is {text!r}; give a number (6) or a range (1-12).")
    return ends[0] if len(ends) == 1 else (ends[0], ends[1])
