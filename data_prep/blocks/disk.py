"""Blocks in files, which are mapped into memory while a function has them, and no longer."""

import dataclasses
import mmap
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from data_prep.blocks.base import B, CellBlocks, R

ALIGNMENT = 64  # bytes: a line of the cache


class OnDisk(CellBlocks[B]):
    """Blocks that are loaded when they are needed, one ahead.

    Parameters
    ----------
    loaders
        A function for each block, which returns it; it can be pickled.
    scratch
        Folder in which results of `map` are kept until nothing refers to them.
    own
        Folder of these blocks, which is deleted with them; None if they belong to another.
    """

    def __init__(self, loaders: Sequence[Callable[[], B]], scratch: Path, own: Path | None = None):
        self.loaders, self.scratch, self.own = tuple(loaders), scratch, own
        if own is not None:
            weakref.finalize(self, shutil.rmtree, own, ignore_errors=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """For workers, which do not delete files."""
        return OnDisk, (self.loaders, self.scratch)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.loaders)

    def each(self, function: Callable[..., R], *arguments: Any) -> Iterator[R]:
        """As `CellBlocks.each`."""
        ahead = self._loaded(arguments, 0)
        for i in range(len(self)):
            now, ahead = ahead, self._loaded(arguments, i + 1) if i + 1 < len(self) else []
            yield function(*now)

    def map(self, function: Callable[..., R], *arguments: Any) -> "OnDisk[R]":
        """As `CellBlocks.map`; the results consist of arrays and tensors, in tuples or frozen classes."""
        return self.place(self.each(function, *arguments))

    def load(self, loaders: Sequence[Callable[[], R]]) -> "OnDisk[R]":
        """As `CellBlocks.load`, each time that they are needed."""
        return OnDisk(loaders, self.scratch)

    def place(self, items: Iterable[R]) -> "OnDisk[R]":
        """As `CellBlocks.place`."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch, prefix="blocks-"))
        return OnDisk([save_block(item, folder / str(i)) for i, item in enumerate(items)], self.scratch, folder)

    def _loaded(self, arguments: Sequence[Any], i: int) -> list[Any]:
        return [self.loaders[i](), *(argument.loaders[i]() if isinstance(argument, OnDisk) else argument for argument in arguments)]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an array is in a block's file."""

    offset: int
    dtype: str
    shape: tuple[int, ...]
    tensor: bool


def save_block(block: B, path: Path) -> Callable[[], B]:
    """Write the arrays and tensors of a block to a file; the result loads the block again."""
    size = 0
    with path.open("wb") as file:

        def put(array: np.ndarray, tensor: bool) -> _Place:
            nonlocal size
            file.write(bytes(-size % ALIGNMENT))
            size += -size % ALIGNMENT
            place = _Place(size, array.dtype.str, array.shape, tensor)
            file.write(np.ascontiguousarray(array).data)
            size += array.nbytes
            return place

        form = mapped(block, lambda value: _put(value, put), _Record)
    return partial(load_block, path, form)


def load_block(path: Path, form: Any) -> Any:
    """The block of a file: its arrays are the file's pages, mapped privately, until the block is dropped."""
    pages = np.memmap(path, np.uint8, "c") if path.stat().st_size else np.empty(0, np.uint8)
    if isinstance(pages, np.memmap):
        read_ahead(pages)
    return mapped(form, lambda value: _get(value, pages))


def read_ahead(pages: np.memmap) -> None:
    """Ask the operating system to read the pages of a mapped file while other work is done."""
    file = getattr(pages, "_mmap", None)
    if file is not None and hasattr(mmap, "MADV_WILLNEED"):
        file.madvise(mmap.MADV_WILLNEED)


def release(array: Shaped[np.ndarray, "..."]) -> None:
    """Drop the pages of a mapped file from this process; they stay in the system's cache as long as there is room. Nothing happens to other arrays."""
    file = getattr(array, "_mmap", None)
    if file is not None and hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


def _made(kind: type, parts: dict[str, Any]) -> Any:
    return kind(**parts)


def mapped(value: Any, leaf: Callable[[Any], Any], make: Callable[[type, dict[str, Any]], Any] = _made) -> Any:
    """A value of the same form with `leaf` of each of its parts; frozen classes are made of their parts by `make`."""
    if isinstance(value, _Record):
        return make(value.kind, {name: mapped(part, leaf, make) for name, part in value.parts.items()})
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, _Place, _Sparse)):
        return make(type(value), {f.name: mapped(getattr(value, f.name), leaf, make) for f in dataclasses.fields(value)})
    if isinstance(value, (tuple, list)):
        parts = [mapped(part, leaf, make) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return leaf(value)


@dataclass(frozen=True, slots=True)
class _Record:
    """A frozen class, with the forms of its parts."""

    kind: type
    parts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Sparse:
    """Where a CSR tensor is in a block's file."""

    parts: tuple[_Place, _Place, _Place]
    shape: tuple[int, ...]


def _put(value: Any, put: Callable[[np.ndarray, bool], _Place]) -> Any:
    if isinstance(value, np.ndarray):
        return put(value, False)
    if not hasattr(value, "layout"):
        return value
    if "sparse_csr" in str(value.layout):
        first, second, third = (put(part.numpy(), True) for part in (value.crow_indices(), value.col_indices(), value.values()))
        return _Sparse((first, second, third), tuple(value.shape))
    return put(value.numpy(), True)


def csr_tensor(start: Any, column: Any, value: Any, shape: Sequence[int]) -> Any:
    """A CSR tensor of parts that are not checked.

    Parameters
    ----------
    start
        Offsets of the rows among the entries.
    column
        Column of each entry.
    value
        The entries.
    shape
        Numbers of rows and columns.
    """
    import torch

    with quiet_sparse():
        return torch.sparse_csr_tensor(start, column, value, size=tuple(shape), check_invariants=False)


@contextmanager
def quiet_sparse() -> Iterator[None]:
    """Without torch's notes that its CSR tensors are in beta and that their invariants are not checked, which users cannot act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support is in beta|invariant checks are implicitly disabled)", UserWarning)
        yield


def _get(value: Any, pages: np.ndarray) -> Any:
    if isinstance(value, _Sparse):
        start, column, entries = (_get(part, pages) for part in value.parts)
        return csr_tensor(start, column, entries, value.shape)
    if not isinstance(value, _Place):
        return value
    dtype = np.dtype(value.dtype)
    n_bytes = dtype.itemsize * int(np.prod(value.shape, dtype=np.int64))
    array = pages[value.offset : value.offset + n_bytes].view(dtype).reshape(value.shape).view(np.ndarray)
    if not value.tensor:
        return array
    import torch

    return torch.from_numpy(array)
