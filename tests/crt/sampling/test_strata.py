"""Bins and strata."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crt.propensity import given_propensity
from crt.sampling.base import Unit
from crt.sampling.methods import StratifiedPermutation
from crt.sampling.strata import batch_codes, compute_bins
from crt.sampling.stratified import StratifiedDrawer
from data_prep.errors import InputError

floats = st.floats(-1e6, 1e6, allow_subnormal=False)


@settings(max_examples=80, deadline=None)
@given(
    arrays(np.float64, st.integers(1, 60), elements=st.one_of(floats, st.sampled_from([0.0, 1.0]))),
    st.integers(1, 25),
    st.sampled_from(["quantile", "uniform"]),
)
def test_bins(values, n_bins, method):
    bins, n, edges = compute_bins(values, n_bins, method)
    assert 1 <= n <= n_bins and edges.size == n + 1
    assert bins.dtype == np.int64 and bins.min() >= 0 and bins.max() <= n - 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()  # bins follow the values
    assert (values >= edges[bins] - 1e-9 * abs(edges[bins])).all() and (values <= edges[bins + 1]).all()
    if method == "quantile" and np.ptp(values) > 0:
        np.testing.assert_array_equal(edges, np.unique(edges))
        expected = np.unique(np.quantile(values, np.linspace(0, 1, n_bins + 1)))
        assert set(np.round(edges, 6)) <= set(np.round(expected, 6)) | set(np.round(values, 6))


def test_equal_values_make_one_bin():
    bins, n, edges = compute_bins(np.full(7, 3.0), 20)
    assert n == 1 and not bins.any() and edges.tolist() == [3.0, 3.0]


def test_quantile_edges_are_numpys():
    values = np.random.default_rng(0).lognormal(size=1001)
    _, _, edges = compute_bins(values, 20)
    np.testing.assert_allclose(edges, np.quantile(values, np.linspace(0, 1, 21)), rtol=1e-13)


def test_clipping_sends_outliers_to_the_outer_bins():
    values = np.append(np.linspace(0, 1, 99), 1e9)
    assert compute_bins(values, 4, "uniform")[0][:99].max() == 0
    bins, n, _ = compute_bins(values, 4, "uniform", (0.0, 0.98))
    assert n == 4 and bins[99] == 3 and np.bincount(bins).min() > 20


@pytest.mark.parametrize(
    ("values", "n_bins", "options"),
    [([1.0, np.nan], 3, {}), ([], 3, {}), ([1.0], 0, {}), ([1.0], 3, {"method": "equal"}), ([1.0], 3, {"clip_quantiles": (0.5, 0.5)})],
)
def test_bad_bins(values, n_bins, options):
    with pytest.raises(InputError):
        compute_bins(np.array(values), n_bins, **options)


def strata_of(treated, p, batch=None, burden=None, **options):
    drawer = StratifiedDrawer(settings=StratifiedPermutation(**options), batch=batch, burden=burden)
    return drawer.strata(Unit(cells=np.arange(p.size, dtype=np.int32), treated=treated, propensity=given_propensity(p), whole=True))


def test_stratum_ids_and_misc():
    p = np.repeat([0.1, 0.2], 10)
    batch = np.array([0] * 9 + [1] + [0] * 10)  # batch 1 has one cell
    strata = strata_of(np.array([0, 12]), p, batch, n_bins=2, min_stratum_size=2)
    assert strata.numbers == {"n_strata": 3, "n_propensity_bins": 2, "n_batches": 2, "n_burden_bins": 1, "n_merged_cells": 1, "n_fixed": 1}
    assert np.diff(strata.offsets).tolist() == [9, 10, 1] and strata.cells[-1] == 9
    assert strata.n_treated.tolist() == [1, 1, 0]


def test_burden_makes_more_strata():
    rng = np.random.default_rng(0)
    p, burden = rng.random(2000), rng.normal(size=2000)
    plain, binned = (strata_of(np.arange(50), p, burden=values, n_bins=20) for values in (None, burden))
    assert binned.n_treated.size > 6 * plain.n_treated.size


def test_batches_in_sorted_order():
    assert batch_codes(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="row 1"):
        batch_codes(np.array(["b", None], dtype=object))
