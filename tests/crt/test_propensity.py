"""The propensity against scikit-learn, and what becomes of hard cases."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from crt.propensity import LogisticSettings, fit_logistic, probability, propensity
from data_prep.errors import InputError
from tests.crt.problems import random_problem


@pytest.fixture(scope="module")
def problem():
    C, _, rng = random_problem(3000, 5, 1)
    C = C.astype(np.float32)
    sets = [np.flatnonzero(rng.random(3000) < 1 / (1 + np.exp(-(C @ b)))) for b in (np.r_[-3, 0.5, 0, -0.5, 0], np.r_[-1, 1, 1, 0, 0], np.r_[1.5, 0, 0, 0, 2])]
    return np.ascontiguousarray(C.T), sets


@pytest.mark.parametrize("penalty", [1.0, 50.0])
def test_against_scikit_learn(problem, penalty):
    Ct, sets = problem
    fit = fit_logistic(Ct, sets, settings=LogisticSettings(penalty=penalty))
    assert fit.converged.all()
    for beta, treated in zip(fit.beta, sets, strict=True):
        x = np.isin(np.arange(Ct.shape[1]), treated)
        other = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-12).fit(Ct[1:].T.astype(float), x)
        np.testing.assert_allclose(beta, np.r_[other.intercept_, other.coef_[0]], atol=2e-5)
        np.testing.assert_allclose(probability(Ct, beta), other.predict_proba(Ct[1:].T.astype(float))[:, 1], atol=1e-5)


def test_a_fit_does_not_depend_on_its_company(problem):
    Ct, sets = problem
    together = fit_logistic(Ct, sets).beta
    for i, treated in enumerate(sets):
        np.testing.assert_array_equal(fit_logistic(Ct, [treated]).beta[0], together[i])


def test_probability_of_extreme_scores():
    Ct = np.array([[1, 1, 1, 1, 1], [0, -800, 800, -20, 3]], np.float32)
    p = probability(Ct, np.array([0.0, 1.0]))
    np.testing.assert_allclose(p, [0.5, 0.0, 1.0, 1 / (1 + np.exp(20.0)), 1 / (1 + np.exp(-3.0))], rtol=1e-12, atol=1e-300)


def test_separation_is_flagged():
    C = np.column_stack([np.ones(200), np.arange(200) < 20]).astype(np.float32)
    Ct = np.ascontiguousarray(C.T)
    out = propensity(Ct, np.arange(20))
    assert out.separated and out.converged and 0 < out.p.min() < out.p.max() < 1
    assert not propensity(Ct, np.arange(0, 200, 7)).separated


def test_no_convergence_is_flagged(problem):
    Ct, sets = problem
    assert not fit_logistic(Ct, sets, settings=LogisticSettings(max_iter=1)).converged.any()


def test_a_hard_start_converges():
    """A separating covariate on a large scale and almost no penalty: full Newton steps overshoot."""
    rng = np.random.default_rng(0)
    C = np.column_stack([np.ones(400), rng.normal(size=400) * 40]).astype(np.float32)
    treated = np.flatnonzero(C[:, 1] + rng.normal(size=400) > 60)
    fit = fit_logistic(np.ascontiguousarray(C.T), [treated], settings=LogisticSettings(penalty=1e-3, max_iter=200))
    assert fit.converged[0]
    p = probability(np.ascontiguousarray(C.T), fit.beta[0])
    x = np.isin(np.arange(400), treated)
    gradient = C.T.astype(float) @ (x - p) - np.r_[0, 1e-3 * fit.beta[0, 1]]
    assert np.abs(gradient).max() < 1e-2


def test_modes(problem):
    Ct, sets = problem
    np.testing.assert_array_equal(propensity(Ct, sets[0], mode="oracle_const").p, sets[0].size / 3000)
    given = propensity(Ct, sets[0], mode=lambda treated, C: np.full(len(C), 0.25))
    assert (given.p == 0.25).all()
    for mode, message in (
        ("logit", "oracle_const"),
        (lambda t, C: np.full(3, 0.1), "one for each cell"),
        (lambda t, C: np.full(3000, np.nan), "probabilities"),
    ):
        with pytest.raises(InputError, match=message):
            propensity(Ct, sets[0], mode=mode)
    with pytest.raises(InputError, match="penalty"):
        LogisticSettings(penalty=-1)
