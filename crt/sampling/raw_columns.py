"""Columns of the raw covariate table that strata are made of: batch and burden."""

import numpy as np
import pandas as pd

from crt.inputs import CRTInputs
from crt.sampling.strata import batch_codes
from data_prep.errors import InputError, first_few, warn


def batch_of(inputs: CRTInputs, key: str | None) -> np.ndarray | None:
    """Batch codes (N,) from the column `key` (None: the one the inputs were prepared with); None, with a warning, where the covariates are an array."""
    table = inputs.covar_df_raw
    if table is None:
        warn(
            "the covariates are an array, so there are no batch labels: strata are propensity bins only. "
            "Give the covariates as a DataFrame with a batch column."
        )
        return None
    if key is None and inputs.batch_raw is not None:
        return batch_codes(inputs.batch_raw)
    key = key or "batch"
    if key not in table.columns:
        raise InputError(
            f"the covariates have no batch column {key!r}; they have: {first_few(table.columns, 20)}. "
            "Add the batch labels to the raw covariate table, name the column with batch_key, or set stratify_by_batch=False."
        )
    return batch_codes(table[key])


def burden_of(inputs: CRTInputs, key: str) -> np.ndarray:
    """The burden (N,) from the column `key`: numeric and finite, as it is there."""
    table = inputs.covar_df_raw
    if table is None:
        raise InputError(f"burden_key is {key!r} but the covariates are an array, without named columns. Give them as a DataFrame.")
    if key not in table.columns:
        raise InputError(f"the covariates have no burden column {key!r}; they have: {first_few(table.columns, 20)}. add_burden_covariate computes one.")
    if not pd.api.types.is_numeric_dtype(table[key]) or pd.api.types.is_bool_dtype(table[key]):
        raise InputError(f"the burden column {key!r} is {table[key].dtype}; it must be numeric.")
    values = table[key].to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(f"the burden column {key!r} is NaN or infinite in rows {first_few(bad)}. Fill it, or drop those cells.")
    return values
