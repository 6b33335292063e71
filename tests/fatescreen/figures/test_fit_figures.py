"""Figures of a fit: what is drawn is what was fitted, and odd input is drawn too."""

import types

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from fatescreen.figures import agreement_plot, bound_plot, fit_figure, movement_plot, normal_qq_plot
from fatescreen.figures.style import COLOURS, SERIES


def a_fit(elbo_over_weight=(), moved=(), window=1):
    return types.SimpleNamespace(elbo_over_weight=elbo_over_weight, moved=moved, window=window, converged=True)


def test_the_bound_after_each_step():
    line = bound_plot(a_fit(elbo_over_weight=(-4.0, -2.0))).lines[0]
    np.testing.assert_allclose(line.get_xydata(), [[1, -4], [2, -2]])


def test_the_bound_after_each_window_of_steps():
    axes = bound_plot(a_fit(elbo_over_weight=tuple(np.linspace(-9e5, -2, 1000)), window=100))
    assert axes.lines[0].get_xdata()[-1] == 100_000 and len(axes.lines[0].get_xdata()) <= 400 and "100,000 steps" in axes.get_label()


def test_movement_has_whole_powers_of_ten():
    axes = movement_plot(a_fit(moved=(2.0, 0.1, 3e-4)))
    assert axes.get_ylim() == (1e-4, 10) and axes.get_yscale() == "log"
    assert axes.yaxis.get_major_formatter().format_ticks(axes.get_yticks()) == ["1e−4", "1e−3", "1e−2", "1e−1", "1e0", "1e1"]
    assert movement_plot(a_fit(moved=(1.0,))).get_ylim() == (1, 10) and movement_plot(a_fit()).get_label() == "no steps"


def test_agreement_has_each_pair_with_95_percent_of_noise():
    table = pd.DataFrame({"fate": ["a", "b", "b"], "predicted": [0.1, 0.2, 0.3], "observed": [0.1, 0.5, 0.3], "sd": [0.1, 0.05, 0.01]})
    axes = agreement_plot(table)
    assert [line.get_label() for line in axes.lines[1:]] == ["a", "b"] and "3 pairs" in axes.get_label() and ", 1 of them" in axes.get_label()
    np.testing.assert_allclose(axes.lines[2].get_xydata(), [[0.2, 0.5], [0.3, 0.3]])
    np.testing.assert_allclose(axes.collections[1].get_segments()[0], [[0.2, 0.5 - 1.96 * 0.05], [0.2, 0.5 + 1.96 * 0.05]])


def test_residuals_against_normal_quantiles():
    z = np.array([2.0, np.nan, -1.0, 0.5])
    axes = normal_qq_plot({"a": z, "none": np.array([]), "many": np.random.default_rng(0).normal(size=10_000)})
    np.testing.assert_allclose(axes.lines[1].get_xydata(), np.column_stack([norm.ppf([1 / 6, 0.5, 5 / 6]), [-1, 0.5, 2]]))
    assert len(axes.lines) == 3 and len(axes.lines[2].get_xdata()) == 300 and "a: 3 residuals, SD 1.22" in axes.get_label() and np.isnan(z[1])


def test_figures_are_never_shown_and_may_share_an_axes(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("shown"))
    table = pd.DataFrame({"fate": ["$x$", "_y"], "predicted": [0.1, 0.2], "observed": [0.1, 0.2], "sd": [0.1, 0.1]})
    figure, own = plt.subplots()
    assert agreement_plot(table, ax=own, title="$t$") is own and plt.get_fignums() == [figure.number]
    plt.close(figure)
    checks = types.SimpleNamespace(composition=table, genes=table)
    assert [axes.get_title() for axes in fit_figure(a_fit(elbo_over_weight=(1.0,)), checks).axes][0] == "ELBO: converged"
    assert [text.get_text().strip() for text in own.get_legend().get_texts()] == ["$x$", "_y"]


def test_series_differ_without_colour():
    assert len({marker for _, marker, _ in SERIES}) == len({str(line) for _, _, line in SERIES}) == len(SERIES)
    assert {colour for colour, _, _ in SERIES} <= set(COLOURS.values())
