"""Ordered p-values: the right ranks, the right band."""

import numpy as np
import pytest

from data_prep.errors import InputError
from fatescreen.figures.quantiles import beta_band, log_ranks, thinned


def test_ranks_are_all_of_the_smallest_and_few_of_the_rest():
    ranks = log_ranks(1_000_000, 300)
    assert ranks[0] == 1 and ranks[-1] == 1_000_000 and len(ranks) <= 300 and (np.diff(ranks) > 0).all() and list(ranks[:5]) == [1, 2, 3, 4, 5]
    for n in (1, 2, 299, 300):
        assert log_ranks(n, 300)[0] == 1 and log_ranks(n, 300)[-1] == n
    assert list(log_ranks(3, 300)) == [1, 2, 3] and log_ranks(0, 300).size == 0


def test_the_band_holds_95_percent_of_each_order_statistic():
    """10,000 draws: a share has a standard error of 0.0022, so 0.01 away happens by chance for one rank in 10^5."""
    expected, low, high = beta_band(20)
    p = -np.log10(np.sort(np.random.default_rng(0).random((10_000, 20)), axis=1))
    np.testing.assert_allclose(expected, -np.log10(np.arange(1, 21) / 21))
    np.testing.assert_allclose(((p >= low) & (p <= high)).mean(0), 0.95, atol=0.01)


def test_values_outside_0_to_1():
    with pytest.raises(InputError, match="between -0.5 and 2"):
        thinned([2.0, -0.5, np.nan])
    assert thinned([np.nan]).n == 0
