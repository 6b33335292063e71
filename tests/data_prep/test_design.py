"""Covariates → design."""

import numpy as np
import pandas as pd
import pytest

from data_prep.design import encode_covariates
from data_prep.errors import InputError, ScreenWarning

CELLS = np.array([f"c{i}" for i in range(60)], dtype=object)


def frame(**columns):
    return pd.DataFrame(columns, index=CELLS)


def test_encoding():
    rng = np.random.default_rng(0)
    depth = rng.normal(5, 2, 60)
    table = frame(batch=np.tile(["b", "a", "c"], 20), on=np.tile([True, False], 30), flag=np.repeat([0, 1], 30), depth=depth)
    table["kind"] = pd.Categorical(np.tile(["x", "y"], 30)[rng.permutation(60)], categories=["y", "x", "unused"])
    design = encode_covariates(table, CELLS, where="covar")
    assert design.names == ("intercept", "batch=b", "batch=c", "on=True", "flag=1", "depth", "kind=y")
    np.testing.assert_array_equal(design.matrix[:, 1], table["batch"] == "b")
    np.testing.assert_allclose(design.matrix[:, 5], (depth - depth.mean()) / depth.std())
    assert np.linalg.matrix_rank(design.matrix) == 7 and not design.dropped


def test_numbered_categories_are_levels_in_the_order_of_their_labels():
    numbers = np.tile([9, 10, 2, 10], 15)
    categorical, text = (encode_covariates(frame(batch=batch), CELLS, where="covar") for batch in (pd.Categorical(numbers, [10, 2, 5, 9]), numbers.astype(str)))
    assert categorical.names == text.names == ("intercept", "batch=2", "batch=9")
    np.testing.assert_array_equal(categorical.matrix, text.matrix)


def test_numbered_batches_are_levels():
    design = encode_covariates(frame(batch=np.tile([3, 1, 2, 7], 15), count=np.arange(60) % 6), CELLS, where="covar")
    assert design.names == ("intercept", "batch=2", "batch=3", "batch=7", "count")


def test_dependent_and_constant_columns_are_named_and_dropped():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 60))
    table = frame(a=a, b=b, same=np.full(60, 3.0), sum=a + b, half=np.repeat(["u", "v"], 30), other=np.repeat([5, 7], 30))
    with pytest.warns(ScreenWarning, match=r"left out of the design: .*same \(constant\), sum \(a linear combination"):
        design = encode_covariates(table, CELLS, where="covar")
    assert list(design.dropped) == ["same", "sum", "other=7"] and design.names == ("intercept", "a", "b", "half=v")


def test_an_array_is_numeric():
    values = np.random.default_rng(0).normal(size=(60, 2))
    values[:, 1] = np.tile([0, 1], 30)
    design = encode_covariates(values, CELLS, where="covar")
    assert design.names == ("intercept", "covariate_0", "covariate_1")
    np.testing.assert_allclose(design.matrix.std(0), [0, 1, 1])


def test_input_is_not_changed():
    values = np.random.default_rng(0).normal(size=(60, 2))
    values.flags.writeable = False
    encode_covariates(values, CELLS, where="covar")


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        (frame(a=np.append(np.arange(59.0), np.nan)), r"\['a'\] is missing or NaN in row 59 \(c59\)"),
        (frame(a=np.append(np.arange(59.0), np.inf)), "infinite in row 59"),
        (frame(a=np.append(np.arange(59.0), 1e308)), r"\['a'\] is larger than 1e\+140, so that its square overflows, in row 59 \(c59\): 1.e\+308"),
        (frame(a=np.append(np.zeros(59), -1e308)), r"\['a'\] is larger than 1e\+140"),
        (np.append(np.arange(59.0), 1e308)[:, None], r"covar\[:, 0\] is larger than 1e\+140"),
        (frame(a=np.append(["x"] * 59, None)), "missing"),
        (frame(a=[f"cell{i}" for i in range(60)]), "60 different labels"),
        (frame(a=[[1]] * 60), "neither numbers nor labels"),
        (np.zeros((59, 2)), "59 rows but the screen has 60"),
        (np.array([["a"]] * 60), "numeric"),
        (frame(a=np.arange(60.0)).iloc[::-1], "name their cells differently"),
    ],
)
def test_errors(covariates, message):
    with pytest.raises(InputError, match=message):
        encode_covariates(covariates, CELLS, where="covar")
