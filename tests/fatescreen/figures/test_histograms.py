"""Histograms: bars of the right heights."""

import numpy as np
import pytest

from fatescreen.figures import count_histogram, p_histogram


def heights(axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def test_p_values_as_a_density():
    axes = p_histogram(np.concatenate([np.full(30, 0.01), np.full(10, 0.99), [np.nan]]))
    bars = heights(axes)
    assert bars[0] == pytest.approx(15) and bars[-1] == pytest.approx(5) and not any(bars[1:-1]) and axes.patches[0].get_width() == pytest.approx(0.05)
    assert "40 p-values" in axes.get_label() and "15.00 times" in axes.get_label()


def test_counts_each_in_its_own_bar_or_in_bars_of_equal_width():
    axes = count_histogram(np.array([0, 0, 0, 0, 2, 2]), x_label="x")
    assert heights(axes) == [4, 0, 2] and axes.patches[0].get_x() == -0.5
    wide = count_histogram(np.arange(1000), x_label="x")
    assert 30 < len(heights(wide)) <= 40 and sum(heights(wide)) == 1000 and "mean 500" in wide.get_label()


def test_no_values():
    assert sum(heights(count_histogram([], x_label="x"))) == 0 and sum(heights(p_histogram([np.nan]))) == 0
