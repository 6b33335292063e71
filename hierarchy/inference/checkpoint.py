"""The state of a fit on disk, so that a stopped fit resumes and gives the same results."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from data_prep.errors import InputError, warn
from data_prep.tensor_file import load_tensors, save_tensors
from hierarchy.problem import Problem

FORMAT = 3
SECONDS_BETWEEN = 2.0

_State = TypeVar("_State")


def run_key(problem: Problem) -> str:
    """SHA-256 of everything that determines the result: the screen, the priors, the settings, the device type and the number of threads."""
    content = {
        "data": problem.data.fingerprint,
        "priors": dataclasses.asdict(problem.priors),
        "settings": dataclasses.asdict(problem.settings),
        "time_scale": None if problem.time_scale is None else problem.time_scale.tolist(),
        "device": problem.data.device.type,
        "threads": torch.get_num_threads(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Checkpoint:
    """A file with the latest state of each stage of one fit; without a path it does nothing."""

    def __init__(self, path: str | Path | None, problem: Problem, *, resume: bool | None = None):
        """At `path`, for the fit of a problem; `resume` as in `hierarchy.fit`."""
        self.path = None if path is None else Path(path)
        self.resume = resume
        if self.path is not None and resume is False:
            self.path.unlink(missing_ok=True)
        self.key = run_key(problem)
        self.saved = 0.0
        self.stages: dict[str, Any] = {}

    def load(self, stage: str, restore: Callable[[Any], _State | None]) -> _State | None:
        """The state of a stage, made by `restore` from its parts; None where there is none.

        Raises
        ------
        InputError
            Where the file is damaged, or, with `resume` true, is not a checkpoint of this fit.

        Warns
        -----
        ScreenWarning
            Where the file is a checkpoint of another fit, and is renamed.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            tensors, meta = load_tensors(self.path)
        except ValueError as error:
            raise InputError(
                f"the checkpoint {self.path} cannot be read: it is damaged or another kind of file. Delete it to start again.", "checkpoint"
            ) from error
        if not isinstance(meta, dict) or meta.get("format") != FORMAT or meta.get("key") != self.key:
            problem = f"the checkpoint {self.path} belongs to another screen, other settings or another version"
            if self.resume:
                raise InputError(f"{problem}. Delete it to start again.", "checkpoint")
            aside = self.path.with_stem(f"{self.path.stem}_earlier")
            self.path.replace(aside)
            warn(f"{problem}; this fit starts at its beginning, and the checkpoint was renamed to {aside.name}.")
            return None
        try:
            self.stages = _joined(meta["stages"], tensors)
            state = restore(self.stages[stage]) if stage in self.stages else None
            fits = stage not in self.stages or state is not None
        except (KeyError, TypeError, ValueError, RuntimeError):
            fits = False
        if not fits:
            raise InputError(f"the checkpoint {self.path} does not hold the state of this fit. Delete it to start again.", "checkpoint")
        return state

    def save(self, stage: str, parts: dict[str, Any], *, last: bool = False) -> None:
        """Keep the state of a stage beside those of earlier stages, at most every two seconds unless it is the last of its stage."""
        if self.path is None or not (last or time.monotonic() - self.saved > SECONDS_BETWEEN):
            return
        self.stages[stage] = parts
        tensors: dict[str, Tensor] = {}
        meta = {"format": FORMAT, "key": self.key, "stages": _split(self.stages, "", tensors)}
        save_tensors(tensors, meta, self.path)
        self.saved = time.monotonic()


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, with its tensors moved to `tensors`; dictionaries become lists of pairs, as their keys may be numbers."""
    if isinstance(value, Tensor):
        order = sorted(range(value.ndim), key=value.stride, reverse=True)  # files hold rows first, but the last digits of products depend on the layout
        tensors[name] = value.permute(order)
        return {"tensor": name, "order": order}
    if isinstance(value, dict):
        return {"items": [[key, _split(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_split(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]
    return value


def _joined(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `_split`; tuples come back as lists."""
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]].permute([value["order"].index(axis) for axis in range(len(value["order"]))])
        return {key: _joined(item, tensors) for key, item in value["items"]}
    if isinstance(value, list):
        return [_joined(item, tensors) for item in value]
    return value
