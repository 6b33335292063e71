"""Labels of days and replicates → codes."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Int64, Shaped

from data_prep.errors import InputError, first_few, first_rows

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PLAIN_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")  # float() accepts "1_2", which may be day 1 of replicate 2
_AFTER_MINUS = re.compile(r"[-\u2212]\s*\d")


def text_names(values: object, *, where: str) -> Shaped[np.ndarray, " names"]:
    """Names as an object array of `str`; bytes are decoded, and a missing name is an error."""
    if isinstance(values, Mapping):
        raise InputError(f"{where} is a {type(values).__name__}; it must be a list or an array of names.")
    listed = np.asarray(values, dtype=object).ravel()
    absent = pd.isna(listed)
    if absent.any():
        raise InputError(f"{where} has no name in rows {first_few(np.flatnonzero(absent))}. Name each one.")
    return np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in listed], dtype=object)


def _present(values: pd.Series, cells: np.ndarray, where: str) -> None:
    absent = values.isna().to_numpy()
    if absent.any():
        raise InputError(f"{where} is missing in {first_rows(absent, cells)}. Fill it, or drop those cells.")
    if isinstance(values.dtype, pd.CategoricalDtype):
        there = np.bincount(values.cat.codes, minlength=len(values.cat.categories)) > 0
        empty = values.cat.categories[~there]
        if len(empty):
            raise InputError(
                f"{where} has no cell for the categories {first_few(empty)}. Restore those cells, or call .cat.remove_unused_categories() on {where}."
            )


def _number(label: str, where: str) -> float:
    if _PLAIN_NUMBER.fullmatch(label):
        return float(label)
    found = _NUMBER.findall(label)
    if len(found) != 1:
        problem = "has no number" if not found else f"has {len(found)} numbers ({', '.join(found)})"
        raise InputError(
            f"{where}: the label {label!r} {problem}, so its day is unclear. Use integers, labels with one number ('d0', 'day 3'), or an ordered categorical."
        )
    return float(found[0])


def day_codes(values: pd.Series, cells: Shaped[np.ndarray, " cells"], *, where: str) -> tuple[Int64[np.ndarray, " cells"], tuple[str, ...]]:
    """Days as codes 0..D−1 in time order, and their labels.

    Ordered categoricals keep their order; other labels are sorted by the number that each contains.

    >>> day_codes(pd.Series(["d10", "d2", "d10"]), np.array(["a", "b", "c"]), where="day")
    (array([1, 0, 1]), ('d2', 'd10'))
    """
    _present(values, cells, where)
    if isinstance(values.dtype, pd.CategoricalDtype) and values.cat.ordered:
        return values.cat.codes.to_numpy(np.int64), tuple(str(c) for c in values.cat.categories)
    codes, levels = _factorize(values, where)
    labels = [_plain(level) for level in levels]
    numbers = np.array([_number(label, where) for label in labels])
    minus = [label for label in labels if not _PLAIN_NUMBER.fullmatch(label) and _AFTER_MINUS.search(label)]
    if minus and (len(minus) < len(labels) or any(" -" in label for label in minus)):
        raise InputError(f"{where}: in {first_few(map(repr, minus))} the '-' may be a sign or a hyphen. Use integers, or an ordered categorical.")
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: the label {labels[int(np.flatnonzero(~np.isfinite(numbers))[0])]!r} is not a finite day.")
    unique, count = np.unique(numbers, return_counts=True)
    if (count > 1).any():
        same = [label for label, x in zip(labels, numbers, strict=True) if x == unique[count > 1][0]]
        raise InputError(f"{where}: the labels {first_few(map(repr, same))} read as the same day. Use one label for each day.")
    order = np.argsort(numbers)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return rank[codes].astype(np.int64), tuple(labels[i] for i in order)


def level_codes(values: pd.Series, cells: Shaped[np.ndarray, " cells"], *, where: str) -> tuple[Int64[np.ndarray, " cells"], tuple[str, ...]]:
    """Labels as codes in sorted order, and the sorted labels."""
    _present(values, cells, where)
    codes, levels = _factorize(values, where)
    rank, labels = pd.factorize(np.array([_plain(level) for level in levels], dtype=object), sort=True)
    return rank.astype(np.int64)[codes], tuple(str(label) for label in labels)


def _factorize(values: pd.Series, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The codes of the cells, and the levels as Python objects, in order of appearance."""
    try:
        codes, levels = pd.factorize(values, sort=False)
        return codes, np.asarray(levels.astype(object))
    except TypeError as error:
        raise InputError(f"{where} has values that are not labels: {error}. Give one number or text for each cell.") from error


def _plain(value: object) -> str:
    """A label as text: 3, 3.0 and np.int64(3) become '3'; bytes are decoded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)
