"""QQ plots: points at their places, few of them, and curves that differ without colour."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from crt import qq_plot, qq_plot_ntc_pvals
from data_prep.errors import InputError
from fatescreen.figures.qq import ensemble_range
from fatescreen.figures.quantiles import beta_band, thinned
from fatescreen.figures.style import SERIES


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_points_are_sorted_p_against_expected():
    p = np.array([0.5, 0.001, np.nan, 0.2, 1.0])
    curve = thinned(p)
    np.testing.assert_allclose(curve.expected, -np.log10(np.arange(1, 5) / 5))
    np.testing.assert_allclose(curve.observed, -np.log10([0.001, 0.2, 0.5, 1.0]))
    assert curve.n == 4 and np.isnan(p[2])  # the input is as it was
    axes = qq_plot({"a": p})
    np.testing.assert_allclose(lines(axes)["a (4)"].get_xydata(), np.column_stack([curve.expected, curve.observed]))


def test_a_million_points_are_drawn_as_few():
    p = np.random.default_rng(0).random(1_000_000)
    axes = qq_plot({"a": p, "b": p**0.9, "c": p**1.1})
    axes.figure.savefig("/dev/null", format="png")
    for line in axes.get_lines():
        assert len(line.get_xdata()) <= 300
    curve = thinned(p)
    ordered = np.sort(p)
    np.testing.assert_allclose(curve.observed[:5], -np.log10(ordered[np.round(10 ** -curve.expected[:5] * 1_000_001).astype(int) - 1]))
    assert curve.expected[0] == pytest.approx(np.log10(1_000_001))


def test_band_is_that_of_order_statistics():
    expected, low, high = beta_band(50)
    rank = np.round(10**-expected * 51).astype(int)
    np.testing.assert_allclose(10**-low, stats.beta.ppf(0.975, rank, 51 - rank))
    np.testing.assert_allclose(10**-high, stats.beta.ppf(0.025, rank, 51 - rank))


def test_curves_differ_without_colour():
    axes = qq_plot({str(i): np.random.default_rng(i).random(50) for i in range(len(SERIES))})
    seen = {(line.get_marker(), str(line.get_linestyle())) for label, line in lines(axes).items() if "(50)" in label}
    assert len(seen) == len(SERIES)


def test_far_points_are_capped():
    p = np.r_[np.random.default_rng(0).random(100), 1e-200]
    axes = qq_plot({"a": p})
    assert axes.get_ylim()[1] < 8
    assert any("up to 200" in text.get_text() for text in axes.get_legend().get_texts())
    assert qq_plot({"a": p}, cap=np.inf).get_ylim()[1] > 200


def test_axes_are_labelled_and_never_shown(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("shown"))
    axes = qq_plot_ntc_pvals([0.5, 0.1], [0.2, 0.7], [0.3, 0.8], np.linspace(0.01, 1, 100), ensemble=[[0.2], [0.7]], title="t", floor=0.01)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [t.split(" (")[0] for t in texts] == [
        "95 % band of uniform p",
        "genes",
        "NTC groups, empirical",
        "NTC groups, skew-normal",
        "resamples",
        "smallest possible empirical p",
        "interquartile range over the ensemble",
    ]
    assert texts[0] == "95 % band of uniform p (1 tests)" and "log10 p" in axes.get_xlabel() and "log10 p" in axes.get_ylabel() and axes.get_title() == "t"
    assert plt.get_fignums() == []
    figure, own = plt.subplots()
    assert qq_plot({"a": [0.5]}, ax=own) is own
    plt.close(figure)


def test_quartiles_over_members():
    members = [np.full(9, p) for p in (0.1, 0.2, 0.3, 0.4, 0.5)]
    _, low, high = ensemble_range(members)
    np.testing.assert_allclose(low, -np.log10(0.4))
    np.testing.assert_allclose(high, -np.log10(0.2))
    uneven = [np.arange(1, 10) / 10, np.arange(1, 20) / 20]  # the same distribution at two sizes
    _, low, high = ensemble_range(uneven)
    np.testing.assert_allclose(low, high)


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="'b'"):
        qq_plot({"a": [0.5], "b": [np.nan]})
    with pytest.raises(InputError, match="no p-values"):
        qq_plot({})
    with pytest.raises(InputError, match="between 0.5 and 1.5"):
        qq_plot({"a": [0.5, 1.5]})


def test_the_description_has_the_smallest_p():
    axes = qq_plot({"a": np.random.default_rng(0).random(1000), "c": np.array([1e-40, 0.5])}, floor=0.001)
    assert "c: smallest p 1e−40, expected 1e−0.477" in axes.get_label()
