"""Blocks on the workers of a Dask cluster. Only sums, and what is computed from them, travel; the cluster tries again where a worker is lost."""

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.blocks.base import B, CellBlocks, R, T, add
from data_prep.blocks.disk import ALIGNMENT, OnDisk, mapped
from data_prep.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, Future

LOCAL = "local:"
SMALL = 2**16  # bytes
TOGETHER = 16  # results that are fetched at once
RETRIES = 10  # times that a task is tried again whose worker was lost while it ran


class ClusterLost(RuntimeError):
    """Raised where the scheduler or all workers are gone; its text says what is kept and how to go on."""


class OnCluster(CellBlocks[B]):
    """Blocks that live on the workers.

    Parameters
    ----------
    client
        A connection to the scheduler.
    futures
        The blocks.
    files
        The files that all workers can read and from which the blocks were loaded; for results of `map`, those of the blocks that they are of.
    """

    def __init__(self, client: "Client", futures: Sequence["Future"], files: OnDisk[Any]):
        self.client, self.futures, self.files = client, tuple(futures), files

    @classmethod
    def of(cls, client: "Client", files: OnDisk[B]) -> "OnCluster[B]":
        """The blocks of files, loaded by the workers; a lost block is loaded again."""
        with _watched():
            workers = sorted(client.scheduler_info()["workers"])
            n = len(files.loaders)
            near = [[workers[i * len(workers) // n]] for i in range(n)] if workers else [None] * n  # neighbours together: their sums need not travel
            options = {"allow_other_workers": True, "pure": False, "retries": RETRIES}
            return cls(client, [client.submit(_load, load, workers=at, **options) for load, at in zip(files.loaders, near, strict=True)], files)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.futures)

    def each(self, function: Callable[..., R], *arguments: Any) -> Iterator[R]:
        """As `CellBlocks.each`."""
        with _watched():
            futures = self._submitted(function, arguments)
            for first in range(0, len(futures), TOGETHER):
                yield from self.client.gather(futures[first : first + TOGETHER])

    def map_reduce(self, function: Callable[..., R], *arguments: Any, combine: Callable[[R, R], R] = add) -> R:
        """As `CellBlocks.map_reduce`; the workers combine, and one result comes here."""
        with _watched():
            total, *others = self._submitted(function, arguments)
            for other in others:
                total = self.client.submit(_call, combine, total, other, pure=False, retries=RETRIES)
            return total.result()

    def map(self, function: Callable[..., R], *arguments: Any) -> "OnCluster[R]":
        """As `CellBlocks.map`."""
        with _watched():
            return OnCluster(self.client, self._submitted(function, arguments), self.files)

    def place(self, items: Iterable[R]) -> "OnCluster[R]":
        """As `CellBlocks.place`: through files."""
        return OnCluster.of(self.client, self.files.place(items))

    def spread(self, function: Callable[..., R], items: Sequence[T], *shared: Any, n_jobs: int = 1) -> Iterator[R]:
        """As `CellBlocks.spread`; the function sees the blocks as files."""
        with _watched():
            once = [self.client.submit(_same, value, pure=False, retries=RETRIES) for value in (self.files, *shared)]
            for future in [self.client.submit(_spread, function, item, *once, pure=False, retries=RETRIES) for item in items]:
                yield future.result()

    def _submitted(self, function: Callable[..., R], arguments: Sequence[Any]) -> list["Future"]:
        shared = [a if isinstance(a, OnCluster) or _small(a) else self.client.submit(_same, a, pure=False, retries=RETRIES) for a in arguments]
        each = ([a.futures[i] if isinstance(a, OnCluster) else a for a in shared] for i in range(len(self)))
        return [self.client.submit(_call, function, block, *own, pure=False, retries=RETRIES) for block, own in zip(self.futures, each, strict=True)]


def _load(loader: Callable[[], B]) -> B:
    return _can_travel(loader())


def _call(function: Callable[..., R], *arguments: Any) -> R:
    """function(*arguments), after arrays that came from another worker are moved to where arrays begin elsewhere: the order of sums depends on it."""
    return _can_travel(function(*mapped(arguments, _aligned)))


def _can_travel(result: R) -> R:
    """The result, after this worker has learned to send what it may hold."""
    if "torch" in sys.modules:
        _send_sparse_tensors()
    return result


@cache
def _send_sparse_tensors() -> None:
    """Send sparse tensors by pickle: distributed has a form of its own for tensors, and with sparse ones it fails without end."""
    import torch
    from distributed.protocol import dask_serialize

    dense = dask_serialize.dispatch(torch.Tensor)

    def send(value: Any) -> Any:
        if value.layout is not torch.strided:
            raise NotImplementedError  # the next form is tried, which is pickle
        return dense(value)

    dask_serialize.register(torch.Tensor, send)


def _spread(function: Callable[..., R], item: Any, blocks: OnDisk[Any], *shared: Any) -> R:
    return function(blocks, item, *mapped(shared, _aligned))


def _aligned(value: Any) -> Any:
    layout = str(getattr(value, "layout", ""))
    if "sparse_csr" in layout:
        import torch

        offsets, columns, values = map(_aligned, (value.crow_indices(), value.col_indices(), value.values()))
        return torch.sparse_csr_tensor(offsets, columns, values, size=value.shape, check_invariants=False)
    if "strided" in layout:
        import torch

        return torch.from_numpy(_aligned(value.numpy()))
    if not isinstance(value, np.ndarray) or value.ctypes.data % ALIGNMENT == 0:
        return value
    buffer = np.empty(value.nbytes + ALIGNMENT, np.uint8)
    first = -buffer.ctypes.data % ALIGNMENT
    out = buffer[first : first + value.nbytes].view(value.dtype).reshape(value.shape)
    out[...] = value
    return out


def _small(value: Any) -> bool:
    """Whether a value may travel with every task, rather than once to every worker."""
    return len(pickle.dumps(value)) <= SMALL


def _same(value: Any) -> Any:
    """A value as the result of a task: the scheduler can make it again, unlike scattered data, where a worker that has it is lost."""
    return value


@contextmanager
def connect(scheduler: str) -> Iterator["Client"]:
    """A client of a Dask scheduler.

    Parameters
    ----------
    scheduler
        Address of a scheduler, such as tcp://node17:8786; or local:N for N worker processes of one thread on this machine.

    Raises
    ------
    InputError
        If there is no such scheduler, if it has no workers, or if dask.distributed is not installed.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError("a cluster needs dask.distributed. Install it: pip install 'fatescreen[cluster]'.", "scheduler") from None
    n_local = scheduler.removeprefix(LOCAL)
    if scheduler.startswith(LOCAL):
        if not n_local.isdigit() or int(n_local) < 1:
            raise InputError(f"the scheduler is {scheduler!r}; after local: comes a number of workers, as in local:4.", "scheduler")
        with LocalCluster(n_workers=int(n_local), threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout=20)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"there is no Dask scheduler at {scheduler!r} ({error}). Check the address, and that the scheduler runs.", "scheduler") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise InputError(f"the scheduler at {scheduler!r} has no workers. Start workers, then run again.", "scheduler")
        yield client


@contextmanager
def _watched() -> Iterator[None]:
    """Turn the many errors of a lost scheduler into `ClusterLost`."""
    from distributed import CancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        yield
    except (CommClosedError, CancelledError, KilledWorker, TimeoutError, OSError) as error:
        raise ClusterLost(
            f"the connection to the cluster was lost ({type(error).__name__}: {error}). What was finished is kept. Start the scheduler and its workers, and "
            "run the same command again."
        ) from error
