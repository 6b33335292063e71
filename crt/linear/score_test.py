"""The test without draws: a batch of units in, their p-values and effects with errors out.

T_k = Σ_i r_ik (x_i − p_i), with r the residuals of the outcome or of its normal scores, is linear in the treatment, so its null distribution given the
covariates and the outcomes is known (`crt.tails`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from crt.kernels import cumulants as _kernels
from crt.layout import empty_rows
from crt.linear.scores import Scores, mean_scores, normal_scores
from crt.sampling.strata import Strata
from crt.settings import Side, Statistic
from crt.tails.cumulants import bernoulli_cumulants, permutation_cumulants
from crt.tails.saddlepoint import BernoulliNull, Cumulants, LinearNull, PermutationNull, cauchy_combination, score_pvalues

BLOCK = 1024  # cells of a block of strata
REACH = 2.0  # null SDs of T that one cell may contribute where p is by saddlepoint


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreProblem:
    """The cells that units are compared on, with the outcome scores of the statistic.

    Attributes
    ----------
    C
        The design, float32 (cells, p), intercept first.
    parts
        Outcome scores: those that are tested, and last the mean's, from which effects come.
    statistic
        "mean", "normal_scores" or "cauchy".
    largest
        The largest |r| of all parts, (columns,).
    """

    C: Float32[np.ndarray, "cells covariates"]
    parts: tuple[Scores, ...]
    statistic: Statistic
    largest: Float64[np.ndarray, " columns"]

    @classmethod
    def of(cls, C: Float[np.ndarray, "cells covariates"], Y: Float[np.ndarray, "cells programs"], statistic: Statistic, *, n_jobs: int = 1) -> "ScoreProblem":
        """Compute the scores, once for all units that are compared on these cells.

        Parameters
        ----------
        C
            The design, intercept first.
        Y
            Outcomes.
        statistic
            "mean", "normal_scores" or "cauchy".
        n_jobs
            Number of worker threads.
        """
        mean = mean_scores(C, Y)
        parts = (mean,) if statistic == "mean" else (normal_scores(C, Y, n_jobs=n_jobs), mean)
        largest = np.zeros(len(parts) * Y.shape[1])
        problem = cls(C=C, parts=parts, statistic=statistic, largest=largest)
        for first in range(0, len(C), BLOCK):
            np.maximum(largest, np.abs(problem.block(slice(first, first + BLOCK))).max(0), out=largest)
        largest.flags.writeable = False
        return problem

    @property
    def n_programs(self) -> int:
        """K."""
        return self.parts[0].scale.size

    @property
    def n_tested(self) -> int:
        """Columns that are tested: all parts but the mean's where that is there for the effects only."""
        return self.n_programs * (len(self.parts) - (self.statistic == "normal_scores"))

    def block(self, cells: slice) -> Float32[np.ndarray, "block columns"]:
        """r of a block of cells and all parts, float32."""
        parts = [part.residuals(self.C, cells) for part in self.parts]
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    def rows(self, columns: Int[np.ndarray, " columns"], *, at: Int[np.ndarray, " cells"], n_rows: int) -> Float32[np.ndarray, "n_rows width"]:
        """r of some columns for samplers: that of cell i in row at[i] of `n_rows`, zeros elsewhere."""
        out = empty_rows(n_rows, 0, columns.size)
        for first in range(0, len(self.C), BLOCK):
            cells = slice(first, first + BLOCK)
            out[at[cells], : columns.size] = self.block(cells)[:, columns]
        return out

    def columns(self, part: int, cells: Int[np.ndarray, " block"]) -> Callable[[Int[np.ndarray, " _"]], Float64[np.ndarray, "_ block"]]:
        """A function of program indices that gives the residuals of some cells in float64, (programs, cells)."""
        s = self.parts[part]

        def residuals(programs: np.ndarray) -> np.ndarray:
            if s.coef is None:
                return s.values[np.ix_(cells, programs)].T.astype(np.float64, order="C")
            out = np.empty((programs.size, cells.size))
            _kernels.residual_columns(s.values, self.C, s.coef, s.scale, programs, cells, out)
            return out

        return residuals


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


def bernoulli_moments(problem: ScoreProblem, p: Sequence[Float[np.ndarray, " cells"]]) -> list[ScoreMoments]:
    """Moments of a batch of units whose cells are treated independently, with these propensities of the problem's cells."""
    mean, cumulants = bernoulli_cumulants(problem.block, partial(_probabilities, p), len(problem.C), n_tested=problem.n_tested)
    return [ScoreMoments(mean=mean[i], cumulants=Cumulants(*(c[i] for c in cumulants))) for i in range(len(p))]


