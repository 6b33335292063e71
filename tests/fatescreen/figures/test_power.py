"""Figures about power."""

import numpy as np

from fatescreen.figures import p_strip_plot


def test_columns_medians_and_the_threshold():
    log10_p = -np.arange(1.0, 12.0)
    axes = p_strip_plot({"NTC groups": np.full(3, np.nan), "all tests": log10_p, "positive controls": log10_p[4:6]}, threshold=1e-3)
    points, medians = axes.lines[0:4:2], axes.lines[1:4:2]
    assert [len(line.get_xdata()) for line in points] == [11, 2] and [line.get_ydata()[0] for line in medians] == [6, 5.5]
    assert (np.abs(points[1].get_xdata() - 2) < 0.4).all() and axes.lines[4].get_ydata()[0] == 3
    assert "all tests: 11 tests, median 6.00, largest 11.00" in axes.get_label() and "p = 0.001" in axes.get_label()
