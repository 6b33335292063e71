"""Simulated screens with fate probabilities, and their true effects."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float64

from data_prep.blocks.base import block_slices
from data_prep.errors import whole_number
from data_prep.read.guide_map import GuideMap
from data_prep.simulate.design import ScreenDesign
from data_prep.simulate.stored import block_streams, carried, cell_index, stacked, write_screen


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
    simulation = _simulation(d, seed)
    cells = _Cells(*map(stacked, zip(*simulation.blocks(), strict=True)))
    return SimulatedScreen(
        adata=simulation.screen(cells, slice(0, d.n_cells)),
        guide_map=simulation.guide_map,
        truth=simulation.truth(),
        theta=simulation.theta,
        delta=simulation.delta,
    )


def write_fate_screen(path: str | Path, design: ScreenDesign, *, seed: int = 0, progress: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the screen of `simulate_fate_screen` to an .h5ad, block by block: it may be larger than memory.

    Parameters
    ----------
    path
        The file.
    design
        Sizes and effects.
    seed
        Random seed, at least 0.
    progress
        Whether to show a progress bar on a terminal.

    Returns
    -------
    tuple
        The guide map and the truth, as those of `SimulatedScreen`.
    """
    simulation = _simulation(design, seed)
    blocks = zip(simulation.blocks(), block_slices(design.n_cells), strict=True)
    write_screen(path, design.n_cells, (simulation.screen(cells, rows) for cells, rows in blocks), progress=progress)
    return simulation.guide_map, simulation.truth()


class _Carriers(NamedTuple):
    """A block of cells without fates: presence of guides, bool, and codes of days and replicates."""

    guides: sp.csr_matrix
    day: np.ndarray
    rep: np.ndarray


class _Cells(NamedTuple):
    """A block of cells: presence of guides, labels of days and replicates, fate probabilities."""

    guides: sp.csr_matrix
    day: pd.Categorical
    rep: pd.Categorical
    prob: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Simulation:
    """What all blocks share, and the guides, days and replicates of all cells: the burden is relative to its mean over the whole screen."""

    d: ScreenDesign
    genes: np.ndarray
    gene: np.ndarray
    theta: np.ndarray
    delta: np.ndarray
    guide_map: pd.DataFrame
    carriers: list[_Carriers]
    streams: list[np.random.Generator]
    day_effect: np.ndarray
    rep_effect: np.ndarray

    def blocks(self) -> Iterator[_Cells]:
        """The cells with their fates; the guides of each block are dropped after it."""
        d = self.d
        total, count = np.zeros(d.n_days), np.zeros(d.n_days)
        for one in self.carriers:
            total += np.bincount(one.day, np.diff(one.guides.indptr), d.n_days)
            count += np.bincount(one.day, minlength=d.n_days)
        mean = total / np.maximum(count, 1)
        days, there = _levels("d", (one.day for one in self.carriers), d.n_days, 0)
        reps, also = _levels("rep", (one.rep for one in self.carriers), d.n_reps, 1)
        for rng in self.streams:
            present, day, rep = self.carriers.pop(0)
            guides = present.astype(np.float32)
            eta = self.day_effect[day] + self.rep_effect[rep]
            eta += d.burden_slope * (np.diff(guides.indptr) - mean[day])[:, None]
            own = guides[:, : self.gene.size]
            for t in range(d.n_days):
                here = np.flatnonzero(day == t)
                eta[here] += own[here] @ (self.theta[self.gene, :, t] + self.delta)
            labels = pd.Categorical(days[day], categories=there), pd.Categorical(reps[rep], categories=also)
            yield _Cells(guides, *labels, _fates(eta, d.concentration, rng))

    def screen(self, cells: _Cells, rows: slice) -> ad.AnnData:
        """These cells as AnnData."""
        names = cell_index(rows)
        adata = ad.AnnData(obs=pd.DataFrame({"day": cells.day}, index=names))
        adata.obsm["lineages_fwd"] = pd.DataFrame(cells.prob, index=names, columns=list(self.d.fates))
        adata.obsm["guide"] = cells.guides
        adata.obsm["covar"] = pd.DataFrame({"rep": cells.rep}, index=names)
        adata.uns["guide_names"] = self.guide_map["guide_name"].to_numpy(dtype=str)
        adata.uns["guide_map"] = self.guide_map
        adata.uns["real_or_simulated"] = "SIMULATED"
        return adata

    def truth(self) -> pd.DataFrame:
        """The gene effects."""
        at = np.indices(self.theta.shape).reshape(3, -1)
        days, fates = [f"d{t}" for t in at[2]], np.array(self.d.fates[1:])
        return pd.DataFrame({"gene": self.genes[at[0]], "fate": fates[at[1]], "day": days, "theta": self.theta.ravel()})


