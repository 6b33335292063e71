"""The statistic against least squares, and the test as a whole against the exact null."""

from itertools import combinations, product

import numpy as np
import pytest

from crt.propensity import given_propensity
from crt.pvalues import empirical_pvalues
from crt.sampling.base import Unit
from crt.sampling.methods import BernoulliIndex, StratifiedPermutation
from crt.statistic import Projection, draws, null_statistics, unit_cells, unit_projection
from data_prep.errors import InputError
from tests.crt.problems import listed, random_problem, tiny_inputs


def lstsq_beta(C, Y, x):
    """The coefficient of x in Y ~ x + C, by least squares."""
    return np.linalg.lstsq(np.column_stack([C, x]), Y, rcond=None)[0][-1]


def indicator(cells, n):
    x = np.zeros(n)
    x[cells] = 1
    return x


@pytest.mark.parametrize("sampler", [BernoulliIndex(), StratifiedPermutation(n_bins=3, stratify_by_batch=False)])
@pytest.mark.parametrize("control", ["complement", "ntc_cells"])
def test_beta_is_least_squares_on_every_resample(sampler, control):
    n = 300
    C, Y, rng = random_problem(n, 4, 3)
    C[:, 3] = C[:, 3] > 0.5  # a level, 0/1
    treated = np.sort(rng.choice(n // 2, 30, replace=False))
    ntc = np.arange(n // 2, n - 20)
    inputs = tiny_inputs(C, Y + 5, {"A": treated, "ntc": ntc}, control_group=control)
    cells, local, whole = unit_cells(treated.astype(np.int32), inputs)
    assert cells.size == (n if control == "complement" else 30 + ntc.size)
    drawn = draws(treated.astype(np.int32), inputs, sampler=sampler, n_resamples=60, seed=4)
    p = drawn.propensity.p
    written = listed(sampler.bind(inputs), Unit(cells=cells, treated=local, propensity=given_propensity(p), whole=whole), 60, 4)
    C32, Y32 = inputs.C.astype(float)[cells], inputs.Y.astype(float)[cells]
    np.testing.assert_allclose(drawn.observed, lstsq_beta(C32, Y32, indicator(local, cells.size)), rtol=1e-9)
    for b in range(60):
        own = np.searchsorted(cells, written.indices[written.indptr[b] : written.indptr[b + 1]])
        rounding = 2.0**-24 * np.abs(Y32[own].sum(0)).max() / np.sqrt(own.size)  # SD of a float32 sum of n terms, about 2⁻²⁴|sum|√n, over n
        np.testing.assert_allclose(drawn.null[b], lstsq_beta(C32, Y32, indicator(own, cells.size)), atol=2.5 * rounding)
    x = indicator(local, cells.size)
    assert drawn.den == pytest.approx(x @ x - x @ C32 @ np.linalg.solve(C32.T @ C32, C32.T @ x), rel=1e-9)
    assert drawn.u_norm == pytest.approx(np.linalg.norm(C32.T @ x), rel=1e-9)


def test_a_control_group_without_a_level_still_works():
    """The NTC cells and the treated are all of one batch, so that batch's column is dependent among them."""
    n = 200
    C, Y, rng = random_problem(n, 3, 2)
    C[:, 2] = 0
    C[150:, 2] = 1
    inputs = tiny_inputs(C, Y, {"A": np.arange(20), "ntc": np.arange(20, 150)}, control_group="ntc_cells")
    drawn = draws(np.arange(20, dtype=np.int32), inputs, sampler=BernoulliIndex(), n_resamples=20, seed=1)
    truth = lstsq_beta(inputs.C[:150, :2].astype(float), inputs.Y[:150].astype(float), indicator(np.arange(20), 150))
    np.testing.assert_allclose(drawn.observed, truth, rtol=1e-8)
    assert drawn.n_undefined == 0 and unit_projection(np.arange(20, dtype=np.int32), inputs).whiten.shape == (1, 2)


def test_undefined_units_have_a_reason():
    n = 50
    C, Y, _ = random_problem(n, 3, 2)
    C[:, 2] = np.arange(n) < 7
    inputs = tiny_inputs(C, Y, {"none": np.array([], int), "all": np.arange(n), "singular": np.arange(7)})
    for name, reason in (("none", "no_treated"), ("all", "all_treated"), ("singular", "singular")):
        drawn = draws(inputs.treated(inputs.gene_to_cols[name]), inputs, sampler=BernoulliIndex(), n_resamples=9, seed=1)
        assert drawn.reason == reason and np.isnan(drawn.observed).all() and drawn.null.shape == (0, 2)
        assert np.isnan(empirical_pvalues(drawn.observed, drawn.null)).all()


def test_undefined_resamples_are_counted_and_left_out():
    """Two treated cells of 40: about an eighth of the resamples treat nobody."""
    C, Y, _ = random_problem(40, 2, 2)
    inputs = tiny_inputs(C, Y, {"A": np.array([3, 30])})
    drawn = draws(np.array([3, 30], np.int32), inputs, sampler=BernoulliIndex(), n_resamples=400, seed=1)
    bad = np.isnan(drawn.null)
    assert 10 < drawn.n_undefined < 120 and bad.all(1).sum() == bad.any(1).sum() == drawn.n_undefined
    p = empirical_pvalues(drawn.observed, drawn.null)
    ok = ~bad[:, 0]
    np.testing.assert_allclose(p, (1 + (np.abs(drawn.null[ok]) >= np.abs(drawn.observed) - 1e-5).sum(0)) / (ok.sum() + 1))


def test_all_treated_resample_is_undefined():
    """A resample that treats every cell has no denominator, though in float32 sums it would be rounding noise."""
    C, Y, _ = random_problem(30, 3, 1)
    inputs = tiny_inputs(C, Y, {"A": np.arange(5)})
    sums = np.array([inputs.rows.sum(0), inputs.rows[:4].sum(0)])
    null, n_undefined = null_statistics(sums, unit_projection(np.arange(5, dtype=np.int32), inputs), 1)
    assert np.isnan(null[:, 0]).all() and np.isfinite(null[:, 1]).all() and n_undefined == 1


def test_projection_of_far_off_outcomes():
    """Centring by hand loses nothing when outcomes sit far from zero."""
    C, Y, _ = random_problem(500, 3, 2)
    C32 = C.astype(np.float32).astype(float)
    x = indicator(np.arange(40), 500)
    for shift in (0.0, 1e4):
        projection = Projection.of(C32.T @ C32, C32.T @ (Y + shift))
        beta, _ = projection.coefficients(C32.T @ x, (Y + shift).T @ x)
        np.testing.assert_allclose(beta, lstsq_beta(C32, Y, x), rtol=1e-6)


def exact_bernoulli(C, Y, treated, p):
    """P(|β_b| ≥ |β_obs|) over all 2^N assignments that have a β."""
    n = len(C)
    observed = np.abs(lstsq_beta(C, Y, indicator(treated, n)))
    total, extreme = 0.0, np.zeros(Y.shape[1])
    A = np.linalg.inv(C.T @ C)
    for x in product((0.0, 1.0), repeat=n):
        x = np.array(x)
        u = C.T @ x
        den = x.sum() - u @ A @ u
        if den < 1e-9:
            continue
        weight = np.prod(np.where(x == 1, p, 1 - p))
        beta = (Y.T @ x - (C.T @ Y).T @ (A @ u)) / den
        total += weight
        extreme += weight * (np.abs(beta) >= observed - 1e-9)
    return extreme / total


def test_exact_null_bernoulli():
    """N = 12, every assignment enumerated; 4 SE of 40,000 resamples on 3 programs: false alarm 2e-4."""
    n, B = 12, 40_000
    C, Y, rng = random_problem(n, 2, 3, seed=3)
    treated = np.array([0, 3, 5, 8], np.int32)
    inputs = tiny_inputs(C, Y, {"A": treated})
    drawn = draws(treated, inputs, sampler=BernoulliIndex(), n_resamples=B, seed=5)
    truth = exact_bernoulli(inputs.C.astype(float), inputs.Y.astype(float), treated, drawn.propensity.p)
    p = empirical_pvalues(drawn.observed, drawn.null)
    assert (np.abs(p - truth) < 4 * np.sqrt(truth * (1 - truth) / B) + 2 / B).all()


def test_exact_null_stratified():
    """N = 14 in two batches: every choice of the observed numbers within batches; the same 4 SE."""
    n, B = 14, 40_000
    C, Y, rng = random_problem(n, 2, 3, seed=4)
    treated = np.array([0, 3, 5, 8, 12], np.int32)
    batch = np.arange(n) < 7
    inputs = tiny_inputs(C, Y, {"A": treated})
    sampler = StratifiedPermutation(n_bins=1, stratify_by_batch=False)
    drawer = sampler.bind(inputs)
    object.__setattr__(drawer, "batch", batch.astype(np.int64))
    drawn = draws(treated, inputs, sampler=drawer, n_resamples=B, seed=5, propensity_mode="oracle_const")
    C64, Y64 = inputs.C.astype(float), inputs.Y.astype(float)
    observed = np.abs(lstsq_beta(C64, Y64, indicator(treated, n)))
    betas = [lstsq_beta(C64, Y64, indicator(np.r_[a, b], n)) for a in combinations(np.flatnonzero(batch), 3) for b in combinations(np.flatnonzero(~batch), 2)]
    truth = (np.abs(betas) >= observed - 1e-9).mean(0)
    p = empirical_pvalues(drawn.observed, drawn.null)
    assert (np.abs(p - truth) < 4 * np.sqrt(truth * (1 - truth) / B) + 2 / B).all()
    # the observed set itself comes up about B/350 times and must count, though its float32 sums were added in another order
    assert (truth >= 1 / len(betas)).all()


def test_inputs_are_read_only(inputs):
    for array in (inputs.rows, inputs.C, inputs.Y, inputs.columns, inputs.guides.data):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_bad_numbers(inputs):
    with pytest.raises(InputError, match="at least 1"):
        draws(np.arange(3, dtype=np.int32), inputs, sampler=BernoulliIndex(), n_resamples=0, seed=1)
