"""The test without draws: a batch of units in, their p-values and effects with errors out.

T_k = Σ_i r_ik (x_i − p_i), with r the residuals of the outcome or of its normal scores, is linear in the treatment, so its null distribution given the
covariates and the outcomes is known (`crt.tails`). Everything that it takes from the cells is a sum over their blocks (`crt.cells`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from crt.cells.block import (
    BlockStrata,
    CellBlock,
    MeanScores,
    Normal,
    Tilts,
    largest_residuals,
    null_sums,
    residuals,
    stratum_sums,
    support_ends,
    tilt_sums,
    wide_residuals,
)
from crt.cells.stored import new_matrix
from crt.layout import empty_rows
from crt.linear.scores import Scores, mean_scores, normal_scores
from crt.sampling.strata import Strata
from crt.settings import Side, Statistic
from crt.tails.cumulants import permutation_cumulants
from crt.tails.saddlepoint import Cumulants, FarTails, PermutationNull, ScorePvalues, bernoulli_saddles, cauchy_combination, far_tails
from data_prep.blocks.base import CellBlocks, block_slices
from data_prep.blocks.place import MEMORY, Place

REACH = 2.0  # null SDs of T that one cell may contribute where p is by saddlepoint
MOST_IDS = 2**26  # strata of cells, of several units, held at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreProblem:
    """The cells that units are compared on, with the outcome scores of the statistic.

    Columns of scores are the normal scores of all programs, if any, and then the outcomes' own: those come last, as effects come from them.

    Attributes
    ----------
    blocks
        The cells.
    n_cells
        Their number.
    normal
        Their normal scores; None where the mean alone is tested.
    mean
        The outcomes as scores.
    statistic
        "mean", "normal_scores" or "cauchy".
    largest
        The largest |r| of each column.
    """

    blocks: CellBlocks[CellBlock]
    n_cells: int
    normal: CellBlocks[Scores] | None
    mean: MeanScores
    statistic: Statistic
    largest: Float64[np.ndarray, " columns"]

    @classmethod
    def of(cls, blocks: CellBlocks[CellBlock], n_cells: int, statistic: Statistic, *, place: Place = MEMORY, n_jobs: int = 1) -> "ScoreProblem":
        """Compute the scores, once for all units that are compared on these cells.

        Parameters
        ----------
        blocks
            The cells.
        n_cells
            Their number.
        statistic
            "mean", "normal_scores" or "cauchy".
        place
            Where scores of all cells are.
        n_jobs
            Number of worker threads.
        """
        mean = mean_scores(blocks)
        normal = None
        if statistic != "mean":
            by_program = new_matrix(place, mean.scale.size, n_cells).temporary()
            normal = normal_scores(blocks, mean, by_program, n_jobs=n_jobs if place.folder is None else min(n_jobs, 2))  # ranks of all cells at once
        largest = blocks.map_reduce(largest_residuals, normal, mean, combine=np.maximum)
        largest.flags.writeable = False
        return cls(blocks=blocks, n_cells=n_cells, normal=normal, mean=mean, statistic=statistic, largest=largest)

    @property
    def n_programs(self) -> int:
        """K."""
        return self.mean.scale.size

    @property
    def n_tested(self) -> int:
        """Columns that are tested: all but the mean's where that is there for the effects only."""
        return self.n_programs * (2 if self.statistic == "cauchy" else 1)

    def rows(
        self, columns: Int[np.ndarray, " columns"], *, at: Int[np.ndarray, " cells"], n_rows: int, place: Place = MEMORY
    ) -> Float32[np.ndarray, "n_rows width"]:
        """r of some columns for samplers.

        Parameters
        ----------
        columns
            Columns of the scores.
        at
            Row of each cell.
        n_rows
            Number of rows; those without a cell are zero.
        place
            Where the matrix is.
        """
        out = empty_rows(n_rows, 0, columns.size, place)
        for cells, own in zip(block_slices(self.n_cells), self.blocks.each(_some_residuals, self.normal, self.mean, columns), strict=True):
            out[at[cells], : columns.size] = own
        return out

    def columns(self, part: int, cells: Int[np.ndarray, " cells"]) -> Callable[[Int[np.ndarray, " _"]], Float64[np.ndarray, "_ cells"]]:
        """A function of program indices that gives the residuals of all cells in float64, (programs, cells), in the order of `cells`."""

        def of(programs: np.ndarray) -> np.ndarray:
            out = np.empty((programs.size, self.n_cells))
            found = self.blocks.each(_wide_columns, self.normal, self.mean, part * self.n_programs + programs)
            for at, own in zip(block_slices(self.n_cells), found, strict=True):
                out[:, at] = own
            return out[:, cells]

        return of


