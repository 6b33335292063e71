"""The power check on positive controls."""

import numpy as np
import pandas as pd
import pytest

from crt import power_check, run_all_genes_union_crt
from data_prep.errors import InputError


@pytest.fixture(scope="module")
def result(inputs):
    return run_all_genes_union_crt(inputs, method="saddlepoint")


def test_ranks_are_those_of_all_tests(result):
    table = result.table
    controls = table[["target", "program"]].sample(frac=1, random_state=0)
    checked = power_check(result, controls)
    np.testing.assert_array_equal(checked["rank"], np.arange(1, len(table) + 1))
    assert checked["p"].is_monotonic_increasing and (checked["found"] == (checked["p_adj"] < 0.1)).all() and 0 < checked["found"].sum() < len(table)


def test_a_target_alone_is_its_strongest_test(result):
    checked = power_check(result, pd.DataFrame({"target": ["GENE3", "GENE1"], "program": [None, "program_2"]})).set_index("target")
    own = result.table[result.table["target"] == "GENE3"]
    assert checked.loc["GENE3", "p"] == own["p"].min() and checked.loc["GENE1", "program"] == "program_2"
    assert list(power_check(result, pd.DataFrame({"grna_target": ["GENE3"]}))["p"]) == [own["p"].min()]


def test_an_undefined_control_is_not_found(inputs):
    result = run_all_genes_union_crt(inputs, method="saddlepoint", min_treated=10_000)
    checked = power_check(result, pd.DataFrame({"grna_target": ["GENE1"], "response_id": ["program_0"]}))
    assert checked["rank"].isna().all() and not checked["found"].any() and list(checked["reason"]) == ["few_treated"]


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"target": ["GENE1", "GENE33", "X"]}, "the target of these is not tested: GENE33, X. Similar to 'GENE33': GENE3"),
        ({"target": ["GENE1"], "program": ["other"]}, "the program of these is not tested: other. The run tests program_0"),
        ({"name": ["GENE1"]}, "have no column of targets; their columns are name. Give the columns target and program"),
        ({"target": []}, "have no rows"),
    ],
)
def test_unknown_controls(result, controls, message):
    with pytest.raises(InputError, match=message):
        power_check(result, pd.DataFrame(controls))