def _guide_map(genes: np.ndarray, gene: np.ndarray, per_gene: np.ndarray, n_ntc: int) -> GuideMap:
    """The guide map of guides with these genes (positions in `genes`), and NTC guides after them."""
    first = np.concatenate([[0], np.cumsum(per_gene)[:-1]])
    names = [f"{genes[g]}_g{i - first[g] + 1}" for i, g in enumerate(gene)] + [f"NTC_{i + 1}" for i in range(n_ntc)]
    return GuideMap(
        guide=np.array(names, dtype=object),
        gene=np.array([*genes[gene], *["non-targeting"] * n_ntc], dtype=object),
        is_ntc=np.repeat([False, True], [gene.size, n_ntc]),
    )


def _simulation(d: ScreenDesign, seed: int) -> _Simulation:
    """Draw what all blocks share, from the stream of the first, and who carries what."""
    whole_number("seed", seed, least=0)
    streams = block_streams(d.n_cells, seed)
    rng = streams[0][1]
    n_free = len(d.fates) - 1
    low, high = d.guide_range
    per_gene = rng.integers(low, high + 1, d.n_genes)
    gene = np.repeat(np.arange(d.n_genes), per_gene)
    theta = _effects(d, n_free, rng)
    delta = rng.normal(0, d.sigma_guide, (gene.size, n_free))
    mean = np.stack([np.bincount(gene, delta[:, f], d.n_genes) / per_gene for f in range(n_free)], 1)
    frequency = rng.lognormal(0.0, 0.6, gene.size + d.n_ntc_guides)  # of the guides
    carriers = [_carriers(d, rows.stop - rows.start, frequency / frequency.sum(), own) for rows, own in streams]
    genes = np.array([f"GENE{i:0{len(str(d.n_genes - 1))}d}" for i in range(d.n_genes)])
    return _Simulation(
        d=d,
        genes=genes,
        gene=gene,
        theta=theta,
        delta=delta - mean[gene],
        guide_map=_guide_map(genes, gene, per_gene, d.n_ntc_guides).to_frame(),
        carriers=carriers,
        streams=[own for _, own in streams],
        day_effect=rng.normal(0, 0.3, (d.n_days, n_free)),
        rep_effect=rng.normal(0, 0.2, (d.n_reps, n_free)),
    )


def _carriers(d: ScreenDesign, n: int, frequency: np.ndarray, rng: np.random.Generator) -> _Carriers:
    """The guides of cells, a Poisson number in each, and their days and replicates."""
    number = rng.poisson(d.moi, n)
    guides = carried(number, rng.choice(frequency.size, size=int(number.sum()), p=frequency), frequency.size)
    weights = None if d.day_weights is None else np.asarray(d.day_weights) / np.sum(d.day_weights)
    return _Carriers(guides, rng.choice(d.n_days, n, p=weights).astype(np.int32), rng.integers(0, d.n_reps, n).astype(np.int32))


def _levels(name: str, codes: Iterable[np.ndarray], n: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels of all codes, and those that occur, sorted."""
    labels = np.array([f"{name}{i + first}" for i in range(n)], dtype=object)
    there = sum(np.bincount(some, minlength=n) for some in codes) > 0
    return labels, np.sort(labels[there])


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
