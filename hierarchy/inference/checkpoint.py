"""The state of a fit on disk, so that a killed one goes on to the same answer."""

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_prep.errors import InputError
from data_prep.tensor_file import load_content as load_tensors
from data_prep.tensor_file import save_content as save_tensors
from data_prep.tensors import FateData
from hierarchy.inference.adam import AdamState
from hierarchy.inference.natural import NaturalState
from hierarchy.settings import FitSettings, Priors

FORMAT = 1
SECONDS_BETWEEN = 2.0


def run_key(data: FateData, priors: Priors, settings: FitSettings, time_scale: Tensor | None) -> str:
    """SHA-256 of what determines the answer: the screen, the priors, the settings, the device and the thread count."""
    said = {
        "data": data.fingerprint,
        "priors": dataclasses.asdict(priors),
        "settings": dataclasses.asdict(settings),
        "time_scale": None if time_scale is None else time_scale.tolist(),
        "device": data.device.type,
        "threads": torch.get_num_threads(),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(slots=True, kw_only=True)
class Checkpoint:
    """A file for the latest state of one run; does nothing without a path."""

    path: Path | None
    key: str
    saved: float = 0.0
    content: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, path: str | Path | None, data: FateData, priors: Priors, settings: FitSettings, time_scale: Tensor | None) -> "Checkpoint":
        """The checkpoint of a run at `path`."""
        return cls(path=None if path is None else Path(path), key=run_key(data, priors, settings, time_scale))

    def load_natural(self, first: NaturalState) -> NaturalState | None:
        """The natural steps' state, if there is one, on the device of the `first`, which it must fit."""
        content = self._load()
        if content is None:
            return None
        state: Any = content.get("natural")
        if not _fits(state, first):
            raise InputError(f"the checkpoint {self.path} does not hold the state of this fit. Delete it to start anew.")
        device = first.mean.device
        if state["covariance"] is not None:
            state["covariance"] = [c.to(device) for c in state["covariance"]]
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in state.items()}
        return NaturalState(**moved)

    def save_natural(self, state: NaturalState) -> None:
        """Keep the natural steps' state, not more often than every two seconds unless it is the last."""
        if self.path is not None and (state.converged or time.monotonic() - self.saved > SECONDS_BETWEEN):
            self._save({"natural": {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}})

    def load_adam(self) -> AdamState | None:
        """SVI's state, if there is one."""
        content = self._load()
        return AdamState(**content["adam"]) if content is not None and "adam" in content else None

    def save_adam(self, state: AdamState) -> None:
        """Keep SVI's state beside the natural steps'."""
        if self.path is not None and time.monotonic() - self.saved > SECONDS_BETWEEN:
            self._save({"adam": {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}})

    def _load(self) -> dict[str, Any] | None:
        if self.path is None or not self.path.exists():
            return None
        try:
            content = load_tensors(self.path)
        except Exception as error:  # torch raises many kinds for a foreign file
            raise InputError(f"the checkpoint {self.path} can't be loaded ({type(error).__name__}). Delete it to start anew.") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("key") != self.key:
            raise InputError(f"the checkpoint {self.path} is of another screen, other settings or another version. Delete it to start anew.")
        self.content = content
        return content

    def _save(self, content: dict[str, Any]) -> None:
        assert self.path is not None
        self.content |= content
        save_tensors({**self.content, "format": FORMAT, "key": self.key}, self.path)
        self.saved = time.monotonic()


def _fits(state: Any, first: NaturalState) -> bool:
    """Whether a state has the parts of the `first` one, each of its type, shape and finite."""
    if not isinstance(state, dict) or state.keys() != {f.name for f in dataclasses.fields(NaturalState)}:
        return False
    for name in ("mean", "log_scale", "weight"):
        value, like = state[name], getattr(first, name)
        if not isinstance(value, Tensor) or value.shape != like.shape or value.dtype != like.dtype or not bool(value.isfinite().all()):
            return False
    covariance, trace = state["covariance"], [state[name] for name in ("elbo", "moved", "weights")]
    return (
        (
            covariance is None
            or (isinstance(covariance, list) and all(isinstance(c, Tensor) and c.dtype == first.mean.dtype and c.ndim == 3 for c in covariance))
        )
        and all(isinstance(values, list) and all(isinstance(v, float) for v in values) for values in trace)
        and type(state["step"]) is int
        and type(state["converged"]) is bool
    )
