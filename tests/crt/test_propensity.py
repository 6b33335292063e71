"""The propensity against scikit-learn, and what becomes of hard cases."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from crt.propensity import probability
from crt.settings import LogisticSettings
from data_prep.errors import InputError
from tests.crt.problems import logistic_fits, propensity_of, random_problem


@pytest.fixture(scope="module")
def problem():
    C, _, rng = random_problem(3000, 5, 1)
    C = C.astype(np.float32)
    sets = [np.flatnonzero(rng.random(3000) < 1 / (1 + np.exp(-(C @ b)))) for b in (np.r_[-3, 0.5, 0, -0.5, 0], np.r_[-1, 1, 1, 0, 0], np.r_[1.5, 0, 0, 0, 2])]
    return np.ascontiguousarray(C.T), sets


@pytest.mark.parametrize("penalty", [0.01, 1.0, 50.0])
def test_against_scikit_learn(problem, penalty):
    """scikit-learn's ridge on whitened covariates is ½λ times the variance of the linear predictor."""
    Ct, sets = problem
    fit = logistic_fits(Ct, sets, settings=LogisticSettings(penalty=penalty))
    assert fit.converged.all()
    centred = Ct[1:].T.astype(float) - Ct[1:].mean(1)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T, bias=True))).T
    for beta, treated in zip(fit.beta, sets, strict=True):
        x = np.isin(np.arange(Ct.shape[1]), treated)
        other = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-12).fit(white, x)
        np.testing.assert_allclose(probability(Ct, beta), other.predict_proba(white)[:, 1], rtol=1e-5)


def test_a_fit_does_not_depend_on_its_company(problem):
    Ct, sets = problem
    together = logistic_fits(Ct, sets).beta
    for i, treated in enumerate(sets):
        np.testing.assert_array_equal(logistic_fits(Ct, [treated]).beta[0], together[i])


def test_probability_of_extreme_scores():
    Ct = np.array([[1, 1, 1, 1, 1], [0, -800, 800, -20, 3]], np.float32)
    p = probability(Ct, np.array([0.0, 1.0]))
    np.testing.assert_allclose(p, [0.5, 0.0, 1.0, 1 / (1 + np.exp(20.0)), 1 / (1 + np.exp(-3.0))], rtol=1e-12, atol=1e-300)


def test_separation_is_flagged():
    C = np.column_stack([np.ones(200), np.arange(200) < 20]).astype(np.float32)
    Ct = np.ascontiguousarray(C.T)
    out = propensity_of(Ct, np.arange(20))
    assert out.separated and out.converged and 0 < out.p.min() < out.p.max() < 1
    assert not propensity_of(Ct, np.arange(0, 200, 7)).separated


def test_no_convergence_is_flagged(problem):
    Ct, sets = problem
    assert not logistic_fits(Ct, sets, settings=LogisticSettings(max_iter=1)).converged.any()


def test_a_hard_start_converges():
    """A separating covariate on a large scale and almost no penalty: full Newton steps overshoot."""
    rng = np.random.default_rng(0)
    C = np.column_stack([np.ones(400), rng.normal(size=400) * 40]).astype(np.float32)
    treated = np.flatnonzero(C[:, 1] + rng.normal(size=400) > 60)
    fit = logistic_fits(np.ascontiguousarray(C.T), [treated], settings=LogisticSettings(penalty=1e-3, max_iter=200))
    assert fit.converged[0]
    p = probability(np.ascontiguousarray(C.T), fit.beta[0])
    x = np.isin(np.arange(400), treated)
    gradient = C.T.astype(float) @ (x - p) - np.r_[0, 1e-3 * C[:, 1].astype(float).var() * fit.beta[0, 1]]
    assert np.abs(gradient / C.std(0).clip(1)).max() < 1e-4


