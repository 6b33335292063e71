import math

import pytest

from data_prep.blocks.base import in_pairs


@pytest.mark.parametrize("n", range(1, 20))
def test_pairs_keep_the_order_and_are_even(n):
    items = [chr(97 + i) for i in range(n)]
    found = in_pairs(iter(items), lambda first, second: f"({first}{second})")
    assert found.replace("(", "").replace(")", "") == "".join(items)
    depth = max(found[: i + 1].count("(") - found[: i + 1].count(")") for i in range(len(found)))
    assert depth == math.ceil(math.log2(n))


def test_pairs_of_four_are_added_first():
    assert in_pairs("abcdefg", lambda first, second: f"({first}{second})") == "(((ab)(cd))((ef)g))"
