"""Forest plots: each row at its place with both intervals."""

import numpy as np
import pytest

from fatescreen.figures import Estimate, forest_plot

ROWS = [Estimate(name="d0", mean=1.0, sd=0.5, main=True), Estimate(name="a very long guide name", mean=-1.0, sd=0.1, main=False)]


def test_rows_with_95_and_90_percent_intervals():
    axes = forest_plot([ROWS, ROWS], x_label="x")
    main95, main90, own95, own90 = (np.array(lines.get_segments()) for lines in axes.collections)
    for lines, mean, half in ((main95, 1, 1.96 * 0.5), (main90, 1, 1.645 * 0.5), (own95, -1, 0.196), (own90, -1, 0.1645)):
        np.testing.assert_allclose(lines[:, :, 0], [[mean - half, mean + half]] * 2, rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(main95[:, 0, 1], [0, 2.5])
    np.testing.assert_allclose(own95[:, 0, 1], [1, 3.5])
    assert [line.get_xydata().tolist() for line in axes.lines[1:]] == [[[1, 0], [1, 2.5]], [[-1, 1], [-1, 3.5]]]
    assert axes.get_ylim() == pytest.approx((4.2, -0.7)) and axes.get_label() == "d0: 1.00 ± 0.50; d0: 1.00 ± 0.50"


def test_long_names_are_shortened_and_kept():
    names = forest_plot([ROWS], x_label="x").texts
    assert [text.get_text() for text in names] == ["d0", "a very long g…"] and [text.get_gid() for text in names] == [None, "full name: a very long guide name"]
    assert forest_plot([[Estimate(name="$\\bad", mean=0, sd=1, main=True)]], x_label="x").texts[0].get_parse_math() is False
