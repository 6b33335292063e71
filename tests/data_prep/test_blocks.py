import math

import numpy as np
import pytest

from data_prep.blocks.base import in_pairs, in_runs
from data_prep.blocks.cluster import _aligned


@pytest.mark.parametrize("n", range(1, 20))
def test_pairs_keep_the_order_and_are_even(n):
    items = [chr(97 + i) for i in range(n)]
    found = _in_words((1, item) for item in items)
    assert found.replace("(", "").replace(")", "") == "".join(items)
    depth = max(found[: i + 1].count("(") - found[: i + 1].count(")") for i in range(len(found)))
    assert depth == math.ceil(math.log2(n))


def test_pairs_of_four_are_added_first():
    assert _in_words([(1, letter) for letter in "abcdefg"]) == "(((ab)(cd))((ef)g))"


@pytest.mark.parametrize("places", ["a" * 20, "a" * 10 + "b" * 10, "aabbbcccc", "abab", "a", ""])
def test_runs_at_one_place_are_combined_as_all_are(places):
    letters = [chr(97 + i) for i in range(len(places))]
    runs = in_runs(places)
    assert [i for run in runs for i in range(len(places))[run]] == list(range(len(places)))
    assert all(len(set(places[run])) == 1 for run in runs)
    if places:
        by_run = [(run.stop - run.start, _in_words([(1, letter) for letter in letters[run]])) for run in runs]
        assert _in_words(by_run) == _in_words([(1, letter) for letter in letters])


def test_runs_are_as_long_as_they_can_be():
    assert [(run.start, run.stop) for run in in_runs("a" * 10 + "b" * 10)] == [(0, 8), (8, 10), (10, 12), (12, 16), (16, 20)]


def _in_words(items):
    return in_pairs(items, lambda first, second: f"({first}{second})")


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_that_are_moved_keep_their_order_in_memory(order):
    buffer = np.arange(100, dtype=np.float64).view(np.uint8)
    value = np.ndarray((4, 6), np.float64, buffer, 8 if buffer.ctypes.data % 64 == 0 else 0, order=order)
    moved = _aligned(value)
    assert moved.ctypes.data % 64 == 0 and moved.strides == value.strides
    np.testing.assert_array_equal(moved, value)
