"""Checks of a fit on the screen's own controls: z-scores of NTC pseudo-genes, and a refit with permuted guides."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from jaxtyping import Float
from scipy.stats import chi2, norm

from data_prep.blocks.base import CellBlocks
from data_prep.errors import first_few, warn
from data_prep.screen import Screen
from data_prep.tensors import FateData
from hierarchy.cells import CellBlock, CellDesign
from hierarchy.coordinates import packed_at
from hierarchy.fitting import fit
from hierarchy.inference.curvature import CellState, Pass
from hierarchy.inference.gene_block import GeneBlock
from hierarchy.inference.linear import centred_information, day_means
from hierarchy.result import Fit

FEWEST_GROUPS = 2
PARTITIONS = 20
COLUMNS = 256  # groups whose sums over clusters are held at once
GOOD = (0.9, 1.1)  # SDs of z that need no warning
LEVEL, Z_CALL = 0.95, 1.96


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NtcCheck:
    """z-scores of NTC pseudo-genes, which have no effect: with correct standard errors their SD is 1. `check_ntc` makes it.

    Attributes
    ----------
    table
        One row for each day and one, `all`: day, freedom (degrees of freedom of the SD), mean, sd, low and high. The intervals of the SDs hold together
        at 95 %.
    z
        z-scores of the groups of the first partition, (groups, F*, D); NaN without cells.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2, n_ntc_guides=60), seed=0).adata)
    >>> from hierarchy import check_ntc, fit
    >>> list(check_ntc(fit(build_fate_data(screen, ref_fate="EC")), screen).table.columns)
    ['day', 'freedom', 'mean', 'sd', 'low', 'high']
    """

    table: pd.DataFrame
    z: Float[np.ndarray, "groups nonref days"]

    @property
    def factor(self) -> float:
        """The SD of z over all days, shrunk to 1 by its own uncertainty; its logarithm l becomes l³ / (l² + sampling variance)."""
        own = self.table.set_index("day").loc["all"]
        size, variance = np.log(own["sd"]), 1 / (2 * own["freedom"])
        return float(np.exp(size**3 / (size**2 + variance)))

    @property
    def wrong(self) -> pd.DataFrame:
        """The rows whose interval lies outside 0.9 to 1.1."""
        return self.table[(self.table["low"] > GOOD[1]) | (self.table["high"] < GOOD[0])]

    def warn(self) -> None:
        """Warn where the interval of an SD excludes 0.9 to 1.1."""
        if len(wrong := self.wrong):
            rows = first_few(f"{r.day}: {r.sd:.2f} ({r.low:.2f} to {r.high:.2f})" for r in wrong.itertuples())
            problem = "too small" if (wrong["low"] > GOOD[1]).any() else "too large"
            advice = "Cells may share noise (clones, or probabilities smoothed over neighbours), or a batch may be missing from the model."
            warn(
                f"standard errors are {problem}: z-scores of NTC pseudo-genes should have an SD of 1, but it is {rows}. {advice}",
                "keys.cluster",
                "calibrate_on_ntc",
            )


def check_ntc(fit: Fit, screen: Screen, *, seed: int = 0) -> NtcCheck | None:
    """Estimate effects of NTC pseudo-genes in a fitted model: random groups of NTC guides, of the sizes of the genes.

    Parameters
    ----------
    fit
        A fit with the "gene_block" posterior.
    screen
        The screen that was fitted.
    seed
        Of the groups; the z-scores of 20 partitions are combined.

    Returns
    -------
    NtcCheck or None
        None with fewer than two groups of NTC guides in cells, and with another posterior.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2, n_ntc_guides=60), seed=0).adata)
    >>> from hierarchy import check_ntc, fit
    >>> check = check_ntc(fit(build_fate_data(screen, ref_fate="EC")), screen)
    >>> check.table["day"].tolist(), bool(0.7 < check.factor < 1.4)
    (['d0', 'd1', 'all'], True)
    """
    if not isinstance(fit.posterior, GeneBlock):
        return None
    cells = np.bincount(screen.guides.indices, minlength=screen.is_ntc.size)
    carried = screen.guides[:, np.flatnonzero(screen.is_ntc & (cells > 0))]
    rng = np.random.default_rng(seed)
    sizes = fit.model.data.n_guides_per_gene.cpu().numpy()
    partitions = [_groups(carried.shape[1], sizes, rng) for _ in range(PARTITIONS)]
    n_groups = min(groups.shape[1] for groups in partitions)
    if n_groups < FEWEST_GROUPS:
        return None
    scores = _Scores.of(fit)
    together = scores.z(carried, sp.hstack(partitions, format="csr"))
    z = np.split(together, np.cumsum([groups.shape[1] for groups in partitions])[:-1])
    pooled = np.concatenate(z)
    days, n_days = fit.model.data.days, pooled.shape[2]
    level = 1 - (1 - LEVEL) / (n_days + 1)
    rows = [_summary(day, pooled[:, :, [d]], n_groups, level) for d, day in enumerate(days)]
    return NtcCheck(table=pd.DataFrame([*rows, _summary("all", pooled, n_groups, level)]), z=z[0])


def _groups(n_guides: int, sizes: np.ndarray, rng: np.random.Generator) -> sp.csc_matrix:
    """NTC guides × groups: every guide in one group at most, with sizes drawn from those of the genes."""
    ends = np.cumsum(rng.choice(sizes, max(n_guides, 1)))
    ends = ends[ends <= n_guides]
    order = rng.permutation(n_guides)[: ends[-1] if ends.size else 0]
    group = np.searchsorted(ends, np.arange(order.size), side="right")
    return sp.csc_matrix((np.ones(order.size), (order, group)), shape=(n_guides, ends.size))


def _summary(day: str, z: np.ndarray, n_groups: int, level: float) -> dict[str, object]:
    """Mean and SD of z (all groups, F*, D) with an interval of the SD.

    The groups of one partition on one day are taken as independent, those of other partitions and fates not. Nearly all guides are in every partition, so
    that the mean z of a day and fate hardly differs between partitions, and each takes a degree of freedom.
    """
    variance = np.nanmean(np.nanvar(z, axis=0)) * n_groups / (n_groups - 1)
    freedom, tail = (n_groups - 1) * z.shape[2], (1 - level) / 2
    low, high = (np.sqrt(variance * freedom / chi2.ppf(p, freedom)) for p in (1 - tail, tail))
    return {"day": day, "freedom": freedom, "mean": float(np.nanmean(z)), "sd": float(np.sqrt(variance)), "low": float(low), "high": float(high)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Carried:
    """A block's cells × guides as the arrays of a CSR matrix."""

    start: np.ndarray
    guide: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, matrix: sp.csr_matrix) -> "_Carried":
        return cls(start=matrix.indptr, guide=matrix.indices, shape=matrix.shape)

    def matrix(self) -> sp.csr_matrix:
        return sp.csr_matrix((np.ones(self.guide.size), self.guide, self.start), shape=self.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scores:
    """What z-scores of any counts of the cells take from a fit.

    Attributes
    ----------
    design
        The cells in blocks.
    states
        Weighted residual w (p − π) and curvature w (diag(π) − ππ') of each cell.
    n_nonref
        F*, the number of non-reference fates.
    share
        Information of a gene beside all other parameters over that beside the intercepts of the days, median over the genes.
    cluster
        Cluster of each cell, (N,), where errors are of the sandwich by clusters.
    by_cell
        Whether errors are of the sandwich by cells.
    """

    design: CellDesign
    states: CellBlocks[CellState]
    n_nonref: int
    share: float
    cluster: np.ndarray | None
    by_cell: bool

    @classmethod
    @torch.no_grad()
    def of(cls, fit: Fit) -> "_Scores":
        """Of a fit."""
        estimator, data = fit.estimator, fit.model.data
        assert estimator is not None
        found, robust = estimator.last_pass(fit.model), fit.settings.se == "sandwich"
        cluster = data.cluster.cpu().numpy() if robust and data.cluster is not None else None
        return cls(
            design=fit.model.design,
            states=found.states,
            n_nonref=estimator.coords.n_nonref,
            share=_share(fit, found),
            cluster=cluster,
            by_cell=robust and cluster is None,
        )

    def z(self, carried: sp.csr_matrix, groups: sp.csr_matrix) -> np.ndarray:
        """z-scores (groups, F*, D) of the one-step estimate of each group's effect, each guide with the same effect.

        Parameters
        ----------
        carried
            Cells × guides.
        groups
            Guides × groups.
        """
        d, f = self.design.group_cells.shape[0], self.n_nonref
        counts = self.design.cells.place(_Carried.of(carried[own]) for own in self.design.slices)
        sums = self.design.cells.map_reduce(_day_sums, self.states, counts, groups, d)
        mean = sums.cells / np.maximum(self.design.group_cells.sum(1).cpu().numpy(), 1)  # (groups, D)
        score = sums.residual - mean[:, None] * sums.day_residual
        info = sums.centred(mean)
        if self.cluster is not None:
            variance = self.share * self._clustered(counts, groups, mean)
        elif self.by_cell:
            squares = self.design.cells.map_reduce(_day_sums, self.states.map(_squares), counts, groups, d)
            variance = self.share * squares.centred(mean)
        else:
            variance = self.share * info
        seen = sums.cells.T > 0
        out = np.full((groups.shape[1], f, d), np.nan)
        for t in range(d):
            own = np.flatnonzero(seen[t])
            bread = np.linalg.inv(self.share * info[own, t])
            estimate = np.einsum("gab,gb->ga", bread, score[own, :, t])
            cov = bread @ variance[own, t] @ bread
            out[own, :, t] = estimate / np.sqrt(cov.diagonal(axis1=1, axis2=2))
        return out

    def _clustered(self, counts: CellBlocks[_Carried], groups: sp.csr_matrix, mean: np.ndarray) -> np.ndarray:
        """Σ_clusters s s' with s = Σ (c − c̄) w (p − π) over the cells of a cluster on each day, (groups, D, F*, F*)."""
        assert self.cluster is not None
        d, f, n_clusters = mean.shape[1], self.n_nonref, int(self.cluster.max()) + 1
        out, codes = np.empty((groups.shape[1], d, f, f)), self.design.split(self.cluster)
        for t in range(d):
            weighted, alone = self.design.cells.map_reduce(_cluster_sums, self.states, counts, codes, (d, t, n_clusters))
            for first in range(0, groups.shape[1], COLUMNS):
                own = slice(first, first + COLUMNS)
                sums = [(part @ groups[:, own]).toarray() - np.outer(alone[:, a], mean[own, t]) for a, part in enumerate(weighted)]
                for a in range(f):
                    for b in range(f):
                        out[own, t, a, b] = (sums[a] * sums[b]).sum(0)
        return out * n_clusters / (n_clusters - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _DaySums:
    """Sums over the cells of each day of counts c, their squares, residuals r and packed curvatures V, as numpy arrays.

    Attributes
    ----------
    cells
        Of c, (groups, D).
    residual
        Of c r, (groups, F*, D).
    squared
        Of c² V, (groups, P, D).
    curvature
        Of c V, (groups, P, D).
    day_residual
        Of r, (F*, D).
    day_curvature
        Of V, (P, D).
    """

    cells: np.ndarray
    residual: np.ndarray
    squared: np.ndarray
    curvature: np.ndarray
    day_residual: np.ndarray
    day_curvature: np.ndarray

    def centred(self, mean: np.ndarray) -> np.ndarray:
        """Σ (c − c̄)² V over the cells of each day, (groups, D, F*, F*), about mean counts (groups, D)."""
        c, f = mean[:, None], self.residual.shape[1]
        packed = [[packed_at(a, b, f) for b in range(f)] for a in range(f)]
        return (self.squared - 2 * c * self.curvature + c**2 * self.day_curvature)[:, packed].transpose(0, 3, 1, 2)


def _squares(state: CellState) -> CellState:
    """The products of the residuals of each cell in place of its curvature."""
    r = state.residual.double()
    f = r.shape[1]
    return CellState(residual=r, curvature=torch.stack([r[:, a] * r[:, b] for a in range(f) for b in range(a, f)], 1))


def _day(block: CellBlock, n_days: int) -> np.ndarray:
    n_reps = block.nuisance.shape[1] - n_days - 1
    return block.group.cpu().numpy() // n_reps


def _day_sums(block: CellBlock, state: CellState, carried: _Carried, groups: sp.csr_matrix, n_days: int) -> _DaySums:
    residual, curvature = (part.cpu().double().numpy() for part in (state.residual, state.curvature))
    count, day = (carried.matrix() @ groups).tocsr(), _day(block, n_days)
    f, p = residual.shape[1], curvature.shape[1]
    columns = np.concatenate([np.ones((len(residual), 1)), residual, curvature], 1)
    sums, squares, total = np.empty((count.shape[1], n_days, 1 + f + p)), np.empty((count.shape[1], n_days, p)), np.empty((n_days, 1 + f + p))
    for t in range(n_days):
        own = np.flatnonzero(day == t)
        here = count[own]
        sums[:, t], squares[:, t], total[t] = here.T @ columns[own], here.multiply(here).T @ curvature[own], columns[own].sum(0)
    return _DaySums(
        cells=sums[:, :, 0],
        residual=sums[:, :, 1 : 1 + f].transpose(0, 2, 1),
        squared=squares.transpose(0, 2, 1),
        curvature=sums[:, :, 1 + f :].transpose(0, 2, 1),
        day_residual=total[:, 1 : 1 + f].T,
        day_curvature=total[:, 1 + f :].T,
    )


def _cluster_sums(
    block: CellBlock, state: CellState, carried: _Carried, code: np.ndarray, days: tuple[int, int, int]
) -> tuple[list[sp.csr_matrix], np.ndarray]:
    """Of one of the days: Σ r c over the cells of each cluster, a matrix of clusters × guides for each fate, and Σ r, (clusters, F*)."""
    n_days, t, n_clusters = days
    own = np.flatnonzero(_day(block, n_days) == t)
    residual, here = state.residual.cpu().double().numpy()[own], carried.matrix()[own]
    cluster = sp.csr_matrix((np.ones(own.size), (code[own], np.arange(own.size))), shape=(n_clusters, own.size))
    return [(cluster @ sp.diags(column) @ here).tocsr() for column in residual.T], cluster @ residual


def _share(fit: Fit, found: Pass) -> float:
    """Median over genes of the information about θ beside everything, over that about the days' means alone."""
    estimator, design = fit.estimator, fit.model.design
    assert estimator is not None
    coords = estimator.coords
    alone = centred_information(coords, day_means(design, coords), found.blocks, found.by_guide, found.by_day)
    size = coords.n_days * coords.n_nonref
    ratios = [
        own.diagonal(dim1=1, dim2=2)[:, :size].sum(1) / whole.diagonal(dim1=1, dim2=2)[:, :size].sum(1)
        for own, whole in zip(estimator.likelihood.info, alone, strict=True)
    ]
    return float(torch.cat(ratios).median().clamp(0.1, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationCheck:
    """Calls after the guides were permuted over cells, when no gene has an effect. `check_permuted` makes it.

    Attributes
    ----------
    share
        Share of the gene-days, over all non-reference fates, with `|betahat/se|` above 1.96; 0.05 with correct standard errors.
    low
        Lower limit of its 95 % interval, with gene-days as independent and fates not.
    high
        Upper limit.
    estimates
        Number of estimates.

    Examples
    --------
    >>> from hierarchy import PermutationCheck
    >>> PermutationCheck(share=0.05, low=0.03, high=0.08, estimates=120).warn()
    """

    share: float
    low: float
    high: float
    estimates: int

    def warn(self) -> None:
        """Warn where the interval excludes 4 to 6 %."""
        if self.low > 0.06 or self.high < 0.04:
            share, low, high = (f"{100 * value:.1f}" for value in (self.share, self.low, self.high))
            warn(f"with permuted guides {share} % of the estimates have |z| > {Z_CALL} ({low} to {high} %), not 5 %.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """The checks of a fit on the screen's own controls.

    Attributes
    ----------
    ntc
        Check on NTC pseudo-genes; None where there are too few NTC guides.
    permuted
        Check with permuted guides; None where it was not asked for.
    calibrated
        Whether the standard errors of the effects were multiplied by `ntc.factor`.

    Examples
    --------
    >>> from hierarchy import Controls
    >>> Controls().ntc is None, Controls().calibrated
    (True, False)
    """

    ntc: NtcCheck | None = None
    permuted: PermutationCheck | None = None
    calibrated: bool = False


def check_permuted(fitted: Fit, *, seed: int = 0) -> PermutationCheck:
    """Permute the guides over the cells of each day and replicate, fit again, and count large z-scores.

    Parameters
    ----------
    fitted
        A fit; the same settings and priors are used.
    seed
        Of the permutation. Where the screen has clusters, all guides of a cluster move together.

    Returns
    -------
    PermutationCheck

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> data = build_fate_data(read_screen(simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=20, n_days=2), seed=0).adata), ref_fate="EC")
    >>> from hierarchy import check_permuted, fit
    >>> 0.0 < check_permuted(fit(data)).share < 0.12
    True
    """
    model = fitted.model
    data = _permuted(model.data, np.random.default_rng(seed))
    again = fit(data, priors=model.priors, settings=fitted.settings, time_scale=model.time_scale, place=model.design.place)
    estimates = again.estimates()
    n, f, d = estimates.theta.shape
    z = estimates.theta / estimates.theta_covariance.diagonal(dim1=1, dim2=2).reshape(n, f, d).sqrt()
    seen = z.isfinite()
    share = float((z[seen].abs() > Z_CALL).double().mean())
    error = float(norm.ppf(0.975) * np.sqrt(max(share, 0.01) * (1 - share) * f / int(seen.sum())))
    return PermutationCheck(share=share, low=max(0.0, share - error), high=share + error, estimates=int(seen.sum()))


def _permuted(data: FateData, rng: np.random.Generator) -> FateData:
    """The screen with the guides of its cells, or of whole clusters, permuted within each day and replicate."""
    n = data.n_cells
    group = (data.day * data.n_reps + data.rep).cpu().numpy()
    cluster = np.arange(n) if data.cluster is None else data.cluster.cpu().numpy()
    source = np.empty(n, np.int64)
    for code in np.unique(group):
        cells = np.flatnonzero(group == code)
        cells = cells[np.argsort(cluster[cells], kind="stable")]
        own = np.split(cells, np.flatnonzero(np.diff(cluster[cells])) + 1)
        for to, origin in zip(own, rng.permutation(len(own)), strict=True):
            source[to] = np.resize(own[origin], to.size)
    offsets, guides = data.cell_offsets.cpu().numpy(), data.cell_guides.cpu().numpy()
    count = np.diff(offsets)[source]
    ends = np.concatenate([[0], np.cumsum(count)])
    entry = np.repeat(offsets[source] - ends[:-1], count) + np.arange(ends[-1])
    device = data.device
    return dataclasses.replace(
        data,
        cell_offsets=torch.from_numpy(ends).to(device),
        cell_guides=torch.from_numpy(guides[entry]).to(device),
        guide_burden=data.guide_burden[torch.from_numpy(source).to(device)],
    )
