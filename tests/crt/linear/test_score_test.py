"""Outcome scores, and a unit's p-values and effects, against dense computations in float64."""

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from crt.linear.score_test import ScoreProblem, bernoulli_moments, bernoulli_null, permutation_moments, permutation_null, score_result
from crt.linear.scores import mean_scores, normal_scores, twice_midranks
from crt.propensity import fit_logistic, probability
from crt.sampling.base import Unit
from crt.sampling.stratified import StratifiedPermutation
from crt.statistic import Projection
from tests.crt.problems import random_problem, tiny_inputs

STATISTICS = ("mean", "normal_scores", "cauchy")


@pytest.fixture(scope="module")
def problem():
    """3,000 cells, 6 programs, 20 units of about 90 cells."""
    C, Y, rng = random_problem(3000, 4, 6)
    sets = [np.flatnonzero(rng.random(3000) < 1 / (1 + np.exp(3.5 - 0.5 * C[:, 1]))).astype(np.int32) for _ in range(20)]
    Y[sets[0], 0] += 1.0
    inputs = tiny_inputs(C, Y * 7 + 100, {f"g{t:02d}": s for t, s in enumerate(sets)})
    return inputs, sets


def lstsq_residuals(C, y):
    C = np.asarray(C, float)
    return y - C @ np.linalg.lstsq(C, y, rcond=None)[0]


def no_fallback(part, which):
    raise AssertionError(f"unsolved: part {part}, columns {which}")


def results(inputs, sets, statistic, design="bernoulli", side="both"):
    problem, projection = ScoreProblem.of(inputs.C, inputs.Y, statistic), Projection.of(inputs.gram, inputs.cross)
    beta = fit_logistic(inputs.columns, sets).beta
    if design == "bernoulli":
        p = [probability(inputs.columns, b) for b in beta]
        moments = bernoulli_moments(problem, p, sets)
        nulls = [bernoulli_null(problem, one) for one in p]
    else:
        drawer = StratifiedPermutation(n_bins=5, stratify_by_batch=False).bind(inputs)
        strata = [drawer.strata(Unit(cells=inputs.all_cells, treated=t, p=probability(inputs.columns, b), whole=True)) for t, b in zip(sets, beta, strict=True)]
        moments = permutation_moments(problem, strata, sets)
        nulls = [permutation_null(problem, s) for s in strata]
    out = []
    p = len(inputs.covar_names)
    for t, m, null in zip(sets, moments, nulls, strict=True):
        own = inputs.rows[t].astype(float).sum(0)
        b, den = projection.coefficients(own[:p], own[p : p + len(inputs.program_names)])
        out.append((b, score_result(problem, m, null, no_fallback, beta=b, denominator=den, side=side)))
    return out


def test_midranks():
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=500), rng.integers(0, 4, 500), np.zeros(7), np.array([3.0])):
        np.testing.assert_array_equal(twice_midranks(values.astype(np.float32)), 2 * rankdata(values))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_scores_are_residuals_of_variance_one(offset):
    C, Y, rng = random_problem(2000, 5, 3)
    C, Y = C.astype(np.float32), (Y * [1, 50, 0.01] + offset).astype(np.float32)
    Y[:700, 2] = Y[0, 2]  # ties, as in outcomes with many zeros
    for scores, values in ((mean_scores(C, Y), Y.astype(float)), (normal_scores(C, Y), None)):
        r = scores.residuals(C)
        assert np.abs(C.T.astype(float) @ r).max() < 1e-5
        np.testing.assert_allclose(r.std(0), 1, rtol=1e-4)
        if values is None:
            left = np.column_stack([lstsq_residuals(C, y) for y in Y.astype(float).T])
            values = norm.ppf(rankdata(left, axis=0) / 2001)
        want = np.column_stack([lstsq_residuals(C, y) for y in values.T])
        np.testing.assert_allclose(r[:, :2], (want / want.std(0))[:, :2], atol=2e-3 if offset else 2e-5)
        total_c, total = scores.total(C, np.arange(10, 60))
        np.testing.assert_allclose(total, r[10:60].sum(0), atol=1e-6)
        np.testing.assert_allclose(total_c, C[10:60].sum(0, dtype=float))


def test_normal_scores_do_not_care_for_monotone_outcomes():
    """Without covariates ranks are all that counts; outcomes with few values are counted."""
    rng = np.random.default_rng(1)
    C, y = np.ones((500, 1), np.float32), rng.normal(size=500)
    scores = normal_scores(C, np.column_stack([y, np.exp(3 * y), y > 0, np.zeros(500), np.r_[2.0, 1.0, np.zeros(498)]]).astype(np.float32))
    np.testing.assert_allclose(scores.residuals(C)[:, 0], scores.residuals(C)[:, 1], atol=1e-6)
    assert scores.n_distinct.tolist() == [3, 3, 2, 1, 3]
    assert (scores.residuals(C)[:, 3] == 0).all()


