"""Formula → design."""

import numpy as np
import pandas as pd
import pytest

from data_prep.design import encode_covariates
from data_prep.errors import InputError, ScreenWarning
from data_prep.formula import encode_formula, formula_variables

CELLS = np.array([f"c{i}" for i in range(60)], dtype=object)
TABLE = pd.DataFrame(
    {
        "batch": np.tile(list("xyz"), 20),
        "umis": np.arange(60) + 1.0,
        "zero": np.arange(60.0),
        "lane": np.tile([1, 2, 3, 4], 15),
        "flag": np.tile([True, False], 30),
        "C": np.linspace(2, 3, 60) ** 3,
        "same": 1.0,
    },
    index=CELLS,
)


def encoded(formula, table=TABLE):
    return encode_formula(formula, table[formula_variables(formula)], CELLS, where="obs")


def test_terms_of_the_covariates_give_the_design_of_the_table():
    table = TABLE[["batch", "C", "flag", "umis"]]
    here, plain = encoded("~ batch + C + flag + umis"), encode_covariates(table, CELLS, where="obs")
    np.testing.assert_allclose(here.matrix, plain.matrix)
    assert here.names == ("intercept", "batch[T.y]", "batch[T.z]", "C", "flag[T.True]", "umis")


def test_interactions_functions_and_labels():
    design = encoded("~ batch * log(umis) + C(lane)")
    x, y, z = np.log(TABLE["umis"]), TABLE["batch"] == "y", TABLE["batch"] == "z"
    columns = [np.ones(60), y, z, *(TABLE["lane"] == k for k in (2, 3, 4)), x, y * x, z * x]
    assert formula_variables("~ batch * log(umis) + C(lane)") == ["batch", "lane", "umis"] and design.matrix.shape == (60, 9)
    assert np.linalg.matrix_rank(np.column_stack([design.matrix, *columns])) == 9  # the same span
    scaled = design.matrix[:, design.names.index("log(umis)")]
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-12)


def test_numbers_are_numbers():
    assert encoded("~ lane").names == ("intercept", "lane")
    assert encode_covariates(TABLE[["lane"]], CELLS, where="obs").names != ("intercept", "lane")


def test_columns_without_information_are_left_out():
    with pytest.warns(ScreenWarning, match=r"same \(constant\), zero \(a linear combination"):
        assert encoded("~ umis + same + zero").names == ("intercept", "umis")


def test_a_name_like_a_function():
    assert formula_variables("~ C + log(C)") == ["C"] and encoded("~ C + log(C)").names == ("intercept", "C", "log(C)")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("umis ~ batch", "several parts, such as a left-hand side"),
        ("~ 0 + batch", "leaves out the intercept"),
        ("~ batch - 1", "leaves out the intercept"),
        ("~ batch +", "is not a formula"),
        (" ", "the formula is empty"),
        ("~ np.load('x')", r"np.load\('x'\) is not allowed; a formula may call C, I"),
        ("~ I(umis.values)", "is not allowed"),
        ("~ I([u for u in umis])", "is not allowed"),
        ("~ log(`umis x`)", "is not an expression"),
        ("~ log(zero)", r"the term log\(zero\) is NaN or infinite in row 0 \(c0\)"),
        ("~ log(batch)", "cannot be computed"),
        ("~ C(umis)", "has 59 columns for 60 cells"),
    ],
)
def test_what_is_no_design(formula, message):
    with pytest.raises(InputError, match=message):
        encoded(formula)


def test_missing_values_are_named_as_in_tables():
    table = TABLE.assign(umis=TABLE["umis"].where(TABLE["umis"] != 3))
    with pytest.raises(InputError, match=r"obs\['umis'\] is missing or NaN in row 2 \(c2\)"):
        encoded("~ log(umis)", table)
