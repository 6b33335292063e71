"""Numbers of independent tests, against simulated z scores and slow formulas."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks.null_screens import BURDEN, Plan, bent, make
from crt import BernoulliIndex, StratifiedPermutation
from crt.null.dependence import Dependence, outcome_correlations, treatment_correlations
from crt.null.groups import make_ntc_groups_ensemble

UNITS = np.array([[1.0, 0.5, 0.3], [0.5, 1.0, -0.2], [0.3, -0.2, 1.0]])
PROGRAMS = np.array([[1.0, 0.6], [0.6, 1.0]])
SCREENS = {"complement": Plan(cells=1500, ntc_guides=12), "ntc_cells": Plan(cells=1500, ntc_guides=12, one_guide=True)}


@pytest.mark.parametrize("two_sided", [True, False])
def test_variances_of_means_over_dependent_tests(two_sided):
    """40,000 sets of six z scores; the relative standard error of a variance is below 2 %, that of the rarest rate below 4 %."""
    rng = np.random.default_rng(0)
    z = np.linalg.cholesky(UNITS) @ rng.normal(size=(40_000, 3, 2)) @ np.linalg.cholesky(PROGRAMS).T
    both = Dependence(units=UNITS, programs=PROGRAMS)
    assert np.mean(z**2, (1, 2)).var() == pytest.approx(2 / both.squares(), rel=0.06)
    for level, n in both.indicators((0.2, 0.05, 0.01), two_sided=two_sided).items():
        hit = np.abs(z) >= norm.isf(level / 2) if two_sided else z >= norm.isf(level)
        want = level * (1 - level) / hit.mean((1, 2)).var()
        assert n == pytest.approx(want, rel=0.12)


def test_independent_and_equal_tests():
    for units, programs, n in ((np.eye(5), np.eye(3), 15), (np.ones((5, 5)), np.eye(3), 3), (np.eye(5), np.ones((3, 3)), 5)):
        one = Dependence(units=units, programs=programs)
        assert one.squares() == pytest.approx(n) and one.indicators([0.05], two_sided=True) == {0.05: pytest.approx(n)}
    some = one.of(np.array([True, False, True, False, False]), np.array([True, True, False]))
    assert some.squares() == pytest.approx(2) and some.units.shape == some.programs.shape == (2, 2)


@pytest.mark.parametrize("control", list(SCREENS))
def test_correlations_against_regressions(control):
    inputs = make(SCREENS[control], 3)
    groups = make_ntc_groups_ensemble(inputs, n_ensemble=2, group_size=3)
    sets = [inputs.treated(columns) for member in groups for columns in member.values()]
    cells = inputs.all_cells if control == "complement" else inputs.ntc_cells
    C = inputs.C[cells].astype(float)
    x = np.array([np.isin(cells, treated) for treated in sets], float).T
    for got, columns in ((treatment_correlations(sets, inputs, BernoulliIndex()), x), (outcome_correlations(inputs, "mean"), inputs.Y[cells].astype(float))):
        residuals = columns - C @ np.linalg.lstsq(C, columns, rcond=None)[0]
        np.testing.assert_allclose(got, np.corrcoef(residuals.T), atol=2e-3)


def test_normal_scores_have_correlations_of_their_own():
    """One factor of all outcomes, hidden by outliers: a thousand times the others' variance in 0.5 % of the cells."""
    rng = np.random.default_rng(1)
    inputs = make(replace(SCREENS["complement"], noise=lambda _, shape: rng.normal(size=(shape[0], 1)) * 3 + rng.normal(size=shape)), 3)
    outlying = inputs.Y + 300 * (rng.random(inputs.Y.shape) < 0.005)
    rows = inputs.rows.copy()
    rows[:, inputs.C.shape[1] :][:, : outlying.shape[1]] = outlying
    inputs = replace(inputs, rows=rows)
    mean, normal, both = (1 / np.mean(outcome_correlations(inputs, statistic) ** 2) for statistic in ("mean", "normal_scores", "cauchy"))
    assert normal < 2 and mean > 6 and both <= normal


def test_partitions_do_not_count_as_groups():
    """Of twelve guides, ten partitions into groups of three give more than four independent groups, but fewer than twelve."""
    inputs = make(SCREENS["complement"], 3)
    ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=10, group_size=3)
    numbers = []
    for members in (ensemble[:1], ensemble):
        sets = [inputs.treated(columns) for member in members for columns in member.values()]
        numbers.append(Dependence(units=treatment_correlations(sets, inputs, BernoulliIndex()), programs=np.eye(1)).independent_units())
    assert 3.7 < numbers[0] <= 4 < numbers[1] < 12


def test_two_groups_that_are_compared_with_each_other_are_one_test():
    inputs = make(SCREENS["ntc_cells"], 3)
    groups = make_ntc_groups_ensemble(inputs, n_ensemble=1, group_size=6)[0]
    rho = treatment_correlations([inputs.treated(columns) for columns in groups.values()], inputs, BernoulliIndex())
    assert rho[0, 1] == pytest.approx(-1, abs=1e-6)
    assert Dependence(units=rho, programs=np.eye(1)).independent_units() == pytest.approx(1)


def test_a_treatment_or_an_outcome_without_variance_depends_on_nothing():
    inputs = make(SCREENS["complement"], 3)
    rho = treatment_correlations([np.array([], np.int32), inputs.all_cells, inputs.all_cells[:70]], inputs, BernoulliIndex())
    np.testing.assert_array_equal(rho, np.eye(3))


def test_groups_that_depend_on_the_burden_are_independent_within_its_strata():
    """All NTC guides are in cells of low or high burden: between strata, groups overlap by more than chance."""
    plan = Plan(cells=1500, ntc_guides=12, ntc_tilt=lambda z, batch, burden, j: np.exp(1.5 * bent(burden)))
    inputs = make(plan, 3)
    sets = [inputs.treated(inputs.ntc_cols[[k]]) for k in range(12)]
    strata = StratifiedPermutation(burden_key=BURDEN, n_burden_bins=16, burden_bin_method="uniform")
    numbers = [
        Dependence(units=treatment_correlations(sets, inputs, sampler), programs=np.eye(1)).independent_units() for sampler in (BernoulliIndex(), strata)
    ]
    assert numbers[0] < 9 and numbers[1] > 11
