"""Simulated screens with fate probabilities, and their true effects."""

from dataclasses import dataclass
from typing import Literal, get_args

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float64

from data_prep.errors import InputError, first_few, whole_number
from data_prep.read.guide_map import GuideMap

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
        if len(set(self.fates)) != len(self.fates) or len(self.fates) < 2:
            raise InputError(f"fates must be two or more different names, not {self.fates}.", "fates")
        if len(self.guide_range) != 2 or not 1 <= self.guide_range[0] <= self.guide_range[1]:
            raise InputError(f"guides_per_gene is {self.guides_per_gene}; it must be at least 1, or (low, high) with 1 <= low <= high.", "guides_per_gene")
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedScreen:
    """A simulated screen with its true effects. `simulate_fate_screen` makes it.

    Attributes
    ----------
    adata
        The screen, with the default keys of `ScreenKeys`.
    guide_map
        Table of the guides: guide_name, gene_name, is_ntc.
    truth
        Table of the gene effects: gene, fate, day, theta, with a row for each gene, non-reference fate and day.
    theta
        Gene effects in log-odds relative to the reference fate, (L, F − 1, D).
    delta
        Deviations of the guides from their gene, centred within each gene, in log-odds, (G, F − 1).

    Examples
    --------
    >>> from data_prep import ScreenDesign, simulate_fate_screen
    >>> simulated = simulate_fate_screen(ScreenDesign(n_cells=300, n_genes=4, guides_per_gene=2), seed=1)
    >>> sorted(simulated.adata.obsm), simulated.theta.shape, simulated.delta.shape
    (['covar', 'guide', 'lineages_fwd'], (4, 2, 4), (8, 2))
    >>> list(simulated.truth.columns)
    ['gene', 'fate', 'day', 'theta']
    """

    adata: ad.AnnData
    guide_map: pd.DataFrame
    truth: pd.DataFrame
    theta: Float64[np.ndarray, "genes fates days"]
    delta: Float64[np.ndarray, "guides fates"]


def simulate_fate_screen(design: ScreenDesign | None = None, *, seed: int = 0) -> SimulatedScreen:
    """Simulate a screen with known effects.

    The fate logits of a cell are α_fd + b_fr + γ k + Σ_g (θ + δ), with k its guide burden minus the mean of its day; δ is centred within each gene.

    Parameters
    ----------
    design
        Sizes and effects; by default those of `ScreenDesign`.
    seed
        Random seed, at least 0.

    Returns
    -------
    SimulatedScreen
        The screen as AnnData, its guide map, and its true effects.

    Examples
    --------
    >>> from data_prep import ScreenDesign, simulate_fate_screen
    >>> simulated = simulate_fate_screen(ScreenDesign(n_cells=300, n_genes=4), seed=1)
    >>> simulated.adata.n_obs, len(simulated.guide_map)
    (300, 54)
    """
    d = design or ScreenDesign()
    whole_number("seed", seed, least=0)
    rng = np.random.default_rng(seed)
    n_free = len(d.fates) - 1
    low, high = d.guide_range
    per_gene = rng.integers(low, high + 1, d.n_genes)
    gene = np.repeat(np.arange(d.n_genes), per_gene)
    theta = _effects(d, n_free, rng)
    delta = rng.normal(0, d.sigma_guide, (gene.size, n_free))
    mean = np.stack([np.bincount(gene, delta[:, f], d.n_genes) / per_gene for f in range(n_free)], 1)
    delta -= mean[gene]

    guides = _assign(d, gene.size + d.n_ntc_guides, rng)
    weights = None if d.day_weights is None else np.asarray(d.day_weights) / np.sum(d.day_weights)
    day, rep = rng.choice(d.n_days, d.n_cells, p=weights), rng.integers(0, d.n_reps, d.n_cells)
    burden = np.diff(guides.indptr).astype(float)
    centred = burden - (np.bincount(day, burden, d.n_days) / np.maximum(np.bincount(day, minlength=d.n_days), 1))[day]
    eta = rng.normal(0, 0.3, (d.n_days, n_free))[day] + rng.normal(0, 0.2, (d.n_reps, n_free))[rep]
    eta += d.burden_slope * centred[:, None]
    own = guides[:, : gene.size]
    for t in range(d.n_days):
        here = np.flatnonzero(day == t)
        eta[here] += own[here] @ (theta[gene, :, t] + delta)
    genes = np.array([f"GENE{i:0{len(str(d.n_genes - 1))}d}" for i in range(d.n_genes)])
    guide_map = _guide_map(genes, gene, per_gene, d.n_ntc_guides).to_frame()
    adata = _screen(d, guides, guide_map, day, rep, _fates(eta, d.concentration, rng))
    at = np.indices(theta.shape).reshape(3, -1)
    truth = pd.DataFrame({"gene": genes[at[0]], "fate": np.array(d.fates[1:])[at[1]], "day": [f"d{t}" for t in at[2]], "theta": theta.ravel()})
    return SimulatedScreen(adata=adata, guide_map=guide_map, truth=truth, theta=theta, delta=delta)


