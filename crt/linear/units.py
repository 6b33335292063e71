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
    parts_of,
    permutation_moments,
    score_result,
    solve_bernoulli,
    solve_permutation,
)
from crt.pvalues import empirical_pvalues
from crt.sampling.base import Drawer, Unit
from crt.sampling.strata import Strata
from crt.sampling.stratified import StratifiedDrawer
from crt.settings import FEW, STAGES, UnitSettings, stage_seed
from crt.statistic import Compared, NullDraws, ObservedUnit, without_resamples
from crt.tails.saddlepoint import ScorePvalues


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
    t
        The statistics less their null means; of the mean's columns Σ r is the numerator of β, over the scale.
    """

    seen: ObservedUnit
    cells: Unit
    problem: ScoreProblem
    moments: ScoreMoments
    strata: Strata | None
    t: Float64[np.ndarray, " columns"]

    @property
    def effect(self) -> tuple[Float64[np.ndarray, " programs"], Float64[np.ndarray, " programs"]]:
        """The mean of β under the null hypothesis, and its standard error, √κ₂ of the mean's T over the denominator of β."""
        own, scale = slice(-self.problem.n_programs, None), self.problem.mean.scale / self.seen.den
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
    def of(cls, inputs: CRTInputs, settings: UnitSettings, drawer: Drawer, *, compared: Compared | None, n_jobs: int = 1) -> "ScoreTest":
        """Compute the outcome scores that all units share.

        Parameters
        ----------
        inputs
            Screen.
        settings
            Settings of the test.
        drawer
            Sampler bound to the screen.
        compared
            The cells that all units are compared on; None if every unit has cells of its own.
        n_jobs
            Number of worker threads.
        """
        problem = None if compared is None else ScoreProblem.of(compared.blocks, compared.cells.size, settings.statistic, place=inputs.place, n_jobs=n_jobs)
        rows = None
        if problem is not None and settings.method == "resample":
            rows = problem.rows(np.arange(problem.n_tested), at=inputs.all_cells, n_rows=len(inputs.rows), place=inputs.place)
        return cls(inputs=inputs, settings=settings, drawer=drawer, problem=problem, rows=rows)

    def scored(self, seen: Sequence[ObservedUnit]) -> list[ScoredUnit | None]:
        """Compute scores and moments of observed units; None where the statistic is undefined."""
        out: list[ScoredUnit | None] = [None] * len(seen)
        for batch in _together([i for i, one in enumerate(seen) if one.unit is not None], seen):
            compared = seen[batch[0]].compared
            problem = self.problem
            if problem is None:
                problem = ScoreProblem.of(compared.blocks, compared.cells.size, self.settings.statistic)
            problem = replace(problem, blocks=compared.blocks)  # where propensities are given, the terms that they depend on are the unit's own
            units = [unit for i in batch if (unit := seen[i].unit) is not None]
            strata, moments = self._moments(problem, units)
            normal = [None] * len(batch) if problem.normal is None else compared.normal_sums(problem.normal, [unit.treated for unit in units])
            for i, unit, s, m, sums in zip(batch, units, strata, moments, normal, strict=True):
                own = seen[i].statistic * seen[i].den / problem.mean.scale
                t = (own if sums is None else np.concatenate([sums, own])) - m.mean
                out[i] = ScoredUnit(seen=seen[i], cells=unit, problem=problem, moments=m, strata=s, t=t)
        return out

    def _moments(self, problem: ScoreProblem, units: Sequence[Unit]) -> tuple[Sequence[Strata | None], list[ScoreMoments]]:
        if isinstance(self.drawer, StratifiedDrawer):
            strata = [_local(self.drawer.strata(unit), unit) for unit in units]
            return strata, permutation_moments(problem, strata)
        return [None] * len(units), bernoulli_moments(problem, np.stack([unit.propensity.beta for unit in units]))

    def without_resamples(self, names: Sequence[str], units: Sequence[ScoredUnit]) -> list[ScoreResult]:
        """p-values of units by saddlepoint approximation; from resamples, in stages, where that is not accurate.

        Parameters
        ----------
        names
            Names of the units, which determine their random streams.
        units
            The units.
        """
        parts = [parts_of(unit.problem, unit.t, unit.moments.cumulants, self.settings.side) for unit in units]
        out: list[ScoreResult] = []
        for batch in _together(list(range(len(units))), [unit.seen for unit in units]):
            own, problem = [parts[i] for i in batch], units[batch[0]].problem
            if isinstance(self.drawer, StratifiedDrawer):
                solved = [solve_permutation(problem, s, p) for i, p in zip(batch, own, strict=True) if (s := units[i].strata) is not None]
            else:
                solved = solve_bernoulli(problem, np.stack([units[i].cells.propensity.beta for i in batch]), own)
            out += [self._result(names[i], units[i], found) for i, found in zip(batch, solved, strict=True)]
        return out

    def _result(self, name: str, unit: ScoredUnit, solved: list[ScorePvalues]) -> ScoreResult:
        def empirical(part: int, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
            p, small = np.empty(which.size), np.ones(which.size, bool)
            for stage, n in enumerate(self.settings.with_stages(STAGES), start=1):
                drawn = self.draws(unit, n, stage_seed(self.settings.seed, name, stage), part * unit.problem.n_programs + which[small])
                p[small] = empirical_pvalues(drawn.observed, drawn.null, side=self.settings.side)
                small[small] = p[small] * (n + 1) <= FEW
                if not small.any():
                    break
            return np.log(p), small, n

        return score_result(unit.problem, unit.t, unit.moments.cumulants, solved, empirical)

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
            rows = unit.problem.rows(columns, at=unit.cells.cells, n_rows=len(self.inputs.rows), place=self.inputs.place)
        sums, sampling = self.drawer.sums(unit.cells, rows, n_resamples, seed)
        mean = unit.moments.mean[columns]
        null = np.ascontiguousarray((sums[:, : columns.size] - mean).T, np.float32)
        null.flags.writeable = False
        return replace(without_resamples(unit.seen), observed=unit.t[columns], null=null.T, sampling=sampling)


def _local(strata: Strata, unit: Unit) -> Strata:
    """Strata with positions among the unit's cells in place of rows of the screen."""
    return strata if unit.whole else replace(strata, cells=np.searchsorted(unit.cells, strata.cells))


def _together(which: list[int], seen: Sequence[ObservedUnit]) -> list[list[int]]:
    """The units of each set of cells that units are compared on."""
    out: dict[int, list[int]] = {}
    for i in which:
        out.setdefault(id(seen[i].compared), []).append(i)
    return list(out.values())
