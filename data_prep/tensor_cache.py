"""A file that keeps the tensors of a screen between runs."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
from torch import Tensor

from data_prep.errors import InputError, first_few
from data_prep.screen import Screen
from data_prep.tensor_file import load_tensors, save_tensors
from data_prep.tensors import FateData, build_fate_data, fingerprint

KIND = "fate-data"


def cached_fate_data(screen: Screen, *, ref_fate: str, path: str | Path) -> FateData:
    """The tensors of a screen from the cache at `path`; they are built and stored there if the cache is missing or stale.

    A cache of another screen or another reference fate is stale. A file that is not a cache is left alone.

    Parameters
    ----------
    screen
        Screen from `read_screen`.
    ref_fate
        Reference fate, as in `build_fate_data`.
    path
        File of the cache (safetensors; its name may end in `.pt`). Reading it runs no code.

    Returns
    -------
    FateData
        The same tensors as from `build_fate_data`.

    Raises
    ------
    InputError
        If the file exists but is damaged or is not a cache of fate tensors, or if the screen has no fate of this name.

    Examples
    --------
    >>> import tempfile
    >>> from data_prep import ScreenDesign, cached_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     built = cached_fate_data(screen, ref_fate="EC", path=f"{folder}/tensors.pt")
    ...     again = cached_fate_data(screen, ref_fate="EC", path=f"{folder}/tensors.pt")
    >>> built.fingerprint == again.fingerprint
    True
    """
    path = Path(path)
    if path.exists():
        parts = _read(path)
        if parts.get("fingerprint") == fingerprint(screen, ref_fate=ref_fate):
            return _checked({**parts, "cells": screen.cells}, path)
    data = build_fate_data(screen, ref_fate=ref_fate)
    names = {f.name: getattr(data, f.name) for f in fields(data)} | {"kind": KIND}
    save_tensors(data.tensors(), {name: value for name, value in names.items() if not isinstance(value, (Tensor, np.ndarray))}, path)
    return data


def _read(path: Path) -> dict[str, Any]:
    """The tensors and names in a cache."""
    if not path.is_file():
        raise InputError(f"the cache {path} is not a file. Choose another path.")
    try:
        tensors, names = load_tensors(path)
    except ValueError as error:
        raise InputError(f"{path} is not a cache of fate tensors, or it is damaged. Choose another path, or delete it.") from error
    if names.pop("kind", None) != KIND:
        raise InputError(f"{path} is not a cache of fate tensors. Choose another path, or delete it.")
    return {**{name: tuple(value) if isinstance(value, list) else value for name, value in names.items()}, **tensors}


def _checked(parts: dict[str, Any], path: Path) -> FateData:
    """The parts as `FateData`; types and values are checked, since anyone can write such a file."""
    types = get_type_hints(FateData)
    if parts.keys() != types.keys():
        raise InputError(f"the cache {path} lacks parts of the fate tensors, or has other parts. Delete it to build it again.")
    wrong = [name for name, kind in types.items() if not _is(parts[name], kind)]
    if wrong:
        raise InputError(f"the cache {path} has parts of a wrong type ({first_few(wrong)}). Delete it to build it again.")
    prob, burden = parts["fate_prob"], parts["guide_burden"]
    if not prob.numel() or not bool((prob >= 0).all() & ((prob.sum(1) - 1).abs() < 1e-3).all()) or not bool(burden.isfinite().all()):
        raise InputError(f"the cache {path} has fates that are not probabilities, or a guide burden that is not finite. Delete it to build it again.")
    try:
        return FateData(**parts)
    except (InputError, RuntimeError) as error:
        raise InputError(f"the cache {path} does not fit together: {error} Delete it to build it again.") from error


def _is(value: object, kind: Any) -> bool:
    """Whether `value` is of a field's type: text, names, or a tensor of this type and number of axes."""
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(isinstance(text, str) for text in value)
    return isinstance(value, kind)
