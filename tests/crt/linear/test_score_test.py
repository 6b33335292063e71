"""Outcome scores, and a unit's p-values and effects, against dense computations in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from crt.cells.stored import cell_blocks, new_matrix
from crt.layout import empty_rows
from crt.linear.scores import few_valued, mean_scores, normal_scores, sorted_midranks
from crt.linear.units import ScoreTest
from crt.propensity import probability
from crt.sampling.methods import BernoulliIndex, StratifiedPermutation
from crt.settings import UnitSettings
from crt.statistic import Compared, observe
from data_prep.blocks.place import MEMORY
from tests.crt.problems import logistic_fits, random_problem, tiny_inputs

STATISTICS = ("mean", "normal_scores", "cauchy")


@pytest.fixture(scope="module")
def problem():
    """3,000 cells, 6 programs, 20 units of about 90 cells."""
    C, Y, rng = random_problem(3000, 4, 6)
    sets = [np.flatnonzero(rng.random(3000) < 1 / (1 + np.exp(3.5 - 0.5 * C[:, 1]))).astype(np.int32) for _ in range(20)]
    Y[sets[0], 0] += 1.0
    inputs = tiny_inputs(C, Y * 7 + 100, {f"g{t:02d}": s for t, s in enumerate(sets)})
    return inputs, sets


def blocks_of(C, Y):
    rows = empty_rows(len(C), C.shape[1], Y.shape[1])
    rows[:, : C.shape[1]], rows[:, C.shape[1] : C.shape[1] + Y.shape[1]] = C, Y
    return cell_blocks(MEMORY, rows, C.T, Y.shape[1])


def mean_of(C, Y):
    return mean_scores(blocks_of(C, Y)).residuals(C, Y)


def normal_of(C, Y, **options):
    blocks = blocks_of(C, Y)
    return np.concatenate(normal_scores(blocks, mean_scores(blocks), new_matrix(MEMORY, Y.shape[1], len(Y)), **options).items)


def lstsq_residuals(C, y):
    C = np.asarray(C, float)
    return y - C @ np.linalg.lstsq(C, y, rcond=None)[0]


def results(inputs, sets, statistic, design="bernoulli", side="both"):
    sampler = BernoulliIndex() if design == "bernoulli" else StratifiedPermutation(n_bins=5, stratify_by_batch=False)
    settings = UnitSettings(method="saddlepoint", statistic=statistic, sampler=sampler, side=side)
    compared = Compared.of_screen(inputs)
    score = ScoreTest.of(inputs, settings, sampler.bind(inputs), compared=compared)
    units, out = score.scored(observe(sets, inputs, settings, compared)), []
    for unit, found in zip(units, score.without_resamples(["g"] * len(units), units), strict=True):
        null_mean, se = unit.effect
        assert not found.resampled.any()
        out.append(SimpleNamespace(beta=unit.seen.statistic, z=found.z, log10_p=found.log10_p, null_mean=null_mean, se=se))
    return out


def test_midranks():
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=500), rng.integers(0, 4, 500), np.zeros(7), np.array([3.0])):
        order, twice = sorted_midranks(values.astype(np.float32))
        np.testing.assert_array_equal(2 * np.arange(1, len(values) + 1) if twice is None else twice, 2 * rankdata(values)[order])


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_scores_are_residuals_of_variance_one(offset):
    C, Y, rng = random_problem(2000, 5, 3)
    C, Y = C.astype(np.float32), (Y * [1, 50, 0.01] + offset).astype(np.float32)
    Y[:700, 2] = Y[0, 2]  # ties, as in outcomes with many zeros
    for r, values in ((mean_of(C, Y), Y.astype(float)), (normal_of(C, Y), None)):
        assert np.abs(C.T.astype(float) @ r / len(r)).max() < 1e-6
        np.testing.assert_allclose(r.std(0), 1, rtol=1e-4)
        if values is None:
            left = np.column_stack([lstsq_residuals(C, y) for y in Y.astype(float).T])
            values = norm.ppf(rankdata(left, axis=0) / 2001)
        want = np.column_stack([lstsq_residuals(C, y) for y in values.T])
        np.testing.assert_allclose(r[:, :2], (want / want.std(0))[:, :2], atol=2e-3 if offset else 2e-5)


def test_normal_scores_do_not_care_for_monotone_outcomes():
    """Without covariates ranks are all that counts; outcomes with few values are counted."""
    rng = np.random.default_rng(1)
    C, y = np.ones((500, 1), np.float32), rng.normal(size=500)
    Y = np.column_stack([y, np.exp(3 * y), y > 0, np.zeros(500), np.r_[2.0, 1.0, np.zeros(498)]]).astype(np.float32)
    scores = normal_of(C, Y)
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], atol=1e-6)
    assert few_valued(blocks_of(C, Y)).tolist() == [2, 3]
    np.testing.assert_array_equal(normal_of(C, Y, n_jobs=3), scores)
    np.testing.assert_array_equal(normal_of(C, Y[:, ::-1])[:, ::-1], scores)
    assert (scores[:, 3] == 0).all()


@pytest.mark.parametrize("statistic", STATISTICS)
def test_moments_and_z_against_dense_float64(problem, statistic):
    inputs, sets = problem
    columns = inputs.columns
    mean_r, scale = mean_of(inputs.C, inputs.Y), mean_scores(inputs.blocks()).scale
    r = mean_r if statistic == "mean" else normal_of(inputs.C, inputs.Y)
    beta = logistic_fits(columns, sets).beta
    for coefficients, treated, found in zip(beta, sets, results(inputs, sets, statistic), strict=True):
        p = probability(columns, coefficients)
        v, x = p * (1 - p), np.bincount(treated, minlength=p.size)
        np.testing.assert_allclose(found.z, (x - p) @ r / np.sqrt(v @ r**2), atol=2e-5)
        own = lstsq_residuals(inputs.C, x.astype(float))
        np.testing.assert_allclose(found.se, scale * np.sqrt(v @ mean_r**2) / (own @ own), rtol=1e-5)
        np.testing.assert_allclose(found.null_mean, scale * (p @ mean_r) / (own @ own), atol=1e-5 * np.abs(found.beta).max() + 1e-5)


@pytest.mark.parametrize("design", ["bernoulli", "permutation"])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_unit_does_not_depend_on_its_company(problem, statistic, design):
    """The same digits among 20, in another order, and alone."""
    inputs, sets = problem
    together = results(inputs, sets, statistic, design)
    turned = results(inputs, sets[::-1], statistic, design)[::-1]
    for one, other in zip(together, turned, strict=True):
        np.testing.assert_array_equal(one.log10_p, other.log10_p)
        np.testing.assert_array_equal(one.se, other.se)
    alone = results(inputs, sets[3:4], statistic, design)[0]
    np.testing.assert_array_equal(alone.log10_p, together[3].log10_p)


@pytest.mark.parametrize("design", ["bernoulli", "permutation"])
def test_programs_do_not_matter_to_each_other(problem, design):
    inputs, sets = problem
    order = np.array([4, 2, 0, 1, 5, 3])
    C, Y = np.asarray(inputs.C, float), np.asarray(inputs.Y, float)
    turned = tiny_inputs(C, Y[:, order], {f"g{t:02d}": s for t, s in enumerate(sets)})
    for one, other in zip(results(inputs, sets, "cauchy", design), results(turned, sets, "cauchy", design), strict=True):
        np.testing.assert_allclose(other.log10_p, one.log10_p[order], atol=1e-4)


def test_what_does_not_change_p(problem):
    """Adding a combination of covariates to an outcome, or scaling it, changes no p and scales β's error."""
    inputs, sets = problem
    C, Y = np.asarray(inputs.C, float), np.asarray(inputs.Y, float)
    moved = tiny_inputs(C, Y * -3 + (C @ np.array([1.0, 2.0, -1.0, 0.5]))[:, None], {f"g{t:02d}": s for t, s in enumerate(sets)})
    for statistic in STATISTICS:
        for one, other in zip(results(inputs, sets, statistic), results(moved, sets, statistic), strict=True):
            np.testing.assert_allclose(other.log10_p, one.log10_p, atol=2e-3)
            np.testing.assert_allclose(other.se, 3 * one.se, rtol=1e-4)


def test_an_effect_is_found_and_covered(problem):
    inputs, sets = problem
    for statistic in STATISTICS:
        found = results(inputs, sets, statistic)[0]
        assert found.log10_p[0] < -6 and abs(found.beta[0] - found.null_mean[0] - 7) < 2 * found.se[0] and found.beta[0] > 3 * found.se[0]


def test_an_outcome_that_the_covariates_determine_has_no_test():
    C, Y, rng = random_problem(400, 3, 3)
    Y[:, 1], Y[:, 2] = 5, 3 + 2 * C[:, 1]
    treated = np.sort(rng.choice(400, 40, replace=False)).astype(np.int32)
    inputs = tiny_inputs(C, Y, {"g": treated})
    for statistic in STATISTICS:
        (found,) = results(inputs, [treated], statistic)
        assert np.isnan(found.log10_p[1:]).all() and np.isfinite(found.log10_p[0])
