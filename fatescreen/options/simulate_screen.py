"""Options of simulate-screen."""

from pydantic import Field

from data_prep.errors import InputError
from data_prep.simulate.design import EffectKind, ScreenDesign
from fatescreen.options.base import Count, Names, Options, Out, Seed

_DESIGN = ScreenDesign()


class SimulateOptions(Options):
    """Simulate a pooled CRISPR screen over days, with its truth: screen.h5ad, guide_map.csv, truth.csv."""

    out: Out
    cells: Count = Field(_DESIGN.n_cells, description="number of cells")
    genes: Count = Field(_DESIGN.n_genes, description="number of target genes")
    guides_per_gene: str | Count = Field(str(_DESIGN.guides_per_gene), description="number of guides per gene: a number, or low-high")
    ntc_guides: int = Field(_DESIGN.n_ntc_guides, ge=0, description="number of non-targeting guides")
    days: Count = Field(_DESIGN.n_days, description="number of days")
    reps: Count = Field(_DESIGN.n_reps, description="number of replicates")
    fates: Names = Field(_DESIGN.fates, description="names of the fates, the reference first")
    moi: float = Field(_DESIGN.moi, gt=0, le=1000, description="mean number of guides per cell (MOI)")
    concentration: float = Field(50.0, gt=0, le=1e12, description="Dirichlet precision of the fate probabilities")
    one_hot: bool = Field(False, description="whether each cell has a single fate instead of fate probabilities")
    effects: EffectKind = Field(
        _DESIGN.effects,
        description="effects on single days (daylocal), on all days (constant), until a day (early), from a day on (late), on days in the middle (transient), "
        "or the model's random walk over days (model)",
    )
    seed: Seed = 0

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