def _guide_map(genes: np.ndarray, gene: np.ndarray, per_gene: np.ndarray, n_ntc: int) -> GuideMap:
    """The guide map of guides with these genes (positions in `genes`), and NTC guides after them."""
    first = np.concatenate([[0], np.cumsum(per_gene)[:-1]])
    names = [f"{genes[g]}_g{i - first[g] + 1}" for i, g in enumerate(gene)] + [f"NTC_{i + 1}" for i in range(n_ntc)]
    return GuideMap(
        guide=np.array(names, dtype=object),
        gene=np.array([*genes[gene], *["non-targeting"] * n_ntc], dtype=object),
        is_ntc=np.repeat([False, True], [gene.size, n_ntc]),
    )


def _screen(d: ScreenDesign, guides: sp.csr_matrix, guide_map: pd.DataFrame, day: np.ndarray, rep: np.ndarray, prob: np.ndarray) -> ad.AnnData:
    """The screen as AnnData."""
    cells = pd.Index([f"cell{i}" for i in range(d.n_cells)])
    adata = ad.AnnData(obs=pd.DataFrame({"day": pd.Categorical([f"d{t}" for t in day])}, index=cells))
    adata.obsm["lineages_fwd"] = pd.DataFrame(prob, index=cells, columns=list(d.fates))
    adata.obsm["guide"] = guides
    adata.obsm["covar"] = pd.DataFrame({"rep": pd.Categorical([f"rep{r + 1}" for r in rep])}, index=cells)
    adata.uns["guide_names"] = guide_map["guide_name"].to_numpy(dtype=str)
    adata.uns["guide_map"] = guide_map
    adata.uns["real_or_simulated"] = "SIMULATED"
    return adata


def _effects(d: ScreenDesign, n_free: int, rng: np.random.Generator) -> np.ndarray:
    """Gene effects θ, (L, F − 1, D)."""
    theta = np.zeros((d.n_genes, n_free, d.n_days))
    if d.effects == "daylocal":
        for t in range(d.n_days):
            on = rng.choice(d.n_genes, max(int(d.frac_active > 0), round(d.frac_active * d.n_genes)), replace=False)
            theta[on, :, t] = (rng.uniform(0.2, 1.0, on.size) * rng.choice([-1.0, 1.0], on.size))[:, None]
        return theta
    if d.effects != "model":
        on = rng.choice(d.n_genes, max(int(d.frac_active > 0), round(d.frac_active * d.n_genes)), replace=False)
        size = rng.uniform(0.2, 1.0, on.size) * rng.choice([-1.0, 1.0], on.size)
        theta[on] = (size[:, None] * _active_days(d, on.size, rng))[:, None]
        return theta
    steps = rng.normal(size=theta.shape)
    steps *= np.where(np.arange(d.n_days) == 0, d.tau, d.sigma_time)
    theta = steps.cumsum(-1)
    theta[rng.random(d.n_genes) < d.frac_null] = 0.0
    return theta


def _active_days(d: ScreenDesign, n: int, rng: np.random.Generator) -> np.ndarray:
    """Whether each of `n` genes has its effect on each day, (n, D)."""
    first, stop = np.zeros(n, np.int64), np.full(n, d.n_days)
    if d.effects == "early":
        stop = rng.integers(1, d.n_days, n)
    elif d.effects == "late":
        first = rng.integers(1, d.n_days, n)
    elif d.effects == "transient":
        first = rng.integers(1, d.n_days - 1, n)
        stop = rng.integers(first + 1, d.n_days)
    day = np.arange(d.n_days)
    return (day >= first[:, None]) & (day < stop[:, None])


def _assign(d: ScreenDesign, n_guides: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Guide presence (N, G): a Poisson number of guides in each cell, with log-normal frequencies; a guide that is drawn twice is present once."""
    weight = rng.lognormal(0.0, 0.6, n_guides)
    number = rng.poisson(d.moi, d.n_cells)
    rows = np.repeat(np.arange(d.n_cells), number)
    cols = rng.choice(n_guides, size=rows.size, p=weight / weight.sum())
    guides = sp.csr_matrix((np.ones(rows.size, np.float32), (rows, cols)), shape=(d.n_cells, n_guides))
    guides.data[:] = 1.0
    return guides


def _fates(eta: np.ndarray, concentration: float | None, rng: np.random.Generator) -> np.ndarray:
    """Dirichlet or one-hot fate probabilities with mean softmax(0, η)."""
    logits = np.column_stack([np.zeros(len(eta)), eta])
    pi = np.exp(logits - logits.max(1, keepdims=True))
    pi /= pi.sum(1, keepdims=True)
    if concentration is None:
        chosen = (pi.cumsum(1) < rng.random((len(pi), 1))).sum(1).clip(max=pi.shape[1] - 1)
        return np.eye(pi.shape[1])[chosen]
    draw = rng.standard_gamma(np.maximum(pi, 1e-12) * concentration)
    draw = np.maximum(draw, 1e-300)
    return draw / draw.sum(1, keepdims=True)
