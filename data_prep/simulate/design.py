"""Sizes and effects of a simulated screen."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from data_prep.errors import InputError, first_few, whole_number
from data_prep.memory import require_memory

EffectKind = Literal["daylocal", "constant", "early", "late", "transient", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenDesign:
    """Sizes and effects of a simulated screen; the defaults give a small high-MOI screen.

    Attributes
    ----------
    n_cells
        Number of cells.
    n_genes
        Number of target genes.
    guides_per_gene
        Number of guides of each gene, or (low, high) for a uniform draw for each gene.
    n_ntc_guides
        Number of non-targeting guides.
    n_days
        Number of days.
    n_reps
        Number of replicates.
    fates
        Names of the fates; the first is the reference.
    moi
        Mean number of guides in a cell (Poisson; a guide that is drawn twice is present once).
    concentration
        Dirichlet precision of the fate probabilities; None for one-hot fates.
    effects
        Effects of size 0.2–1.0 and either sign: "daylocal" on each day in another share `frac_active` of the genes; or in one share of the genes, "constant" on
        all days, "early" until a random day, "late" from a random day on, or "transient" on days between the first and the last. "model": the random walk of
        the hierarchical model in all genes but a share `frac_null`.
    frac_active
        Share of genes with an effect, on each day with "daylocal"; not used by "model".
    frac_null
        Share of genes without any effect ("model").
    tau
        SD of the first day's effects ("model").
    sigma_time
        SD of the steps between days ("model").
    sigma_guide
        SD of the guides' deviations from their gene.
    burden_slope
        Change of the logit of every non-reference fate for each guide in a cell.
    day_weights
        Relative numbers of cells on the days; None for equal numbers.

    Raises
    ------
    InputError
        If a size, a scale or a share is out of range.

    Examples
    --------
    >>> from data_prep import ScreenDesign
    >>> ScreenDesign(n_cells=1000, guides_per_gene=(1, 12)).guide_range
    (1, 12)
    """

    n_cells: int = 20_000
    n_genes: int = 100
    guides_per_gene: int | tuple[int, int] = 6
    n_ntc_guides: int = 30
    n_days: int = 4
    n_reps: int = 2
    fates: tuple[str, ...] = ("EC", "MES", "NEU")
    moi: float = 5.5
    concentration: float | None = 50.0
    effects: EffectKind = "daylocal"
    frac_active: float = 0.1
    frac_null: float = 0.2
    tau: float = 0.4
    sigma_time: float = 0.25
    sigma_guide: float = 0.2
    burden_slope: float = -0.03
    day_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check the sizes."""
        least = {"n_cells": 1, "n_genes": 1, "n_ntc_guides": 0, "n_days": 1, "n_reps": 1}
        for name, low in least.items():
            whole_number(name, getattr(self, name), least=low)
        require_memory(100 * self.n_cells, f"{self.n_cells:,} cells", "n_cells")  # a name and a few numbers each
        if len(set(self.fates)) != len(self.fates) or len(self.fates) < 2:
            raise InputError(f"fates must be two or more different names, not {self.fates}.", "fates")
        if len(self.guide_range) != 2 or not 1 <= self.guide_range[0] <= self.guide_range[1]:
            raise InputError(f"guides_per_gene is {self.guides_per_gene}; it must be at least 1, or (low, high) with 1 <= low <= high.", "guides_per_gene")
        n_guides = self.n_genes * self.guide_range[1] + self.n_ntc_guides
        require_memory(100 * n_guides, f"{n_guides:,} guides", "n_genes", "guides_per_gene", "n_ntc_guides")
        require_memory(8 * self.n_genes * self.n_days, f"effects of {self.n_genes:,} genes on {self.n_days:,} days", "n_genes", "n_days")
        if not 0 < self.moi < np.inf or not (self.concentration is None or 0 < self.concentration < np.inf):
            given = f"moi is {self.moi} and concentration {self.concentration}"
            raise InputError(f"{given}; they must be positive and finite (concentration may be None).", "moi", "concentration")
        for name in ("tau", "sigma_time", "sigma_guide"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 0.", name)
        for name in ("frac_active", "frac_null"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be from 0 to 1.", name)
        if self.effects not in get_args(EffectKind):
            raise InputError(f"effects is {self.effects!r}; choose {first_few(map(repr, get_args(EffectKind)), 10)}.", "effects")
        if self.n_days < (least_days := {"early": 2, "late": 2, "transient": 3}.get(self.effects, 1)):
            raise InputError(f"effects are {self.effects!r}, which takes at least {least_days} days; n_days is {self.n_days}.", "effects", "n_days")
        if self.day_weights is not None and len(self.day_weights) != self.n_days:
            raise InputError(f"day_weights has {len(self.day_weights)} entries for {self.n_days} days. Give one for each day.", "day_weights")
        if self.day_weights is not None and not (min(self.day_weights) >= 0 and sum(self.day_weights) > 0):
            raise InputError(f"day_weights are {self.day_weights}; they must be at least 0, and one must be positive.", "day_weights")

    @property
    def guide_range(self) -> tuple[int, int]:
        """Minimum and maximum number of guides of a gene."""
        g = self.guides_per_gene
        return (int(g), int(g)) if isinstance(g, (int, np.integer)) else g
