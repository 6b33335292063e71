"""Options of fit-hierarchy that become tensors."""

import pytest
import torch

from data_prep import InputError
from fatescreen.options.fit_hierarchy import FitOptions


def time_scale(gaps, days):
    return FitOptions.of({"screen": "s", "out": "o"}, {"day_gaps": gaps}, source="c.yaml").time_scale(days)


@pytest.mark.parametrize(
    ("gaps", "days"),
    [
        (["2", "5"], ["a", "b", "c"]),
        (["labels"], ["d0", "d2", "d7"]),
        (["labels"], ["day-1", "day-3", "day-8"]),
        (["labels"], ["-2", "0", "5"]),
        (["labels"], ["0.5", "1.5", "4"]),
    ],
)
def test_steps_grow_with_the_square_root_of_the_gap(gaps, days):
    torch.testing.assert_close(time_scale(gaps, days), torch.tensor([2.0, 5.0], dtype=torch.float64).div(3.5).sqrt())


@pytest.mark.parametrize("gaps", [["2"], ["2", "0"], ["2", "x"], ["inf", "1"], ["labels"]])
def test_gaps_that_do_not_fit_the_days_are_refused(gaps):
    with pytest.raises(InputError, match=r"day_gaps is .*; it must be 2 positive numbers, the gaps between early, late, later") as error:
        time_scale(gaps, ["early", "late", "later"])
    assert error.value.arguments == ("day_gaps",)
