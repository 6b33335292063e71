"""Empirical and leave-one-out p-values, and false discovery control."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crt.pvalues import adjust, empirical_pvalues, leave_one_out_pvalues, mean_and_sd
from data_prep.errors import InputError


def test_counts_by_hand():
    null = np.array([[-3.0], [-1.0], [0.5], [2.0]])
    for observed, both, left, right in ((2.0, 3, 5, 2), (-1.0, 4, 3, 4), (0.0, 5, 3, 3), (5.0, 1, 5, 1)):
        for side, count in (("both", both), ("left", left), ("right", right)):
            assert empirical_pvalues(np.array([observed]), null, side=side)[0] == count / 5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 1000), st.sampled_from(["both", "left", "right"]))
def test_bounds_and_undefined(B, K, seed, side):
    rng = np.random.default_rng(seed)
    null, observed = np.round(rng.normal(size=(B, K)), 1), np.round(rng.normal(size=K), 1)
    p = empirical_pvalues(observed, null, side=side)
    assert ((p >= 1 / (B + 1)) & (p <= 1)).all()
    padded = np.vstack([null, np.full((3, K), np.nan)])
    np.testing.assert_array_equal(empirical_pvalues(observed, padded, side=side), p)
    direct = {"both": np.abs(null) >= np.abs(observed), "left": null <= observed, "right": null >= observed}[side]
    np.testing.assert_allclose(p, (1 + direct.sum(0)) / (B + 1))
    loo = leave_one_out_pvalues(padded, side=side)
    assert np.isnan(loo[B:]).all() and (loo[:B] >= 1 / B).all() and (loo[:B] <= 1).all()


def test_ties_within_float32_rounding_count():
    null = np.array([[1.0], [2.0], [3.0]], np.float32)
    assert empirical_pvalues(np.array([3.0 + 1e-6]), null)[0] == 2 / 4
    assert empirical_pvalues(np.array([3.0 + 1e-3]), null)[0] == 1 / 4
    assert empirical_pvalues(np.array([3.0 + 1e-6]), null.astype(float))[0] == 1 / 4


def test_leave_one_out_is_the_p_of_one_against_the_rest():
    null = np.random.default_rng(0).normal(size=(30, 3))
    loo = leave_one_out_pvalues(null)
    for b in (0, 11, 29):
        rest = np.delete(null, b, 0)
        np.testing.assert_allclose(loo[b], empirical_pvalues(null[b], rest))


def test_mean_and_sd_leave_undefined_resamples_out():
    null = np.random.default_rng(0).normal(2, 3, size=(50, 2))
    null[:, 1], null[7] = 4.0, np.nan
    mean, sd = mean_and_sd(null)
    np.testing.assert_allclose(mean, np.nanmean(null, axis=0))
    np.testing.assert_allclose(sd, np.nanstd(null, axis=0), atol=1e-12)


def test_adjusting_leaves_undefined_out():
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    np.testing.assert_allclose(adjust(p), [[0.03, np.nan], [0.04, 0.04]])
    assert np.isnan(adjust(np.full(3, np.nan))).all()
    assert (adjust(p, method="by")[~np.isnan(p)] >= adjust(p)[~np.isnan(p)]).all()


def test_bad_side():
    with pytest.raises(InputError, match="'left', 'both', 'right'"):
        empirical_pvalues(np.zeros(1), np.zeros((2, 1)), side="two")
