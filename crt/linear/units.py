"""The test without resamples for batches of units, under the design of either sampler."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crt.inputs import CRTInputs
from crt.layout import empty_rows
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
from crt.sampling.streams import unit_seed
from crt.settings import UnitSettings
from crt.statistic import ObservedUnit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreTest:
    """The test without resamples on one screen.

    Attributes
    ----------
    inputs
        Screen.
    settings
        Settings of the test.
    drawer
        Sampler bound to the screen. It determines the null distribution, and draws where a saddlepoint equation has no solution.
    problem
        The outcome scores of all cells, if units are compared with all other cells; None if every unit has cells of its own.
    """

    inputs: CRTInputs
    settings: UnitSettings
    drawer: Drawer
    problem: ScoreProblem | None

    @classmethod
    def of(cls, inputs: CRTInputs, settings: UnitSettings, drawer: Drawer) -> "ScoreTest":
        """Compute the outcome scores that all units share."""
        whole = inputs.control_group == "complement"
        problem = ScoreProblem.of(inputs.C, inputs.Y, settings.statistic) if whole else None
        return cls(inputs=inputs, settings=settings, drawer=drawer, problem=problem)

    def batch(self, names: Sequence[str], seen: Sequence[ObservedUnit]) -> list[ScoreResult | None]:
        """Test observed units; None where the statistic is undefined."""
        out: list[ScoreResult | None] = [None] * len(seen)
        units = {i: one.unit for i, one in enumerate(seen) if one.unit is not None}
        if self.problem is None:
            for i, unit in units.items():
                problem = ScoreProblem.of(self.inputs.C[unit.cells], self.inputs.Y[unit.cells], self.settings.statistic)
                out[i] = self._test(problem, [names[i]], [seen[i]], [unit])[0]
        elif units:
            results = self._test(self.problem, [names[i] for i in units], [seen[i] for i in units], list(units.values()))
            for i, result in zip(units, results, strict=True):
                out[i] = result
        return out

    def _test(self, problem: ScoreProblem, names: Sequence[str], seen: Sequence[ObservedUnit], units: Sequence[Unit]) -> list[ScoreResult]:
        treated = [unit.treated for unit in units]
        if isinstance(self.drawer, StratifiedDrawer):
            strata = [_local(self.drawer.strata(unit), unit) for unit in units]
            moments, nulls = permutation_moments(problem, strata, treated), [permutation_null(problem, s) for s in strata]
        else:
            moments, nulls = bernoulli_moments(problem, [unit.p for unit in units], treated), [bernoulli_null(problem, unit.p) for unit in units]
        return [
            score_result(problem, m, null, self._fallback(problem, name, unit, m), beta=one.statistic, denominator=one.den, side=self.settings.side)
            for name, one, unit, m, null in zip(names, seen, units, moments, nulls, strict=True)
        ]

    def _fallback(self, problem: ScoreProblem, name: str, unit: Unit, moments: ScoreMoments) -> Callable[[int, np.ndarray], np.ndarray]:
        """log p of some columns of a part by resampling."""

        def log_p(part: int, which: np.ndarray) -> np.ndarray:
            residuals = problem.columns(part, np.arange(unit.cells.size))(which)
            rows = empty_rows(len(self.inputs.rows), 0, which.size)
            rows[unit.cells, : which.size] = residuals.T
            sums, _ = self.drawer.sums(unit, rows, self.settings.n_resamples, unit_seed(self.settings.seed, name, purpose="resamples"))
            mean = moments.mean[part * problem.n_programs + which]
            null = (sums[:, : which.size] - mean).astype(np.float32)
            return np.log(empirical_pvalues(residuals[:, unit.treated].sum(1) - mean, null, side=self.settings.side))

        return log_p


def _local(strata: Strata, unit: Unit) -> Strata:
    """Strata with positions among the unit's cells in place of rows of the screen."""
    return strata if unit.whole else replace(strata, cells=np.searchsorted(unit.cells, strata.cells))