def permutation_moments(problem: ScoreProblem, strata: Sequence[Strata]) -> list[ScoreMoments]:
    """Moments of a batch of units, treatments permuted within strata; the strata's cells are positions among the problem's."""
    n, width = len(problem.C), problem.largest.size
    ids = np.empty((len(strata), n), np.int32)
    for row, s in zip(ids, strata, strict=True):
        row[s.cells] = np.repeat(np.arange(s.n_treated.size, dtype=np.int32), np.diff(s.offsets))
    sums = [np.zeros((s.n_treated.size, 4, width)) for s in strata]
    for first in range(0, n, BLOCK):
        cells = slice(first, min(first + BLOCK, n))
        r = problem.block(cells)
        for row, one in zip(ids, sums, strict=True):
            _kernels.add_powers(r, row[cells], one)
    moments = (permutation_cumulants(one, np.diff(s.offsets), s.n_treated) for s, one in zip(strata, sums, strict=True))
    return [ScoreMoments(mean=mean, cumulants=cumulants) for mean, cumulants in moments]


def _probabilities(p: Sequence[np.ndarray], cells: slice) -> np.ndarray:
    """Propensities of a block of cells, float32 (units, block)."""
    return np.stack([one[cells] for one in p]).astype(np.float32)


def bernoulli_null(problem: ScoreProblem, p: Float[np.ndarray, " cells"], part: int) -> LinearNull:
    """The null distribution of a part of the scores, cells treated independently."""
    return BernoulliNull(p, problem.columns(part, np.arange(len(problem.C))))


def permutation_null(problem: ScoreProblem, strata: Strata, part: int) -> LinearNull:
    """The null distribution of a part of the scores, treatments permuted within strata."""
    return PermutationNull(strata.offsets, strata.n_treated, problem.columns(part, strata.cells))


def score_result(
    problem: ScoreProblem,
    t: Float64[np.ndarray, " columns"],
    cumulants: Cumulants,
    null: Callable[[int], LinearNull],
    empirical: Callable[[int, Int[np.ndarray, " tests"]], tuple[Float[np.ndarray, " tests"], Bool[np.ndarray, " tests"], int]],
    *,
    side: Side = "both",
) -> ScoreResult:
    """p-values of one unit from its moments: by Edgeworth series, by saddlepoints, or empirical where neither is accurate.

    Where one cell contributes more than `REACH` null SDs to T, saddlepoint p-values are off by more than 10 %. There, and where the saddlepoint equation has
    no solution, p is empirical, unless it is too small for the resamples and the saddlepoint exists.

    Parameters
    ----------
    problem
        The cells on which the unit is compared.
    t
        The statistics less their null means, all parts side by side.
    cumulants
        Their null cumulants.
    null
        The null distribution of each part.
    empirical
        Empirical log p of some programs of a part, whether each is too small for the number of resamples, and that number.
    side
        Alternative hypothesis.
    """
    K = problem.n_programs
    log_p, resampled, n_resamples = [], np.zeros(K, bool), 0
    for part in range(problem.n_tested // K):
        own = slice(part * K, (part + 1) * K)
        part_cumulants = Cumulants(*(c[own] for c in cumulants))
        found = score_pvalues(t[own], part_cumulants, null(part), largest=problem.largest[own], side=side)
        found.log_p[np.isneginf(found.log_p)] = np.nan  # beyond the support of T, by rounding: p would be 0
        rough = found.by_saddlepoint & (problem.largest[own] > REACH * part_cumulants.sd)
        which = np.flatnonzero(found.unsolved | rough)
        if which.size:
            drawn, small, n = empirical(part, which)
            use = ~small | np.isnan(found.log_p[which])
            found.log_p[which[use]] = drawn[use]
            resampled[which[use]] = True
            n_resamples = max(n_resamples, n)
        log_p.append(found.log_p)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = t[:K] / np.where(cumulants.sd[:K] > 0, cumulants.sd[:K], np.nan)
    joint = log_p[0] if len(log_p) == 1 else cauchy_combination(np.stack(log_p))
    return ScoreResult(z=z, log10_p=joint / np.log(10), resampled=resampled, n_resamples=n_resamples)
