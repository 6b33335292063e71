"""The checked screen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int64, Shaped

from data_prep.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Screen:
    """A pooled screen that has passed every check: N cells, G guides (NTC guides included), F fates. `read_screen` makes it.

    Attributes
    ----------
    cells
        Names of the kept cells, (N,).
    guides
        Presence of the guides in the cells, (N, G): a CSR matrix of ones with sorted indices and no stored zeros.
    guide_names
        Names of the guides, (G,).
    guide_gene
        Gene of each guide, (G,); for an NTC guide its label.
    is_ntc
        Whether each guide is non-targeting, bool (G,).
    fate_prob
        Fate probabilities, float64 (N, F); rows sum to 1.
    fate_names
        Names of the fates in the order of the columns, length F.
    day
        Day of each cell as an index into `day_labels`, int64 (N,).
    day_labels
        Labels of the days in time order.
    rep
        Replicate of each cell as an index into `rep_labels`, int64 (N,).
    rep_labels
        Labels of the replicates in sorted order.
    clusters
        Cluster of each cell for robust standard errors, int64 (N,), or None.
    simulated
        Whether `uns["real_or_simulated"]` is "SIMULATED".
    dropped
        Cells over the guide limit, guides that are not in the map, and guides and genes without cells: the numbers or names that were left out.

    Raises
    ------
    InputError
        If the parts differ in size.

    Examples
    --------
    >>> from data_prep import ScreenDesign, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata)
    >>> screen.guides.shape, screen.fate_names, screen.day_labels
    ((500, 60), ('EC', 'MES', 'NEU'), ('d0', 'd1', 'd2', 'd3'))
    >>> round(screen.moi, 2), screen.dropped["cells_over_max_guides"]
    (5.06, 0)
    """

    cells: Shaped[np.ndarray, " cells"]
    guides: sp.csr_matrix
    guide_names: Shaped[np.ndarray, " guides"]
    guide_gene: Shaped[np.ndarray, " guides"]
    is_ntc: Bool[np.ndarray, " guides"]
    fate_prob: Float64[np.ndarray, "cells fates"]
    fate_names: tuple[str, ...]
    day: Int64[np.ndarray, " cells"]
    day_labels: tuple[str, ...]
    rep: Int64[np.ndarray, " cells"]
    rep_labels: tuple[str, ...]
    clusters: Int64[np.ndarray, " cells"] | None = None
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
