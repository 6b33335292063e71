"""Files of tensors: the same bytes for the same content; read whole or not at all, and no code in them is run."""

import io
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from data_prep.files import atomic


def load_tensors(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU.

    Its checksums are held against its bytes, which torch does not do: a damaged file would give other numbers. Any kind of error is raised.
    """
    with ZipFile(path) as whole:
        if damaged := whole.testzip():
            raise ValueError(f"the checksum of {damaged} is not that of its bytes")
    return torch.load(path, weights_only=True, map_location="cpu")


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write what `load_tensors` reads, atomically.

    It goes through memory: written to a path, the bytes would hold the temporary file's name, and a full disk would not be an `OSError`.
    """
    held = io.BytesIO()
    torch.save(content, held)
    with atomic(path) as temporary:
        temporary.write_bytes(held.getbuffer())
