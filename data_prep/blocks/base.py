"""Whatever either half computes from the cells is a sum over blocks of cells, and sums are taken in the order of the blocks.

So a result does not depend on where the blocks are or who summed them: the blocks, the function and the order are the same. Where they are is
decided once, at the edge: in memory (`InMemory`), in files that are mapped when they are needed (`data_prep.blocks.disk.OnDisk`), or on the workers of a Dask
cluster (`data_prep.blocks.cluster.OnCluster`), which only sums leave.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Generic, Protocol, TypeVar

BLOCK_CELLS = 2**17  # of each block but the last, whatever the memory, the workers or the device: sums depend on it to the last digit

B = TypeVar("B")
R = TypeVar("R")
B_co = TypeVar("B_co", covariant=True)


def block_slices(n_cells: int, size: int = BLOCK_CELLS) -> tuple[slice, ...]:
    """The cells of each block."""
    return tuple(slice(first, min(first + size, n_cells)) for first in range(0, n_cells, size))


def add(first: Any, second: Any) -> Any:
    """The sum of two results of the same form: None, numbers, arrays, tensors, or tuples, lists and frozen classes of them."""
    if first is None:
        return None
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        return type(first)(**{f.name: add(getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(first)})
    if isinstance(first, (tuple, list)):
        parts = [add(a, b) for a, b in zip(first, second, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return first + second


class CellBlocks(Protocol[B_co]):
    """An ordered list of blocks of cells, wherever they are. Arguments that are blocks themselves are passed block by block."""

    def __len__(self) -> int:
        """Number of blocks."""

    def map(self, function: Callable[..., R], *arguments: Any) -> "CellBlocks[R]":
        """function(block, *arguments) of every block; the results stay where the blocks are.

        Functions are of modules, without state, and change nothing: a cluster may call one again.
        """

    def map_reduce(self, function: Callable[..., R], *arguments: Any, combine: Callable[[R, R], R] = add) -> R:
        """function(block, *arguments) of every block, combined in the order of the blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class InMemory(Generic[B]):
    """Blocks in memory, or on a device.

    Attributes
    ----------
    items
        The blocks.
    """

    items: Sequence[B]

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.items)

    def map(self, function: Callable[..., R], *arguments: Any) -> "InMemory[R]":
        """As `CellBlocks.map`."""
        return InMemory([function(block, *self._of(arguments, i)) for i, block in enumerate(self.items)])

    def map_reduce(self, function: Callable[..., R], *arguments: Any, combine: Callable[[R, R], R] = add) -> R:
        """As `CellBlocks.map_reduce`."""
        return reduce(combine, (function(block, *self._of(arguments, i)) for i, block in enumerate(self.items)))

    def _of(self, arguments: Sequence[Any], i: int) -> list[Any]:
        return [argument.items[i] if isinstance(argument, InMemory) else argument for argument in arguments]
