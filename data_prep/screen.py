"""The checked screen, with its invariants."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from data_prep.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Screen:
    """A pooled screen that has passed every check: N cells × guides, fates, days and replicates. `read_screen` makes it.

    Attributes
    ----------
    cells
        Names of the kept cells, (N,).
    guides
        Presence of each mapped guide, NTC guides included: CSR of ones (N, G_all), sorted, no stored zeros.
    guide_names
        Names of the columns of `guides`, (G_all,).
    guide_gene
        Their genes, (G_all,); an NTC guide's is its label.
    is_ntc
        Which of them are NTC, bool (G_all,).
    fate_prob
        Fate probabilities, float64 (N, F); rows sum to 1.
    fate_names
        Names of the fates, (F,), in the order of the columns.
    day
        Day of each cell, int64 (N,): codes into `day_labels`, which are in time order.
    day_labels
        Labels of the days, (D,).
    day_values
        The days as numbers, (D,), or None where they are ordered labels.
    rep
        Replicate of each cell, int64 (N,): codes into `rep_labels`.
    rep_labels
        Labels of the replicates, (R,).
    clusters
        Cluster of each cell for robust errors, int64 (N,), or None.
    simulated
        Whether `uns["real_or_simulated"]` says so.
    dropped
        What was left out, with numbers, for the run record: cells over the guide limit, guides not in the map, guides and genes without cells.

    Raises
    ------
    InputError
        Where the parts disagree in size.

    Examples
    --------
    >>> from data_prep import ScreenDesign, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata)
    >>> screen.guides.shape, screen.fate_names, screen.day_labels
    ((500, 60), ('EC', 'MES', 'NEU'), ('d0', 'd1', 'd2', 'd3'))
    >>> round(screen.moi, 2), screen.dropped["cells_over_max_guides"]
    (5.06, 0)
    """

    cells: np.ndarray
    guides: sp.csr_matrix
    guide_names: np.ndarray
    guide_gene: np.ndarray
    is_ntc: np.ndarray
    fate_prob: np.ndarray
    fate_names: tuple[str, ...]
    day: np.ndarray
    day_labels: tuple[str, ...]
    day_values: tuple[float, ...] | None
    rep: np.ndarray
    rep_labels: tuple[str, ...]
    clusters: np.ndarray | None = None
    simulated: bool = False
    dropped: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the parts agree in size."""
        n, g = self.guides.shape
        sizes = {"cells": self.cells.size, "fate_prob": len(self.fate_prob), "day": self.day.size, "rep": self.rep.size}
        wrong = {k: v for k, v in sizes.items() if v != n}
        if wrong or not (self.guide_names.size == self.guide_gene.size == self.is_ntc.size == g):
            raise InputError(f"the parts of the screen differ in size: guides are {n} × {g}, but {wrong or 'the guide names differ'}.")
        if self.fate_prob.shape[1] != len(self.fate_names):
            raise InputError(f"{self.fate_prob.shape[1]} fate columns but {len(self.fate_names)} fate names.")

    @property
    def moi(self) -> float:
        """Mean number of mapped guides in a cell."""
        return float(self.guides.nnz / max(1, self.guides.shape[0]))
