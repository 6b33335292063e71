"""What is message."""

import numpy as np
import pytest

from data_prep.errors import InputError, ScreenWarning, first_few, first_rows, missing_key, warn


def test_first_few():
    assert first_few([]) == ""
    assert first_few(range(5)) == "0, 1, 2, 3, 4"
    assert first_few(range(7)) == "0, 1, 2, 3, 4 and 2 more"


def test_first_rows():
    bad = np.arange(1500) >= 3
    names = np.array([f"c{i}" for i in range(1500)])
    assert first_rows(bad, names, n=2) == "row 3 (c3); row 4 (c4); 1,495 more"
    assert first_rows(np.arange(2) == 1, names[:2], np.array([[0, 1], [0.25, 0.5]])) == "row 1 (c1): [0.25 0.5 ]"


def test_missing_key():
    error = missing_key("obs", "day", ["b", "a"], "Fix it.")
    assert isinstance(error, InputError) and str(error) == "obs['day'] is missing; obs has: a, b. Fix it."
    assert "obs has: none" in str(missing_key("obs", "day", [], ""))


def test_warn():
    with pytest.warns(ScreenWarning, match="look"):
        warn("look")
