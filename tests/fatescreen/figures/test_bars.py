"""Bars with names: lengths, order and labels."""

import numpy as np

from fatescreen.figures import bar_plot


def test_bars_from_top_to_bottom_with_their_values():
    axes = bar_plot(["null", "$x$", "a" * 30], [0.5, 0.25, 0.0], x_label="weight", title="genes")
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.25, 0.0] and axes.get_ylim()[0] > axes.get_ylim()[1]
    texts = [text.get_text() for text in axes.texts]
    assert texts[0::2] == ["null", "$x$", "a" * 17 + "…"] and texts[1::2] == ["0.5", "0.25", "0"]
    assert axes.get_label() == f"null: 0.5; $x$: 0.25; {'a' * 30}: 0" and axes.get_xlabel() == "weight"


def test_counts_have_whole_ticks_and_nothing_is_a_figure_too():
    axes = bar_plot(["early", "late"], [1, 2], x_label="hits")
    axes.figure.draw_without_rendering()
    assert np.array_equal(axes.get_xticks(), axes.get_xticks().round())
    assert bar_plot([], [], x_label="hits").get_label() == ""