def _some_residuals(block: CellBlock, normal: Normal, mean: MeanScores, columns: Int[np.ndarray, " columns"]) -> Float32[np.ndarray, "cells columns"]:
    return residuals(block, normal, mean, slice(0, len(block)))[:, columns]


def _wide_columns(block: CellBlock, normal: Normal, mean: MeanScores, columns: Int[np.ndarray, " columns"]) -> Float64[np.ndarray, "columns cells"]:
    return wide_residuals(block, normal, mean, columns, slice(0, len(block)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreResult:
    """p-values of one unit; arrays are (programs,), NaN where undefined.

    Attributes
    ----------
    z
        T over its null SD; of the normal scores under "cauchy".
    log10_p
        log10 of p, with no floor.
    resampled
        Whether p is empirical, as the saddlepoint equation has no solution or the approximation is not accurate.
    n_resamples
        Number of resamples in the last stage; 0 if none were drawn.
    """

    z: Float64[np.ndarray, " programs"]
    log10_p: Float64[np.ndarray, " programs"]
    resampled: Bool[np.ndarray, " programs"]
    n_resamples: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreMoments:
    """Null moments of Σ r over the treated cells of one unit, all parts side by side, (columns,) each: its mean, and its cumulants."""

    mean: Float64[np.ndarray, " columns"]
    cumulants: Cumulants


def bernoulli_moments(problem: ScoreProblem, beta: Float64[np.ndarray, "units terms"]) -> list[ScoreMoments]:
    """Moments of a batch of units whose cells are treated independently, with propensities of these coefficients."""
    sums = problem.blocks.map_reduce(null_sums, problem.normal, problem.mean, beta, problem.n_tested)
    mean, cumulants = sums.cumulants()
    return [ScoreMoments(mean=mean[i], cumulants=Cumulants(*(c[i] for c in cumulants))) for i in range(len(beta))]


def permutation_moments(problem: ScoreProblem, strata: Sequence[Strata]) -> list[ScoreMoments]:
    """Moments of a batch of units, treatments permuted within strata; the strata's cells are positions among the problem's."""
    out: list[ScoreMoments] = []
    together = max(1, MOST_IDS // problem.n_cells)
    for first in range(0, len(strata), together):
        batch = strata[first : first + together]
        ids = np.empty((len(batch), problem.n_cells), np.int32)
        for row, s in zip(ids, batch, strict=True):
            row[s.cells] = np.repeat(np.arange(s.n_treated.size, dtype=np.int32), np.diff(s.offsets))
        sizes = tuple(s.n_treated.size for s in batch)
        placed = problem.blocks.place(BlockStrata(ids=np.ascontiguousarray(ids[:, cells]), n_strata=sizes) for cells in block_slices(problem.n_cells))
        sums = problem.blocks.map_reduce(stratum_sums, problem.normal, problem.mean, placed)
        moments = (permutation_cumulants(one, np.diff(s.offsets), s.n_treated) for s, one in zip(batch, sums, strict=True))
        out += [ScoreMoments(mean=mean, cumulants=cumulants) for mean, cumulants in moments]
    return out


def parts_of(problem: ScoreProblem, t: Float64[np.ndarray, " columns"], cumulants: Cumulants, side: Side) -> list[FarTails]:
    """p-values of one unit by Edgeworth series and the tails that are too far out for it, for the normal scores and the mean, where they are tested.

    Parameters
    ----------
    problem
        The cells on which the unit is compared.
    t
        The statistics less their null means, all columns.
    cumulants
        Their null cumulants.
    side
        Alternative hypothesis.
    """
    K = problem.n_programs
    own = [slice(part * K, (part + 1) * K) for part in range(problem.n_tested // K)]
    return [far_tails(t[k], Cumulants(*(c[k] for c in cumulants)), largest=problem.largest[k], side=side) for k in own]


def solve_bernoulli(problem: ScoreProblem, beta: Float64[np.ndarray, "units terms"], units: Sequence[Sequence[FarTails]]) -> list[list[ScorePvalues]]:
    """Solve the saddlepoint equations of a batch of units, all together, cells treated independently.

    Parameters
    ----------
    problem
        The cells on which the units are compared.
    beta
        Coefficients of the units' propensities.
    units
        The parts of each unit.
    """
    flat = [(u, part, tails) for u, parts in enumerate(units) for part, tails in enumerate(parts)]
    sizes = [tails.programs.size for _, _, tails in flat]
    unit = np.repeat([u for u, _, _ in flat], sizes)
    column = np.concatenate([tails.programs + part * problem.n_programs for _, part, tails in flat])
    ends = np.cumsum([0, *sizes])

    def sums(which: np.ndarray, s: np.ndarray) -> np.ndarray:
        return problem.blocks.map_reduce(tilt_sums, problem.normal, problem.mean, Tilts(unit=unit[which], column=column[which], s=s, beta=beta))

    def support(which: np.ndarray, side: np.ndarray) -> np.ndarray:
        return problem.blocks.map_reduce(support_ends, problem.normal, problem.mean, Tilts(unit=unit[which], column=column[which], s=side, beta=beta))

    targets, start = (np.concatenate([getattr(tails, name) for _, _, tails in flat]) for name in ("targets", "start"))
    saddles, status = bernoulli_saddles(targets, start, sums, support)
    found = [tails.with_saddles(type(saddles)(*(x[a:b] for x in saddles)), status[a:b]) for (_, _, tails), a, b in zip(flat, ends, ends[1:], strict=False)]
    n_parts = len(units[0])
    return [found[i : i + n_parts] for i in range(0, len(found), n_parts)]


def solve_permutation(problem: ScoreProblem, strata: Strata, parts: Sequence[FarTails]) -> list[ScorePvalues]:
    """Solve the saddlepoint equations of one unit, treatments permuted within strata.

    Parameters
    ----------
    problem
        The cells on which the unit is compared.
    strata
        The strata.
    parts
        The parts of the unit.
    """
    nulls = (PermutationNull(strata.offsets, strata.n_treated, problem.columns(part, strata.cells)) for part in range(len(parts)))
    return [tails.with_saddles(*null.saddles(tails.programs, tails.targets, tails.start)) for tails, null in zip(parts, nulls, strict=True)]


def score_result(
    problem: ScoreProblem,
    t: Float64[np.ndarray, " columns"],
    cumulants: Cumulants,
    solved: Sequence[ScorePvalues],
    empirical: Callable[[int, Int[np.ndarray, " tests"]], tuple[Float[np.ndarray, " tests"], Bool[np.ndarray, " tests"], int]],
) -> ScoreResult:
    """p-values of one unit: by Edgeworth series, by saddlepoints, or empirical where neither is accurate.

    Where one cell contributes more than `REACH` null SDs to T, saddlepoint p-values are off by more than 10 %. There, and where the saddlepoint equation has
    no solution, p is empirical, unless it is too small for the resamples and the saddlepoint exists.

    Parameters
    ----------
    problem
        The cells on which the unit is compared.
    t
        The statistics less their null means, all columns.
    cumulants
        Their null cumulants.
    solved
        p-values of each part.
    empirical
        Empirical log p of some programs of a part, whether each is too small for the number of resamples, and that number.
    """
    K = problem.n_programs
    resampled, n_resamples = np.zeros(K, bool), 0
    for part, found in enumerate(solved):
        found.log_p[np.isneginf(found.log_p)] = np.nan  # beyond the support of T, by rounding: p would be 0
        own = slice(part * K, (part + 1) * K)
        rough = found.by_saddlepoint & (problem.largest[own] > REACH * cumulants.sd[own])
        which = np.flatnonzero(found.unsolved | rough)
        if which.size:
            drawn, small, n = empirical(part, which)
            use = ~small | np.isnan(found.log_p[which])
            found.log_p[which[use]] = drawn[use]
            resampled[which[use]] = True
            n_resamples = max(n_resamples, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = t[:K] / np.where(cumulants.sd[:K] > 0, cumulants.sd[:K], np.nan)
    joint = solved[0].log_p if len(solved) == 1 else cauchy_combination(np.stack([found.log_p for found in solved]))
    return ScoreResult(z=z, log10_p=joint / np.log(10), resampled=resampled, n_resamples=n_resamples)
