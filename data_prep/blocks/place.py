"""Where blocks of cells are: the choice of the edge, which nothing else depends on."""

from collections.abc import Iterable
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

    def put(self, blocks: Iterable[B]) -> CellBlocks[B]:
        """Blocks that are made one by one, at their place; in files and on a cluster they consist of arrays, tensors and numbers."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In the memory of this process, or on the device that the tensors are on."""

    def put(self, blocks: Iterable[B]) -> InMemory[B]:
        """As `Place.put`."""
        return InMemory(list(blocks))


@dataclass(frozen=True, slots=True)
class Files:
    """In files of a folder."""

    folder: Path

    def put(self, blocks: Iterable[B]) -> OnDisk[B]:
        """As `Place.put`."""
        return OnDisk((), self.folder).place(blocks)


@dataclass(frozen=True, slots=True)
class Workers:
    """On the workers of a cluster, which load them from files that all of them can read."""

    client: "Client"
    files: Files

    def put(self, blocks: Iterable[B]) -> OnCluster[B]:
        """As `Place.put`."""
        return OnCluster.of(self.client, self.files.put(blocks))