def test_modes(problem):
    Ct, sets = problem
    np.testing.assert_allclose(propensity_of(Ct, sets[0], propensity_mode="oracle_const").p, sets[0].size / 3000, rtol=1e-15)
    given = propensity_of(Ct, sets[0], propensity_mode=lambda treated, C: np.full(len(C), 0.25))
    np.testing.assert_allclose(given.p, 0.25, rtol=1e-15)
    for mode, message in (
        ("logit", "oracle_const"),
        (lambda t, C: np.full(3, 0.1), "one for each cell"),
        (lambda t, C: np.full(3000, np.nan), "probabilities"),
    ):
        with pytest.raises(InputError, match=message):
            propensity_of(Ct, sets[0], propensity_mode=mode)
    with pytest.raises(InputError, match="penalty"):
        LogisticSettings(penalty=-1)


def bound(n_treated, *, reference, n=4000, n_batches=16, batches=(3,), extra=2):
    """A design of batches and numbers, coded with `reference` left out, and treated cells that all lie in `batches`."""
    rng = np.random.default_rng(n_treated)
    batch = np.arange(n) % n_batches
    C = np.column_stack([np.ones(n), *(batch == b for b in range(n_batches) if b != reference), rng.normal(size=(n, extra))])
    treated = np.sort(rng.choice(np.flatnonzero(np.isin(batch, batches)), n_treated, replace=False))
    return batch, np.ascontiguousarray(C.T, dtype=np.float32), treated


@pytest.mark.parametrize("reference", [0, 3])
@pytest.mark.parametrize(("n_treated", "batches"), [(1, (3,)), (7, (3,)), (25, (3,)), (100, (3,)), (250, (3,)), (30, (0, 3)), (50, tuple(range(8)))])
def test_the_levels_are_reproduced(n_treated, batches, reference):
    """Expected treated cells of every level within 1 % of observed, or 0.1 cells; where all of a level's 250 cells are treated, too."""
    batch, Ct, treated = bound(n_treated, reference=reference, batches=batches)
    fit = propensity_of(Ct, treated)
    expected, observed = np.bincount(batch, fit.p), np.bincount(batch[treated], minlength=16)
    assert fit.converged and np.isfinite(fit.p).all() and fit.p.sum() == pytest.approx(n_treated, abs=1e-4)
    assert (np.abs(expected - observed) <= np.maximum(0.01 * observed, 0.1)).all()


@pytest.mark.parametrize("n_treated", [7, 25, 100, 250])
def test_the_reference_level_does_not_matter(n_treated):
    p = [propensity_of(*bound(n_treated, reference=reference)[1:]).p for reference in (0, 3, 7)]
    for other in p[1:]:
        assert np.abs(other - p[0]).max() < 1e-6
        assert np.sqrt(np.square(other - p[0]).sum() / p[0].sum()) < 1e-6


def test_numbers_on_any_scale_give_the_same_fit(problem):
    Ct, sets = problem
    scaled = Ct.copy()
    scaled[1] = 1000 * scaled[1] + scaled[2] + 5
    np.testing.assert_allclose(propensity_of(scaled, sets[0]).p, propensity_of(Ct, sets[0]).p, rtol=2e-4)


def test_a_level_without_cells():
    """Some unit's cells have no cell of the reference level, or none of another: a linear combination of the intercept, and a column of zeros."""
    batch, Ct, treated = bound(40, reference=0, batches=(3, 4))
    keep = ~np.isin(batch, (0, 7))
    cells = np.flatnonzero(keep)
    fit = propensity_of(np.ascontiguousarray(Ct[:, cells]), np.searchsorted(cells, treated))
    assert fit.converged
    np.testing.assert_allclose(np.bincount(batch[cells], fit.p)[[3, 4]], np.bincount(batch[treated])[[3, 4]], atol=0.1)


def test_no_penalty_is_maximum_likelihood(problem):
    Ct, sets = problem
    for treated in sets:
        fit = logistic_fits(Ct, [treated], settings=LogisticSettings(penalty=0.0))
        left = Ct.astype(float) @ (np.isin(np.arange(3000), treated) - probability(Ct, fit.beta[0]))
        assert fit.converged[0] and np.abs(left).max() < 1e-3
