"""Resamples: distributions, identity of the fused and the written-down draws, seeds, and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crt.kernels import random as _kernels
from crt.propensity import given_propensity
from crt.sampling.base import Unit
from crt.sampling.bernoulli import bernoulli_index_sampler
from crt.sampling.methods import SAMPLERS, BernoulliIndex, StratifiedPermutation, make_sampler
from crt.sampling.strata import batch_codes
from crt.sampling.stratified import StratifiedDrawer, stratified_permutation_sampler
from data_prep.errors import InputError, ScreenWarning
from tests.crt.problems import listed


def dense(resamples, n):
    """0/1 matrix (B, n)."""
    out = np.zeros((resamples.indptr.size - 1, n), np.int64)
    rows = np.repeat(np.arange(len(out)), np.diff(resamples.indptr))
    np.add.at(out, (rows, resamples.indices), 1)
    return out


def test_bernoulli_inclusion_is_p():
    """χ² of inclusion counts over 60 cells with p from 0 to 1: false alarm 0.001 at this fixed seed."""
    p = np.concatenate([[0.0, 1.0, 1e-9, 0.999], np.linspace(0.001, 0.98, 56)])
    B = 20_000
    x = dense(bernoulli_index_sampler(p, B, 7), p.size)
    assert x.max() == 1
    count = x.sum(0)
    assert count[0] == 0 and count[1] == B and count[2] == 0
    free = slice(3, None)
    z2 = (count[free] - B * p[free]) ** 2 / (B * p[free] * (1 - p[free]))
    assert stats.chi2.sf(z2.sum(), z2.size) > 0.001


def test_bernoulli_cells_and_resamples_are_independent():
    """Pairwise: Σ of squared correlations between cells, and between neighbouring resamples of a cell; false alarm 0.001 each."""
    p = np.random.default_rng(0).uniform(0.02, 0.6, 40)
    B = 20_000
    x = dense(bernoulli_index_sampler(p, B, 3), p.size)
    r = np.corrcoef(x.T)[np.triu_indices(p.size, 1)]
    assert stats.chi2.sf(B * (r**2).sum(), r.size) > 0.001
    centred = x - p
    serial = (centred[1:] * centred[:-1]).sum(0) / (p * (1 - p)) / np.sqrt(B - 1)
    assert stats.chi2.sf((serial**2).sum(), p.size) > 0.001
    wrap = (centred[:, 1:][0] * centred[:, :-1][-1]).sum()  # the last resample of a cell and the first of the next share an exponential
    assert abs(wrap) < 4 * np.sqrt(p.size)


def test_bernoulli_number_treated_is_poisson_binomial():
    """KS-like χ² of the number treated against its exact distribution, by convolution; false alarm 0.001."""
    p = np.random.default_rng(1).uniform(0.01, 0.3, 30)
    exact = np.array([1.0])
    for pi in p:
        exact = np.convolve(exact, [1 - pi, pi])
    B = 20_000
    n = np.diff(bernoulli_index_sampler(p, B, 11).indptr)
    observed = np.bincount(n, minlength=exact.size)
    keep = B * exact > 5
    expected = np.append(B * exact[keep], B * exact[~keep].sum())
    counts = np.append(observed[keep], observed[~keep].sum())
    assert stats.chi2.sf(((counts - expected) ** 2 / np.maximum(expected, 1)).sum(), keep.sum()) > 0.001


def test_exponentials_are_exponential():
    """KS against Exp(1), 51,200 draws; false alarm 0.001. And each is −log of its uniform."""
    out, value = np.empty(_kernels.BLOCK), np.empty(_kernels.BLOCK)
    state = np.uint64(5)
    drawn = []
    for _ in range(100):
        state = np.uint64(_kernels.fill_exponentials(out, value, state))
        np.testing.assert_allclose(out, -np.log(value * 2.0**-53), atol=1e-11)
        drawn.append(out.copy())
    assert stats.kstest(np.concatenate(drawn), "expon").pvalue > 0.001


def test_without_replacement_is_uniform():
    """Every cell of a stratum is equally likely, pairs too; false alarm 0.001."""
    n, m, B = 12, 4, 20_000
    x = np.zeros(n)
    x[:m] = 1
    drawn = dense(stratified_permutation_sampler(x, np.full(n, 0.3), B, 5), n)
    assert (drawn.sum(1) == m).all() and drawn.max() == 1
    count = drawn.sum(0)
    z2 = ((count - B * m / n) ** 2).sum() / (B * (m / n) * (1 - m / n)) * (n - 1) / n
    assert stats.chi2.sf(z2, n - 1) > 0.001
    pairs = (drawn.T @ drawn)[np.triu_indices(n, 1)]
    q = m * (m - 1) / (n * (n - 1))
    assert np.abs(pairs / B - q).max() < 5 * np.sqrt(q * (1 - q) / B)


@pytest.mark.parametrize("burden", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_stratum_counts_are_kept(batch, burden):
    rng = np.random.default_rng(2)
    n, B = 900, 40
    p = rng.uniform(0.01, 0.4, n)
    x = (rng.random(n) < p).astype(int)
    labels = rng.choice(["b", "a", "c"], n) if batch else None
    values = rng.normal(size=n) if burden else None
    drawn = dense(stratified_permutation_sampler(x, p, B, 9, batch_raw=labels, burden_values=values, n_bins=5, n_burden_bins=3), n)
    settings = StratifiedPermutation(n_bins=5, n_burden_bins=3)
    drawer = StratifiedDrawer(settings=settings, batch=batch_codes(labels) if batch else None, burden=values)
    strata = drawer.strata(Unit(cells=np.arange(n, dtype=np.int32), treated=np.flatnonzero(x), propensity=given_propensity(p), whole=True))
    assert strata.n_treated.size > (5 if batch or burden else 4)
    assert (drawn.sum(1) == x.sum()).all() and drawn.max() == 1
    for s in range(strata.n_treated.size):
        cells = strata.cells[strata.offsets[s] : strata.offsets[s + 1]]
        assert (drawn[:, cells].sum(1) == x[cells].sum()).all()


def test_burden_off_is_as_if_it_were_not_there():
    rng = np.random.default_rng(2)
    p = rng.uniform(0.01, 0.4, 300)
    x = (rng.random(300) < p).astype(int)
    plain = stratified_permutation_sampler(x, p, 20, 1)
    off = stratified_permutation_sampler(x, p, 20, 1, burden_values=None, n_burden_bins=3, burden_bin_method="uniform", burden_clip_quantiles=(0.1, 0.9))
    np.testing.assert_array_equal(plain.indices, off.indices)


@pytest.mark.parametrize(
    "sampler", [BernoulliIndex(), StratifiedPermutation(n_bins=4), StratifiedPermutation(n_bins=4, burden_key="log_depth", n_burden_bins=3)]
)
@pytest.mark.parametrize("whole", [True, False])
def test_fused_draws_are_the_written_draws(sampler, whole, inputs):
    rng = np.random.default_rng(0)
    cells = inputs.all_cells if whole else np.sort(rng.choice(inputs.all_cells, 400, replace=False)).astype(np.int32)
    p = rng.uniform(0, 0.2, cells.size)
    unit = Unit(cells=cells, treated=np.flatnonzero(rng.random(cells.size) < p), propensity=given_propensity(p), whole=whole)
    drawer = sampler.bind(inputs)
    rows = np.zeros((inputs.all_cells.size, 1600), np.float32)
    rows[inputs.all_cells, inputs.all_cells] = 1  # a sum of rows is then the treated set itself
    sums, _ = drawer.sums(unit, rows, 30, 77)
    written = listed(drawer, unit, 30, 77)
    np.testing.assert_array_equal(sums[:, : inputs.all_cells.size], dense(written, inputs.all_cells.size))
    assert written.indptr.dtype == np.int64 and written.indices.dtype == np.int32


def test_seeds():
    p = np.random.default_rng(0).uniform(0, 0.5, 200)
    x = (p > 0.3).astype(int)
    for draw in (lambda s: bernoulli_index_sampler(p, 50, s), lambda s: stratified_permutation_sampler(x, p, 50, s)):
        first, again, other = draw(1), draw(1), draw(2)
        np.testing.assert_array_equal(first.indices, again.indices)
        assert first.indices.size != other.indices.size or (first.indices != other.indices).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 2**70), st.data())
def test_bernoulli_properties(n, B, seed, data):
    p = np.array(data.draw(st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1)), min_size=n, max_size=n)))
    p.flags.writeable = False
    r = bernoulli_index_sampler(p, B, seed)
    x = dense(r, n)
    assert r.indptr[0] == 0 and r.indptr[-1] == r.indices.size and x.max(initial=0) <= 1
    assert (x[:, p == 0] == 0).all() and (x[:, p == 1] == 1).all()
    for b in range(B):
        assert (np.diff(r.indices[r.indptr[b] : r.indptr[b + 1]]) > 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 80), st.integers(1, 12), st.integers(1, 6), st.integers(0, 100))
def test_stratified_properties(n, n_bins, min_size, seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(n), rng.integers(0, 4))
    x = (rng.random(n) < 0.4).astype(int)
    labels = rng.integers(0, 3, n)
    r = stratified_permutation_sampler(x, p, 8, seed, batch_raw=labels, n_bins=n_bins, min_stratum_size=min_size, burden_values=rng.integers(0, 3, n))
    drawn = dense(r, n)
    assert drawn.max(initial=0) <= 1 and (drawn.sum(1) == x.sum()).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bernoulli_index_sampler(np.array([0.1, np.nan]), 5, 1), "outside"),
        (lambda: bernoulli_index_sampler(np.array([0.1, 1.2]), 5, 1), "outside"),
        (lambda: bernoulli_index_sampler(np.array([]), 5, 1), "shape"),
        (lambda: bernoulli_index_sampler(np.array([0.1]), 0, 1), "B is 0"),
        (lambda: bernoulli_index_sampler(np.array([0.1]), 5, -1), "seed"),
        (lambda: stratified_permutation_sampler(np.array([0, 2]), np.array([0.1, 0.1]), 5, 1), "x_obs"),
        (lambda: stratified_permutation_sampler(np.array([0, 1]), np.array([0.1, 0.1]), 5, 1, batch_raw=np.array(["a"])), "batch_raw"),
        (lambda: stratified_permutation_sampler(np.array([0, 1]), np.array([0.1, 0.1]), 5, 1, burden_values=np.array([1.0, np.inf])), "infinite"),
        (lambda: make_sampler("bernouli", {}), "bernoulli_index"),
        (lambda: make_sampler("stratified_perm", {"nbins": 3}), "n_bins, stratify_by_batch, batch_key, burden_key"),
        (lambda: make_sampler("bernoulli_index", {"n_bins": 3}), "n_bins"),
        (lambda: StratifiedPermutation(n_bins=0), "n_bins"),
        (lambda: StratifiedPermutation(burden_bin_method="quantiles"), "quantile"),
        (lambda: StratifiedPermutation(burden_clip_quantiles=(0.9, 0.1)), "ascending"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_settings_by_name():
    assert SAMPLERS["stratified_perm"](n_bins=3) == make_sampler("stratified_perm", {"n_bins": 3})


def test_batch_and_burden_columns(inputs, screen):
    for sampler, message in (
        (StratifiedPermutation(batch_key="plate"), "no batch column 'plate'"),
        (StratifiedPermutation(burden_key="guides"), "no burden column 'guides'"),
        (StratifiedPermutation(burden_key="batch"), "must be numeric"),
    ):
        with pytest.raises(InputError, match=message):
            sampler.bind(inputs)


def test_an_array_of_covariates_has_no_batch(screen_copy):
    from crt.prepare import prepare_crt_inputs

    screen_copy.obsm["covar"] = screen_copy.obsm["covar"].drop(columns="batch").to_numpy()
    inputs = prepare_crt_inputs(screen_copy)
    assert inputs.covar_df_raw is None and inputs.batch_raw is None
    with pytest.warns(ScreenWarning, match="propensity bins only"):
        drawer = StratifiedPermutation().bind(inputs)
    assert drawer.batch is None
    with pytest.raises(InputError, match="burden_key"):
        StratifiedPermutation(burden_key="x", stratify_by_batch=False).bind(inputs)
