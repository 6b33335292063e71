"""Files of tensors and plain values (safetensors): the same bytes for the same content, a checksum, and no code in them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from data_prep.files import atomic

META = "__meta__"  # tensor with the plain values as JSON in UTF-8: the header of a safetensors file is limited to 100 MB, which names of cells exceed


def save_tensors(tensors: Mapping[str, Shaped[Tensor, "..."]], meta: Mapping[str, Any], path: Path) -> None:
    """Write tensors, and values that JSON can represent, atomically; a full disk raises an `OSError`."""
    arrays = {name: np.ascontiguousarray(tensor.detach().cpu().numpy()).reshape(tensor.shape) for name, tensor in tensors.items()}
    arrays[META] = np.frombuffer(json.dumps(dict(meta), sort_keys=True).encode(), np.uint8)
    content = save(arrays, metadata={"sha256": _checksum(arrays)})  # a single entry: safetensors writes several in random order
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def load_tensors(path: Path) -> tuple[dict[str, Shaped[Tensor, "..."]], dict[str, Any]]:
    """The tensors, on the CPU, and the values that `save_tensors` wrote.

    Raises
    ------
    ValueError
        If the file is not one that `save_tensors` wrote, or if its content does not match its checksum.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays, checksum = {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {})["sha256"]
        meta = json.loads(arrays[META].tobytes())
    except Exception as error:  # a foreign or damaged file raises errors of many types
        raise ValueError(f"{path} is not a file of tensors ({type(error).__name__}: {error})") from error
    if _checksum(arrays) != checksum:
        raise ValueError(f"the checksum of {path} does not match its content")
    return {name: torch.from_numpy(array) for name, array in arrays.items() if name != META}, meta


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes; safetensors has no checksum of its own."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
        digest.update(arrays[name].data if arrays[name].size else b"")
    return digest.hexdigest()
