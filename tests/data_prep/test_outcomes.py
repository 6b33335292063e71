"""Fate probabilities, checked."""

import numpy as np
import pytest

from data_prep.errors import InputError, ScreenWarning
from data_prep.outcomes import PlainOutcomes, check_fate_prob

CELLS = np.array([f"c{i}" for i in range(8)])
NAMES = ("EC", "MES", "NEU")


def good(dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(3), 8).astype(dtype)


def check(prob: np.ndarray, names: tuple[str, ...] = NAMES) -> np.ndarray:
    return check_fate_prob(prob, names, CELLS, where="p")


@pytest.mark.parametrize("value", [1e31, -1e300])
def test_values_whose_sums_overflow_are_refused(value):
    values = np.ones((3, 2))
    values[1, 1] = value
    with pytest.raises(InputError, match=r"u is larger than 1e\+30 in row 1 \(c1\), so that sums overflow"):
        PlainOutcomes.of(values, CELLS[:3], where="u")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, object])
def test_good_rows_pass_in_silence(dtype):
    prob = good(dtype)
    prob.flags.writeable = False
    found = check(prob)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-15)
    np.testing.assert_allclose(found, good(), rtol=1e-6)


def test_one_hot_counts_and_booleans_pass():
    onehot = np.eye(3)[np.arange(8) % 3]
    for dtype in (int, bool):
        assert np.array_equal(check(onehot.astype(dtype)), onehot)


@pytest.mark.parametrize("factor", [1 - 9.9e-4, 1 + 9.9e-4, 1 + 2e-5])
def test_rounded_rows_are_renormalised_with_a_warning(factor):
    prob = good()
    prob[2] *= factor
    with pytest.warns(ScreenWarning, match=r"p: 1 rows sum to 1 only within .*; they were renormalised"):
        found = check(prob)
    np.testing.assert_allclose(found, good(), rtol=1e-12)


@pytest.mark.parametrize("factor", [1 - 1.1e-3, 1 + 1.1e-3, 0.0, 100.0])
def test_rows_far_from_one_are_refused(factor):
    prob = good()
    prob[[2, 5]] *= factor
    with pytest.raises(InputError, match=r"p: rows must sum to 1, but row 2 \(c2\): [\d.]+; row 5 \(c5\): .*divide each row by its sum"):
        check(prob)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (-0.1, "negative"), (-1e-9, "negative")])
def test_bad_entries_are_shown_by_row(value, message):
    prob = good()
    prob[1:8, 0] = value
    with pytest.raises(InputError, match=rf"p is {message} in row 1 \(c1\): \[.*; row 5 \(c5\): .*; 2 more\. Drop those cells"):
        check(prob)


@pytest.mark.parametrize(
    ("prob", "names", "message"),
    [
        (good()[:, :1], ("EC",), "has 1 fate; at least two"),
        (good(), ("EC", "MES"), r"shape \(8, 3\) but 2 fate names \(EC, MES\)"),
        (good()[0], NAMES, r"shape \(3,\)"),
        (good(), ("EC", "EC", "NEU"), "repeats a fate name: EC, EC, NEU"),
        (good()[:5], NAMES, "has 5 rows but the screen has 8 cells"),
        (good().astype(str).astype(object) + "x", NAMES, "is not numeric"),
        (good().astype(complex), NAMES, "complex"),
    ],
)
def test_what_is_no_table_of_fates_is_refused(prob, names, message):
    with pytest.raises(InputError, match=message):
        check(prob, names)
