"""Day and replicate labels."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.read.labels import day_codes, level_codes, text_names

CELLS = np.array([f"c{i}" for i in range(6)])


def days(values: object) -> tuple[list[int], tuple[str, ...]]:
    codes, labels = day_codes(pd.Series(values), CELLS[: len(values)], where='obs["day"]')
    assert codes.dtype == np.int64
    return codes.tolist(), labels


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([10, 2, 10], ("2", "10")),
        ([10.0, 2.0, 10.0], ("2", "10")),
        (["d10", "d2", "d10"], ("d2", "d10")),
        (["10", "2", "10"], ("2", "10")),
        (["day 10", "day 2", "day 10"], ("day 2", "day 10")),
        (["D2.5", "D0.5", "D2.5"], ("D0.5", "D2.5")),
        (["day-10", "day-2", "day-10"], ("day-2", "day-10")),
        ([3, -1, 3], ("-1", "3")),
        (["3", "-1", "3"], ("-1", "3")),
        (pd.Categorical(["d10", "d2", "d10"]), ("d2", "d10")),
        (pd.Categorical(["late", "early", "late"], ["early", "late"], ordered=True), ("early", "late")),
        (pd.array([10, 2, 10], dtype="Int64"), ("2", "10")),
        (pd.array(["d10", "d2", "d10"], dtype="string"), ("d2", "d10")),
        ([b"d10", b"d2", b"d10"], ("d2", "d10")),
    ],
)
def test_days_are_sorted_by_number_or_order(values, labels):
    assert days(values) == ([1, 0, 1], labels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["d1_rep2", "d0"], r"'d1_rep2' has 2 numbers \(1, 2\), so its day is unclear\. Use integers"),
        (["1_2", "0"], r"'1_2' has 2 numbers"),  # float("1_2") is 12
        (["d1_2"], r"has 2 numbers"),
        (["early", "d1"], r"'early' has no number"),
        (["nan", "1"], r"'nan' has no number"),
        (["", "1"], r"'' has no number"),
        ([True, False], r"'True' has no number"),
        ([np.inf, 1.0], r"'inf'"),
        (["1e999", "1"], r"'1e999' is not a finite day"),
        (["d1", 1], r"'d1', '1' read as the same day\. Use one label"),
        (["d1", "d01"], r"read as the same day"),
        (["d-1", "d0"], r"'d-1' the '-' may be a sign or a hyphen"),
        (["day -2", "day -1"], r"may be a sign or a hyphen"),
        (["d0", None], r'obs\["day"\] is missing in row 1 \(c1\)\. Fill it'),
        ([0.0, np.nan], r"is missing in row 1 \(c1\)"),
        (pd.array([pd.NA, 1], dtype="Int64"), r"is missing in row 0 \(c0\)"),
        (pd.Categorical(["d0", None]), r"is missing in row 1 \(c1\)"),
        (pd.Categorical(["d0", "d1"], ["d0", "d1", "d2"]), r"no cell for the categories d2\. .*remove_unused_categories"),
        ([[1], [2]], r"has values that are not labels"),
    ],
)
def test_unclear_days_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        days(values)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_codes_and_labels_give_the_days_back(values):
    for form in (values, [f"d{v}" for v in values], [float(v) for v in values]):
        codes, labels = days(form)
        numbers = [int(label.removeprefix("d")) for label in labels]
        assert [numbers[c] for c in codes] == values
        assert numbers == sorted(set(values))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a", "b"], ("a", "b")),
        ([2, 1, 2], ("1", "2")),
        ([2.0, 1.0, 2.0], ("1", "2")),
        (pd.Categorical(["b", "a", "b"], ["b", "a"]), ("a", "b")),
        (pd.array([True, False, True], dtype="boolean"), ("False", "True")),
        ([b"b", b"a", b"b"], ("a", "b")),
        (["b", 1, "b"], ("1", "b")),
    ],
)
def test_levels(values, labels):
    codes, found = level_codes(pd.Series(values), CELLS[: len(values)], where="rep")
    assert (codes.tolist(), found) == ([1, 0, 1], labels)
    assert codes.dtype == np.int64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None], r"rep is missing in row 1 \(c1\)"),
        (pd.Categorical(["a"], ["a", 3, "b"]), r"rep has no cell for the categories 3, b"),
        ([{}], r"rep has values that are not labels"),
    ],
)
def test_levels_that_are_wrong(values, message):
    with pytest.raises(InputError, match=message):
        level_codes(pd.Series(values), CELLS[: len(values)], where="rep")


def test_text_names():
    for form in (
        ["a", "é"],
        np.array(["a", "é"]),
        pd.Index(["a", "é"]),
        ["a", "é".encode()],
        pd.Categorical(["a", "é"]),
        np.array(["a", "é"], np.dtypes.StringDType()),
    ):
        assert text_names(form, where="x").tolist() == ["a", "é"]
    assert text_names([1, 2], where="x").tolist() == ["1", "2"]
    with pytest.raises(InputError, match=r"x has no name in rows 0, 2\. Name each one"):
        text_names([None, "a", np.nan], where="x")
    with pytest.raises(InputError, match="x is a dict"):
        text_names({"a": 1}, where="x")
