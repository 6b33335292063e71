"""Tests of outcome scores for batches of units, under the design of either sampler, with resamples or without."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64, Int

from crt.inputs import CRTInputs
from crt.linear.score_test import (
    ScoreMoments,
    ScoreProblem,
    ScoreResult,
    bernoulli_moments,
    bernoulli_null,
    permutation_moments,
    permutation_null,
    score_result,
)
from crt.pvalues import empirical_pvalues
from crt.sampling.base import Drawer, Unit
from crt.sampling.strata import Strata
from crt.sampling.stratified import StratifiedDrawer
from crt.settings import FEW, STAGES, UnitSettings, stage_seed
from crt.statistic import NullDraws, ObservedUnit, without_resamples
from crt.tails.saddlepoint import LinearNull


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredUnit:
    """An observed unit with its outcome scores and their null moments.

    Attributes
    ----------
    seen
        The unit.
    cells
        Its cells, treatment and propensity.
    problem
        The outcome scores of these cells.
    moments
        Null moments of Σ r over the treated cells.
    strata
        Strata within which treatments are permuted; None where cells are treated independently.
    """

    seen: ObservedUnit
    cells: Unit
    problem: ScoreProblem
    moments: ScoreMoments
    strata: Strata | None

    def null(self, part: int) -> LinearNull:
        """The null distribution of a part of the scores."""
        return bernoulli_null(self.problem, self.cells.p, part) if self.strata is None else permutation_null(self.problem, self.strata, part)

    @property
    def t(self) -> Float64[np.ndarray, " columns"]:
        """The statistics less their null means; of the mean's part Σ r is the numerator of β, over the scale."""
        scores = [part.values[self.cells.treated].sum(0, dtype=np.float64) for part in self.problem.parts[:-1]]
        return np.concatenate([*scores, self.seen.statistic * self.seen.den / self.problem.parts[-1].scale]) - self.moments.mean

    @property
    def effect(self) -> tuple[Float64[np.ndarray, " programs"], Float64[np.ndarray, " programs"]]:
        """The mean of β under the null hypothesis, and its standard error, √κ₂ of the mean's T over the denominator of β."""
        own, scale = slice(-self.problem.n_programs, None), self.problem.parts[-1].scale / self.seen.den
        scale = np.where(np.isfinite(scale), scale, np.nan)
        return self.moments.mean[own] * scale, self.moments.cumulants.sd[own] * scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreTest:
    """Tests of outcome scores on one screen.

    Attributes
    ----------
    inputs
        Screen.
    settings
        Settings of the test.
    drawer
        Sampler bound to the screen. It determines the null distribution, and draws the resamples.
    problem
        The outcome scores of all cells, if units are compared with all other cells; None if every unit has cells of its own.
    rows
        Their residuals for the sampler, if every unit is resampled; None otherwise.
    """

    inputs: CRTInputs
    settings: UnitSettings
    drawer: Drawer
    problem: ScoreProblem | None
    rows: Float32[np.ndarray, "cells width"] | None

    @classmethod
    def of(cls, inputs: CRTInputs, settings: UnitSettings, drawer: Drawer, *, n_jobs: int = 1) -> "ScoreTest":
        """Compute the outcome scores that all units share.

        Parameters
        ----------
        inputs
            Screen.
        settings
            Settings of the test.
        drawer
            Sampler bound to the screen.
        n_jobs
            Number of worker threads.
        """
        whole = inputs.control_group == "complement"
        problem = ScoreProblem.of(inputs.C, inputs.Y, settings.statistic, n_jobs=n_jobs) if whole else None
        rows = None
        if problem is not None and settings.method == "resample":
            rows = problem.rows(np.arange(problem.n_tested), at=inputs.all_cells, n_rows=len(inputs.rows))
        return cls(inputs=inputs, settings=settings, drawer=drawer, problem=problem, rows=rows)

    def scored(self, seen: Sequence[ObservedUnit]) -> list[ScoredUnit | None]:
        """Compute scores and moments of observed units; None where the statistic is undefined."""
        out: list[ScoredUnit | None] = [None] * len(seen)
        units = {i: one.unit for i, one in enumerate(seen) if one.unit is not None}
        batches = [list(units)] if self.problem is not None else [[i] for i in units]
        for batch in batches if units else []:
            cells = [units[i] for i in batch]
            problem = self.problem
            if problem is None:
                own = cells[0].cells
                problem = ScoreProblem.of(self.inputs.C[own], self.inputs.Y[own], self.settings.statistic)
            strata, moments = self._moments(problem, cells)
            for i, unit, s, m in zip(batch, cells, strata, moments, strict=True):
                out[i] = ScoredUnit(seen=seen[i], cells=unit, problem=problem, moments=m, strata=s)
        return out

    def _moments(self, problem: ScoreProblem, units: Sequence[Unit]) -> tuple[Sequence[Strata | None], list[ScoreMoments]]:
        if isinstance(self.drawer, StratifiedDrawer):
            strata = [_local(self.drawer.strata(unit), unit) for unit in units]
            return strata, permutation_moments(problem, strata)
        return [None] * len(units), bernoulli_moments(problem, [unit.p for unit in units])

    def without_resamples(self, name: str, unit: ScoredUnit) -> ScoreResult:
        """p-values of a unit by saddlepoint approximation; from resamples, in stages, where that is not accurate."""

        def empirical(part: int, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
            p, small = np.empty(which.size), np.ones(which.size, bool)
            for stage, n in enumerate(self.settings.with_stages(STAGES), start=1):
                drawn = self.draws(unit, n, stage_seed(self.settings.seed, name, stage), part * unit.problem.n_programs + which[small])
                p[small] = empirical_pvalues(drawn.observed, drawn.null, side=self.settings.side)
                small[small] = p[small] * (n + 1) <= FEW
                if not small.any():
                    break
            return np.log(p), small, n

        return score_result(unit.problem, unit.t, unit.moments.cumulants, unit.null, empirical, side=self.settings.side)

    def draws(self, unit: ScoredUnit, n_resamples: int, seed: int, columns: Int[np.ndarray, " columns"] | None = None) -> NullDraws:
        """T of resamples, less its null mean.

        Parameters
        ----------
        unit
            The unit.
        n_resamples
            Number of resamples.
        seed
            Random seed of the unit.
        columns
            Columns of the scores; all that are tested by default.
        """
        columns, rows = np.arange(unit.problem.n_tested) if columns is None else columns, self.rows
        if rows is None:
            rows = unit.problem.rows(columns, at=unit.cells.cells, n_rows=len(self.inputs.rows))
        sums, sampling = self.drawer.sums(unit.cells, rows, n_resamples, seed)
        mean = unit.moments.mean[columns]
        null = np.ascontiguousarray((sums[:, : columns.size] - mean).T, np.float32)
        null.flags.writeable = False
        return replace(without_resamples(unit.seen), observed=unit.t[columns], null=null.T, sampling=sampling)


def _local(strata: Strata, unit: Unit) -> Strata:
    """Strata with positions among the unit's cells in place of rows of the screen."""
    return strata if unit.whole else replace(strata, cells=np.searchsorted(unit.cells, strata.cells))
