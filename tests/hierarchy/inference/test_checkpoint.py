"""A checkpoint that does not belong to this fit is refused, even where its key matches."""

import pytest
import torch

from data_prep.errors import InputError, ScreenWarning
from data_prep.tensor_file import load_tensors, save_tensors
from hierarchy import FitSettings, fit
from hierarchy.inference.checkpoint import _joined, _split

SPOILT = {
    "no state": lambda state: None,
    "a missing part": lambda state: {k: v for k, v in state.items() if k != "step"},
    "other rows": lambda state: {**state, "mean": state["mean"][1:]},
    "another type": lambda state: {**state, "mean": state["mean"].float()},
    "a NaN": lambda state: {**state, "weight": state["weight"] * float("nan")},
    "text for a number": lambda state: {**state, "step": "3"},
    "text for the bounds": lambda state: {**state, "elbo": ["x"]},
    "no list of blocks": lambda state: {**state, "covariance": 3},
    "a status of a failure": lambda state: {**state, "status": "not_finite"},
}


def rewritten(path, change):
    """The checkpoint at `path` with its natural-gradient state changed."""
    tensors, meta = load_tensors(path)
    stages = _joined(meta["stages"], tensors)
    held = {}
    meta["stages"] = _split({**stages, "natural": change(stages["natural"])}, "", held)
    save_tensors(held, meta, path)


@pytest.mark.parametrize("how", SPOILT)
def test_a_state_that_does_not_fit(how, small, tmp_path):
    path = tmp_path / "checkpoint.pt"
    fit(small, checkpoint=path)
    rewritten(path, SPOILT[how])
    with pytest.raises(InputError, match="checkpoint.pt does not hold the state of this fit. Delete it"):
        fit(small, checkpoint=path)


def test_a_checkpoint_of_another_fit_is_renamed(small, tmp_path):
    """Only a fit that must resume refuses it; one that must not deletes it."""
    path, other = tmp_path / "checkpoint.pt", FitSettings(seed=1)
    fit(small, checkpoint=path)
    earlier = path.read_bytes()
    with pytest.raises(InputError, match="belongs to another screen, other settings or another version. Delete it"):
        fit(small, settings=other, checkpoint=path, resume=True)
    with pytest.warns(ScreenWarning, match="starts at its beginning, and the checkpoint was renamed to checkpoint_earlier.pt"):
        first = fit(small, settings=other, checkpoint=path)
    assert (tmp_path / "checkpoint_earlier.pt").read_bytes() == earlier
    assert fit(small, settings=other, checkpoint=path, resume=True).elbo == first.elbo
    fit(small, checkpoint=path, resume=False)
    assert path.read_bytes() == earlier


def test_names_that_are_missing(small, tmp_path):
    path = tmp_path / "checkpoint.pt"
    fit(small, checkpoint=path)
    tensors, meta = load_tensors(path)
    save_tensors({name: value for name, value in tensors.items() if not name.endswith("mean")}, meta, path)
    with pytest.raises(InputError, match="does not hold the state of this fit"):
        fit(small, checkpoint=path)


def test_state_is_the_same_after_a_round_trip(tmp_path):
    state = {"a": [torch.arange(3), {"b": {0: {"step": 5, "mean": torch.ones(2, 0)}}}], "rate": -float("inf"), "none": None, "text": "x"}
    held = {}
    save_tensors(held, {"state": _split(state, "", held)}, tmp_path / "x")
    tensors, meta = load_tensors(tmp_path / "x")
    found = _joined(meta["state"], tensors)
    assert found["rate"] == state["rate"] and found["none"] is None and found["text"] == "x" and found["a"][1]["b"][0]["step"] == 5
    columns = torch.arange(12.0).reshape(2, 3, 2).transpose(1, 2)
    held = {}
    save_tensors(held, {"state": _split(columns, "", held)}, tmp_path / "y")
    tensors, meta = load_tensors(tmp_path / "y")
    again = _joined(meta["state"], tensors)
    assert torch.equal(again, columns) and again.stride() == columns.stride()  # the last digits of products depend on the layout
    assert torch.equal(found["a"][0], state["a"][0]) and found["a"][1]["b"][0]["mean"].shape == (2, 0)
