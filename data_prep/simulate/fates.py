"""Simulated screens with fate probabilities, and their true effects."""

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float64

from data_prep.errors import whole_number
from data_prep.read.guide_map import GuideMap
from data_prep.simulate.design import ScreenDesign


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
