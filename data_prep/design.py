"""Covariates → design matrix: encoded and scaled, without linearly dependent columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int, Shaped

from data_prep.errors import InputError, first_few, first_rows, warn
from data_prep.read.cell_names import same_cells, same_number

LARGEST = 1e140  # sums of the squares of a billion such numbers are finite
FEW_VALUES = 5  # numeric columns with at most this number of distinct values are labels (batches are often numbered)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """A design matrix of full column rank, with the intercept first.

    Attributes
    ----------
    matrix
        Design matrix, float64 (N, p).
    names
        Names of its columns; "column=level" for the level of a categorical covariate.
    dropped
        Columns that were left out, each with the reason.
    """

    matrix: Float64[np.ndarray, "cells columns"]
    names: tuple[str, ...]
    dropped: dict[str, str]


def encode_covariates(covariates: pd.DataFrame | Shaped[np.ndarray, "..."], cells: Shaped[np.ndarray, " cells"], *, where: str) -> Design:
    """Encode covariates as a design matrix of full column rank.

    Categorical, string and bool columns, and numeric columns with at most five distinct values, become 0/1 columns without the first level; other numeric
    columns are z-scored. Columns of an array are numeric. Constant columns and linear combinations of earlier columns are left out with a warning.

    Parameters
    ----------
    covariates
        Covariates of the cells, (cells, columns).
    cells
        Names of the cells, (cells,).
    where
        Name of the covariates in error messages.

    Raises
    ------
    InputError
        If values are missing, NaN or infinite or are neither numbers nor labels, or if the rows are not the cells.
    """
    if isinstance(covariates, pd.DataFrame):
        same_cells(covariates.index, cells, where=where)
        columns, names = _encode_frame(covariates, cells, where)
    else:
        array = np.asarray(covariates)
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise InputError(f"{where} must be a DataFrame or a numeric cells × covariates array; it has shape {array.shape} and type {array.dtype}.")
        same_number(len(array), cells, where=where)
        columns = [scaled(array[:, j].astype(np.float64), cells, f"{where}[:, {j}]") for j in range(array.shape[1])]
        names = [f"covariate_{j}" for j in range(array.shape[1])]
    return full_rank(columns, names, cells.size, where)


def _encode_frame(frame: pd.DataFrame, cells: np.ndarray, where: str) -> tuple[list[np.ndarray], list[str]]:
    columns: list[np.ndarray] = []
    names: list[str] = []
    for name in frame.columns:
        values, place = frame[name], f"{where}[{str(name)!r}]"
        if is_numeric(values, cells, place) and _has_many_values(values):
            columns.append(scaled(values.to_numpy(dtype=np.float64), cells, place))
            names.append(str(name))
            continue
        codes, levels = labels_of(values, cells, place)
        if len(levels) == 1:
            columns.append(np.zeros(cells.size))
            names.append(str(name))
        for code in range(1, len(levels)):
            columns.append((codes == code).astype(np.float64))
            names.append(f"{name}={levels[code]}")
    return columns, names


def _has_many_values(values: pd.Series) -> bool:
    return values.iloc[:1000].nunique() > FEW_VALUES or values.nunique() > FEW_VALUES


def is_numeric(values: pd.Series, cells: Shaped[np.ndarray, " cells"], where: str) -> bool:
    """Whether a covariate is a number; an error if values are missing, infinite, or neither numbers nor labels."""
    missing = values.isna().to_numpy()
    if missing.any():
        raise InputError(f"{where} is missing or NaN in {first_rows(missing, cells)}. Fill it, or drop those cells.")
    is_bool = pd.api.types.is_bool_dtype(values)
    if pd.api.types.is_numeric_dtype(values) and not is_bool:
        _check_finite(values.to_numpy(dtype=np.float64), cells, where)  # before a column of few values becomes labels
        return True
    if not isinstance(values.dtype, pd.CategoricalDtype) and not is_bool:
        if not values.map(lambda v: isinstance(v, (str, bool, int, np.integer))).all():
            raise InputError(f"{where} is {values.dtype} with values that are neither numbers nor labels. Store numbers, strings or a categorical.")
    return False


def labels_of(values: pd.Series, cells: Shaped[np.ndarray, " cells"], where: str) -> tuple[Int[np.ndarray, " cells"], Shaped[np.ndarray, " levels"]]:
    """The level of each cell, and the levels in order, of a covariate of labels; an error if there are too many."""
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        first, used = pd.factorize(values.cat.codes)
        of_used, levels = pd.factorize(values.cat.categories[used].astype(str), sort=True)
        codes = of_used[first]
    else:
        codes, levels = pd.factorize(values.astype(object) if numeric else values.astype(str), sort=True)
    if len(levels) > max(50, cells.size // 10):
        raise InputError(f"{where} has {len(levels):,} different labels for {cells.size:,} cells. Is it a cell name? Drop it, or store numbers as numbers.")
    return codes, np.asarray(levels, dtype=object)


def _check_finite(values: np.ndarray, cells: np.ndarray, where: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(f"{where} is NaN or infinite in {first_rows(bad, cells)}. Fill it, or drop those cells.")
    bad = np.abs(values) > LARGEST
    if bad.any():
        raise InputError(
            f"{where} is larger than {LARGEST:g}, so that its square overflows, in {first_rows(bad, cells, values)}. Correct it, or drop those cells."
        )


def scaled(values: Float64[np.ndarray, " cells"], cells: Shaped[np.ndarray, " cells"], where: str) -> Float64[np.ndarray, " cells"]:
    """Values less their mean, over their SD; zeros if they are constant. NaN, infinite and very large values are errors."""
    _check_finite(values, cells, where)
    sd = values.std()
    if sd <= 1e-12 * max(1.0, np.abs(values).max()):
        return np.zeros_like(values)
    return (values - values.mean()) / sd


def full_rank(columns: Sequence[Float64[np.ndarray, " cells"]], names: Sequence[str], n: int, where: str) -> Design:
    """The design of the columns that are not linear combinations of the intercept and earlier columns; a warning names the others.

    Parameters
    ----------
    columns
        Columns without the intercept.
    names
        Their names.
    n
        Number of cells.
    where
        Name of the covariates in the warning.

    Notes
    -----
    Gram–Schmidt orthogonalisation with one repetition ("twice is enough"): Giraud, Langou and Rozložník 2005, Computers & Mathematics with Applications 50.
    """
    kept, kept_names = [np.ones(n)], ["intercept"]
    basis = [np.full(n, 1 / np.sqrt(n))]
    dropped: dict[str, str] = {}
    for column, name in zip(columns, names, strict=True):
        if not (column - column[0]).any():
            dropped[name] = "constant"
            continue
        rest = column.copy()
        for _ in range(2):
            for q in basis:
                rest -= (q @ rest) * q
        length = np.linalg.norm(rest)
        if length <= 1e-6 * np.linalg.norm(column):
            dropped[name] = "a linear combination of earlier columns"
            continue
        basis.append(rest / length)
        kept.append(column)
        kept_names.append(name)
    if dropped:
        warn(f"{where}: left out of the design: " + first_few(f"{name} ({why})" for name, why in dropped.items()))
    return Design(matrix=np.column_stack(kept), names=tuple(kept_names), dropped=dropped)
