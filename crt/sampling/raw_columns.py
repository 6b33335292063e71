"""Columns of the raw covariate table that define strata: batch and burden."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from crt.inputs import CRTInputs
from crt.sampling.strata import batch_codes
from data_prep.errors import InputError, first_few, warn


def batch_of(inputs: CRTInputs, key: str | None) -> Int[np.ndarray, " cells"] | None:
    """Batch codes from the column `key` (None: the batch column of the inputs); None, with a warning, where the covariates are an array."""
    table = inputs.covar_df_raw
    if table is None:
        warn("the covariates are an array without batch labels, so strata are propensity bins only. Give the covariates as a DataFrame with a batch column.")
        return None
    if key is None and inputs.batch_raw is not None:
        return batch_codes(inputs.batch_raw)
    key = key or "batch"
    _present(table, key, "batch", "Add the batch labels, name their column with batch_key, or set stratify_by_batch to False.")
    return batch_codes(table[key])


def burden_of(inputs: CRTInputs, key: str) -> Float[np.ndarray, " cells"]:
    """The burden from the column `key`, as it is; it must be numeric and finite."""
    table = inputs.covar_df_raw
    if table is None:
        raise InputError(f"burden_key is {key!r} but the covariates are an array without named columns. Give them as a DataFrame.", "burden_key")
    _present(table, key, "burden", "Name a numeric column with burden_key; add_burden_covariate computes one.")
    column = table[key]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise InputError(f"the burden column {key!r} is {column.dtype}; it must be numeric.", "burden_key")
    values = column.to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(f"the burden column {key!r} is NaN or infinite in rows {first_few(bad)}. Fill in the values, or drop those cells.", "burden_key")
    return values


def _present(table: pd.DataFrame, key: str, what: str, fix: str) -> None:
    if key not in table.columns:
        arguments = ("batch_key", "stratify_by_batch") if what == "batch" else ("burden_key",)
        raise InputError(f"the covariates have no {what} column {key!r}; they have: {first_few(table.columns, 20)}. {fix}", *arguments)
