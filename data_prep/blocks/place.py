"""Where blocks of cells are: the choice of the edge, which nothing else depends on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from data_prep.blocks.base import B, CellBlocks, InMemory
from data_prep.blocks.cluster import OnCluster
from data_prep.blocks.disk import OnDisk

if TYPE_CHECKING:
    from distributed import Client


class Place(Protocol):
    """Where blocks are."""

    @property
    def folder(self) -> Path | None:
        """Folder of the files of the blocks; None for memory."""

    def load(self, loaders: Sequence[Callable[[], B]]) -> CellBlocks[B]:
        """Blocks that functions return, each its own; the functions can be pickled and read files."""

    def put(self, blocks: Iterable[B]) -> CellBlocks[B]:
        """Blocks that are made one by one, at their place; in files and on a cluster they consist of arrays, tensors and numbers."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In the memory of this process, or on the device that the tensors are on."""

    folder: None = None

    def load(self, loaders: Sequence[Callable[[], B]]) -> InMemory[B]:
        """As `Place.load`."""
        return InMemory(loader() for loader in loaders)

    def put(self, blocks: Iterable[B]) -> InMemory[B]:
        """As `Place.put`."""
        return InMemory(blocks)


MEMORY = Memory()


@dataclass(frozen=True, slots=True)
class Files:
    """In files of a folder."""

    folder: Path

    def load(self, loaders: Sequence[Callable[[], B]]) -> OnDisk[B]:
        """As `Place.load`."""
        return OnDisk(loaders, self.folder)

    def put(self, blocks: Iterable[B]) -> OnDisk[B]:
        """As `Place.put`."""
        return OnDisk((), self.folder).place(blocks)


@dataclass(frozen=True, slots=True)
class Workers:
    """On the workers of a cluster, which load them from files that all of them can read."""

    client: "Client"
    files: Files

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return self.files.folder

    def load(self, loaders: Sequence[Callable[[], B]]) -> OnCluster[B]:
        """As `Place.load`."""
        return OnCluster.of(self.client, self.files.load(loaders))

    def put(self, blocks: Iterable[B]) -> OnCluster[B]:
        """As `Place.put`."""
        return OnCluster.of(self.client, self.files.put(blocks))
