"""Whatever either half computes from the cells is a sum over blocks of cells, and sums are taken in the order of the blocks.

So a result does not depend on where the blocks are or who summed them: the blocks, the function and the order are the same. Where they are is
decided once, at the edge: in memory (`InMemory`), in files that are mapped when they are needed (`data_prep.blocks.disk.OnDisk`), or on the workers of a Dask
cluster (`data_prep.blocks.cluster.OnCluster`), which only sums leave.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import groupby
from typing import Any, Generic, TypeVar

BLOCK_CELLS = 2**17  # of each block but the last, whatever the memory, the workers or the device: sums depend on it to the last digit
GROUP_BLOCKS = 4  # in a group, likewise

B = TypeVar("B")
R = TypeVar("R")
T = TypeVar("T")


def block_slices(n_cells: int, size: int | None = None) -> tuple[slice, ...]:
    """The cells of each block."""
    size = size or BLOCK_CELLS
    return tuple(slice(first, min(first + size, n_cells)) for first in range(0, n_cells, size))


def in_groups(items: Sequence[T]) -> list[Sequence[T]]:
    """Items of consecutive blocks, in the groups that are summed first and that are together on a cluster."""
    return [items[first : first + GROUP_BLOCKS] for first in range(0, len(items), GROUP_BLOCKS)]


def in_pairs(items: Iterable[tuple[int, R]], combine: Callable[[R, R], R]) -> R:
    """Results combined two by two, then these two by two, and so on, their order kept; of n of them log₂ n are held at a time.

    Parameters
    ----------
    items
        Results, each after the number of groups that it is of: one, or those of a run of `in_runs`.
    combine
        A function of two results.
    """
    held: list[tuple[int, R]] = []
    for size, item in items:
        while held and held[-1][0] == size:
            item, size = combine(held.pop()[1], item), 2 * size
        held.append((size, item))
    return reduce(lambda later, earlier: combine(earlier, later), (result for _, result in reversed(held)))


def in_runs(places: Sequence[Any]) -> list[slice]:
    """Runs of groups at one place that are combined with each other before they are combined with others: a power of two of them, from a multiple of it.

    Parameters
    ----------
    places
        The place of each group.
    """
    runs, first = [], 0
    while first < len(places):
        size = 1
        while first % (2 * size) == 0 and len(set(places[first : first + 2 * size])) == 1 and first + 2 * size <= len(places):
            size *= 2
        runs.append(slice(first, first + size))
        first += size
    return runs


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


class CellBlocks(ABC, Generic[B]):
    """An ordered list of blocks of cells, wherever they are.

    Functions that are given to it belong to modules, have no state and change nothing: a cluster may call one again. Arguments that are blocks themselves are
    passed block by block.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of blocks."""

    @abstractmethod
    def each(self, function: Callable[..., R], *arguments: Any) -> Iterator[R]:
        """function(block, *arguments) of every block, in their order; the results come here."""

    @abstractmethod
    def map(self, function: Callable[..., R], *arguments: Any) -> "CellBlocks[R]":
        """function(block, *arguments) of every block; the results stay where the blocks are."""

    @abstractmethod
    def load(self, loaders: Sequence[Callable[[], R]]) -> "CellBlocks[R]":
        """What a function for each block returns, where the blocks are; the functions can be pickled, and called again."""

    @abstractmethod
    def place(self, items: Iterable[R]) -> "CellBlocks[R]":
        """An item for each block, brought to where the blocks are."""

    def spread(self, function: Callable[..., R], items: Sequence[T], *shared: Any, n_jobs: int = 1) -> Iterator[R]:
        """function(all blocks, item, *shared) of every item, in their order: by threads of this process, or by the workers of a cluster.

        Parameters
        ----------
        function
            The function.
        items
            The items.
        *shared
            Further arguments, the same for all items.
        n_jobs
            Number of threads, where threads are used.
        """
        with ThreadPoolExecutor(max_workers=n_jobs) as pool:
            yield from pool.map(lambda item: function(self, item, *shared), items)

    def map_reduce(self, function: Callable[..., R], *arguments: Any, combine: Callable[[R, R], R] = add) -> R:
        """function(block, *arguments) of every block, combined in the order of the blocks: within each group of `in_groups`, then the groups `in_pairs`."""
        by_group = groupby(enumerate(self.each(function, *arguments)), lambda numbered: numbered[0] // GROUP_BLOCKS)
        return in_pairs(((1, reduce(combine, (result for _, result in group))) for _, group in by_group), combine)


class InMemory(CellBlocks[B]):
    """Blocks in memory, or on a device.

    Parameters
    ----------
    items
        The blocks.
    """

    def __init__(self, items: Iterable[B]):
        self.items = tuple(items)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.items)

    def each(self, function: Callable[..., R], *arguments: Any) -> Iterator[R]:
        """As `CellBlocks.each`."""
        for i, block in enumerate(self.items):
            yield function(block, *(argument.items[i] if isinstance(argument, InMemory) else argument for argument in arguments))

    def map(self, function: Callable[..., R], *arguments: Any) -> "InMemory[R]":
        """As `CellBlocks.map`."""
        return InMemory(self.each(function, *arguments))

    def load(self, loaders: Sequence[Callable[[], R]]) -> "InMemory[R]":
        """As `CellBlocks.load`."""
        return InMemory(loader() for loader in loaders)

    def place(self, items: Iterable[R]) -> "InMemory[R]":
        """As `CellBlocks.place`."""
        return InMemory(items)
