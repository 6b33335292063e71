"""Covariates → design matrix: encoded, scaled, with dependent columns named and left out."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from data_prep.errors import InputError, first_few, first_rows, warn

FEW_VALUES = 5  # a numeric column with no more distinct values than this is read as labels (batches are often numbered)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """A design matrix of full column rank, with the intercept first.

    Attributes
    ----------
    matrix
        float64 (N, p).
    names
        Of its columns; a level is "column=level".
    dropped
        Columns left out, with why.
    """

    matrix: np.ndarray
    names: tuple[str, ...]
    dropped: dict[str, str]


def encode_covariates(covariates: pd.DataFrame | np.ndarray, cells: np.ndarray, *, where: str = 'obsm["covar"]', few_values: int = FEW_VALUES) -> Design:
    """Encode covariates as a design of full rank.

    Categorical, string and bool columns, and numeric ones with at most `few_values` different values, become 0/1 columns with the first level left
    out; other numeric ones are z-scored; an array is numeric throughout. Constant columns and columns that are linear combinations of earlier ones
    are left out with a warning.

    Raises
    ------
    InputError
        NaN, infinite or missing values, a wrong number of rows, or a type that is neither numbers nor labels.
    """
    if isinstance(covariates, pd.DataFrame):
        _same_rows(len(covariates), cells, where)
        _same_names(covariates.index, cells, where)
        columns, names = _encode_frame(covariates, cells, where, few_values)
    else:
        array = np.asarray(covariates)
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise InputError(f"{where} must be a DataFrame or a numeric cells × covariates array; it has shape {array.shape} and type {array.dtype}.")
        _same_rows(len(array), cells, where)
        columns = [_scaled(array[:, j].astype(np.float64), cells, f"{where}[:, {j}]") for j in range(array.shape[1])]
        names = [f"covariate_{j}" for j in range(array.shape[1])]
    return _full_rank(columns, names, cells.size, where)


def _same_rows(n: int, cells: np.ndarray, where: str) -> None:
    if n != cells.size:
        raise InputError(f"{where} has {n:,} rows but the screen has {cells.size:,} cells.")


def _same_names(index: pd.Index, cells: np.ndarray, where: str) -> None:
    if index.equals(pd.Index(cells)):  # spares a copy of a million names
        return
    theirs = index.astype(str).to_numpy(dtype=object)
    mine = np.asarray(cells).astype(str).astype(object)
    if (theirs != mine).any():
        row = int(np.flatnonzero(theirs != mine)[0])
        raise InputError(f"{where} names its cells differently from the screen, first in row {row} ({theirs[row]} and {mine[row]}). Bring both into one order.")


def _encode_frame(frame: pd.DataFrame, cells: np.ndarray, where: str, few_values: int) -> tuple[list[np.ndarray], list[str]]:
    columns: list[np.ndarray] = []
    names: list[str] = []
    for name in frame.columns:
        values, said = frame[name], f"{where}[{str(name)!r}]"
        missing = values.isna().to_numpy()
        if missing.any():
            raise InputError(f"{said} is missing or NaN in {first_rows(missing, cells)}. Fill it, or drop those cells.")
        numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        if numeric and (bad := np.isinf(values.to_numpy(dtype=np.float64))).any():  # else one of few values would become a label
            raise InputError(f"{said} is NaN or infinite in {first_rows(bad, cells)}. Fill it, or drop those cells.")
        if numeric and values.nunique() > few_values:
            columns.append(_scaled(values.to_numpy(dtype=np.float64), cells, said))
            names.append(str(name))
            continue
        if not numeric and not isinstance(values.dtype, pd.CategoricalDtype) and not pd.api.types.is_bool_dtype(values):
            if not values.map(lambda v: isinstance(v, (str, bool, int, np.integer))).all():
                raise InputError(f"{said} is {values.dtype} with values that are neither numbers nor labels. Store numbers, strings or a categorical.")
        codes, levels = pd.factorize(values.astype(object) if numeric else values.astype(str), sort=True)
        if len(levels) > max(50, cells.size // 10):
            raise InputError(f"{said} has {len(levels):,} different labels for {cells.size:,} cells. Is it a cell name? Drop it, or store numbers as numbers.")
        if len(levels) == 1:
            columns.append(np.zeros(cells.size))
            names.append(str(name))
        for code in range(1, len(levels)):
            columns.append((codes == code).astype(np.float64))
            names.append(f"{name}={levels[code]}")
    return columns, names


def _scaled(values: np.ndarray, cells: np.ndarray, where: str) -> np.ndarray:
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(f"{where} is NaN or infinite in {first_rows(bad, cells)}. Fill it, or drop those cells.")
    spread = values.std()
    if spread <= 1e-12 * max(1.0, np.abs(values).max()):
        return np.zeros_like(values)
    return (values - values.mean()) / spread


def _full_rank(columns: list[np.ndarray], names: list[str], n: int, where: str) -> Design:
    """Keep the columns that add something to the intercept and the ones before them: one Gram–Schmidt pass, twice for accuracy."""
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