@pytest.mark.parametrize("statistic", STATISTICS)
def test_moments_and_z_against_dense_float64(problem, statistic):
    inputs, sets = problem
    columns = inputs.columns
    part = mean_scores(inputs.C, inputs.Y) if statistic == "mean" else normal_scores(inputs.C, inputs.Y)
    r, mean_r = part.residuals(inputs.C), mean_scores(inputs.C, inputs.Y).residuals(inputs.C)
    scale = mean_scores(inputs.C, inputs.Y).scale
    beta = fit_logistic(columns, sets).beta
    for coefficients, treated, (b, found) in zip(beta, sets, results(inputs, sets, statistic), strict=True):
        p = probability(columns, coefficients)
        v, x = p * (1 - p), np.bincount(treated, minlength=p.size)
        np.testing.assert_allclose(found.z, (x - p) @ r / np.sqrt(v @ r**2), atol=2e-5)
        own = lstsq_residuals(inputs.C, x.astype(float))
        np.testing.assert_allclose(found.se, scale * np.sqrt(v @ mean_r**2) / (own @ own), rtol=1e-5)
        np.testing.assert_allclose(found.null_mean, scale * (p @ mean_r) / (own @ own), atol=1e-5 * np.abs(b).max() + 1e-5)


@pytest.mark.parametrize("design", ["bernoulli", "permutation"])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_unit_does_not_depend_on_its_company(problem, statistic, design):
    """The same digits among 20, in another order, and alone."""
    inputs, sets = problem
    together = results(inputs, sets, statistic, design)
    turned = results(inputs, sets[::-1], statistic, design)[::-1]
    for (_, one), (_, other) in zip(together, turned, strict=True):
        np.testing.assert_array_equal(one.log10_p, other.log10_p)
        np.testing.assert_array_equal(one.se, other.se)
    alone = results(inputs, sets[3:4], statistic, design)[0][1]
    np.testing.assert_array_equal(alone.log10_p, together[3][1].log10_p)


@pytest.mark.parametrize("design", ["bernoulli", "permutation"])
def test_programs_do_not_matter_to_each_other(problem, design):
    inputs, sets = problem
    order = np.array([4, 2, 0, 1, 5, 3])
    C, Y = np.asarray(inputs.C, float), np.asarray(inputs.Y, float)
    turned = tiny_inputs(C, Y[:, order], {f"g{t:02d}": s for t, s in enumerate(sets)})
    for (_, one), (_, other) in zip(results(inputs, sets, "cauchy", design), results(turned, sets, "cauchy", design), strict=True):
        np.testing.assert_allclose(other.log10_p, one.log10_p[order], atol=1e-4)


def test_what_does_not_change_p(problem):
    """Adding a combination of covariates to an outcome, or scaling it, changes no p and scales β's error."""
    inputs, sets = problem
    C, Y = np.asarray(inputs.C, float), np.asarray(inputs.Y, float)
    moved = tiny_inputs(C, Y * -3 + (C @ np.array([1.0, 2.0, -1.0, 0.5]))[:, None], {f"g{t:02d}": s for t, s in enumerate(sets)})
    for statistic in STATISTICS:
        for (_, one), (_, other) in zip(results(inputs, sets, statistic), results(moved, sets, statistic), strict=True):
            np.testing.assert_allclose(other.log10_p, one.log10_p, atol=2e-3)
            np.testing.assert_allclose(other.se, 3 * one.se, rtol=1e-4)


def test_an_effect_is_found_and_covered(problem):
    inputs, sets = problem
    for statistic in STATISTICS:
        b, found = results(inputs, sets, statistic)[0]
        assert found.log10_p[0] < -6 and abs(b[0] - found.null_mean[0] - 7) < 2 * found.se[0] and b[0] > 3 * found.se[0]


def test_a_constant_outcome_has_no_test():
    C, Y, rng = random_problem(400, 3, 3)
    Y[:, 1] = 5
    treated = np.sort(rng.choice(400, 40, replace=False)).astype(np.int32)
    inputs = tiny_inputs(C, Y, {"g": treated})
    for statistic in STATISTICS:
        (_, found), *_ = results(inputs, [treated], statistic)
        assert np.isnan(found.log10_p[1]) and np.isfinite(found.log10_p[[0, 2]]).all() and not found.unsolved.any()
