"""A checkpoint that is not of this fit is refused, whatever its key says."""

import pytest
import torch

from data_prep.errors import InputError
from hierarchy import fit

SPOILT = {
    "no state": lambda state: None,
    "a part lost": lambda state: {k: v for k, v in state.items() if k != "step"},
    "other rows": lambda state: {**state, "mean": state["mean"][1:]},
    "another type": lambda state: {**state, "mean": state["mean"].float()},
    "a NaN": lambda state: {**state, "weight": state["weight"] * float("nan")},
    "text for a number": lambda state: {**state, "step": "3"},
    "text for the bounds": lambda state: {**state, "elbo": ["x"]},
    "no list of blocks": lambda state: {**state, "covariance": 3},
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_state_that_does_not_fit(how, small, tmp_path):
    path = tmp_path / "checkpoint.pt"
    fit(small, checkpoint=path)
    held = torch.load(path, weights_only=True)
    torch.save({**held, "natural": SPOILT[how](held["natural"])}, path)
    with pytest.raises(InputError, match="checkpoint.pt does not hold the state of this fit. Delete it"):
        fit(small, checkpoint=path)
