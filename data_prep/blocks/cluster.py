"""Blocks on the workers of a Dask cluster. Only sums, and what is computed from them, travel; the cluster tries again where a worker is lost."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.blocks.base import B, CellBlocks, R, T, add, in_groups, in_pairs, in_runs
from data_prep.blocks.disk import ALIGNMENT, OnDisk, csr_tensor, mapped
from data_prep.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

LOCAL = "local:"
SMALL = 2**16  # bytes
TOGETHER = 4  # results that are fetched at once
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), 1)
KEEP_PAGES = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**25}  # with dask's, each temporary array of a worker faults
RETRIES = 10  # times that a task is tried again whose worker was lost while it ran


class ClusterLost(RuntimeError):
    """Raised where the scheduler or all workers are gone; its text states what is kept and what to do."""


class OnCluster(CellBlocks[B]):
    """Blocks that live on the workers.

    Parameters
    ----------
    client
        A connection to the scheduler.
    futures
        The groups of blocks, a list each.
    near
        The worker that is to have each group; another one has it where that worker is lost.
    files
        The files that all workers can read and from which the blocks were loaded; for results of `map`, those of the blocks that they are of.
    sources
        What results of `map` are computed from, again if a worker is lost: their files must stay.
    """

    def __init__(self, client: "Client", futures: Sequence["Future"], near: Sequence[str], files: OnDisk[Any], sources: Sequence[Any] = ()):
        self.client, self.futures, self.near, self.files, self.sources = client, tuple(futures), tuple(near), files, sources

    @classmethod
    def of(cls, client: "Client", files: OnDisk[B]) -> "OnCluster[B]":
        """The blocks of files, loaded by the workers; a lost block is loaded again."""
        with _watched():
            groups, workers = in_groups(files.loaders), sorted(client.nthreads())
            near = [workers[i * len(workers) // len(groups)] for i in range(len(groups))] if workers else [""] * len(groups)
            return cls(client, [_task(client, _load, group, near=worker) for group, worker in zip(groups, near, strict=True)], near, files)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.files)

    def each(self, function: Callable[..., R], *arguments: Any) -> Iterator[R]:
        """As `CellBlocks.each`."""
        with _watched():
            futures = self._called(function, arguments)
            for first in range(0, len(futures), TOGETHER):
                for group in self.client.gather(futures[first : first + TOGETHER]):
                    yield from map(_unpacked, group)

    def map(self, function: Callable[..., R], *arguments: Any) -> "OnCluster[R]":
        """As `CellBlocks.map`."""
        with _watched():
            return OnCluster(self.client, self._called(function, arguments), self.near, self.files, (self, *arguments))

    def map_reduce(self, function: Callable[..., R], *arguments: Any, combine: Callable[[R, R], R] = add) -> R:
        """As `CellBlocks.map_reduce`; the workers take the sums, each of its neighbouring groups in one task, and add those of others."""
        with _watched():
            runs = in_runs(self.near)
            sums = self._submitted(partial(_reduce, combine), function, arguments, runs)
            sized = ((run.stop - run.start, result) for run, result in zip(runs, sums, strict=True))
            return _unpacked(in_pairs(sized, lambda first, second: _task(self.client, _combined, combine, first, second)).result())

    def load(self, loaders: Sequence[Callable[[], R]]) -> "OnCluster[R]":
        """As `CellBlocks.load`, by the workers."""
        return OnCluster.of(self.client, self.files.load(loaders))

    def place(self, items: Iterable[R]) -> "OnCluster[R]":
        """As `CellBlocks.place`: through files."""
        return OnCluster.of(self.client, self.files.place(items))

    def spread(self, function: Callable[..., R], items: Sequence[T], *shared: Any, n_jobs: int = 1) -> Iterator[R]:
        """As `CellBlocks.spread`; the function sees the blocks as files.

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
        with _watched():
            once = [_task(self.client, _same, _packed(value)) for value in (self.files, *shared)]
            for future in [_task(self.client, _spread, function, item, *once) for item in items]:
                yield _unpacked(future.result())

    def _called(self, function: Callable[..., Any], arguments: Sequence[Any]) -> list["Future"]:
        return self._submitted(_call, function, arguments, [slice(i, i + 1) for i in range(len(self.futures))])

    def _submitted(self, task: Callable[..., Any], function: Callable[..., Any], arguments: Sequence[Any], runs: Sequence[slice]) -> list["Future"]:
        """A task for each run of groups, which has the groups of the blocks, and of the arguments that are blocks."""
        by_block = tuple(isinstance(a, OnCluster) for a in arguments)
        shared = [a if isinstance(a, OnCluster) else _packed(a) if _small(a) else _task(self.client, _same, _packed(a)) for a in arguments]
        submitted = []
        for run in runs:
            own = [list(a.futures[run]) if isinstance(a, OnCluster) else a for a in shared]
            submitted.append(_task(self.client, task, function, by_block, list(self.futures[run]), *own, near=self.near[run.start]))
        return submitted


def _task(client: "Client", function: Callable[..., Any], *arguments: Any, near: str = "") -> "Future":
    """A task that is tried again where its worker is lost; on the worker `near`, if there is one and it can."""
    return client.submit(function, *arguments, workers=near or None, allow_other_workers=bool(near), pure=False, retries=RETRIES)


def _load(loaders: Sequence[Callable[[], B]]) -> list[B]:
    return [_packed(loader()) for loader in loaders]


def _call(function: Callable[..., R], by_block: Sequence[bool], groups: Sequence[Any], *arguments: Any) -> list[R]:
    return [_packed(result) for group in _each(function, by_block, groups, arguments) for result in group]


def _reduce(combine: Callable[[R, R], R], function: Callable[..., R], by_block: Sequence[bool], groups: Sequence[Any], *arguments: Any) -> R:
    return _packed(in_pairs(((1, reduce(combine, group)) for group in _each(function, by_block, groups, arguments)), combine))


def _combined(combine: Callable[[R, R], R], first: R, second: R) -> R:
    return _packed(combine(_unpacked(first), _unpacked(second)))


def _each(function: Callable[..., R], by_block: Sequence[bool], groups: Sequence[Any], arguments: Sequence[Any]) -> Iterator[Iterator[R]]:
    """function(block, *arguments) of the blocks of each group."""
    placed = [value if own else _unpacked(value) for own, value in zip(by_block, arguments, strict=True)]
    for g, group in enumerate(groups):
        yield (
            function(_unpacked(block), *(_unpacked(value[g][i]) if own else value for own, value in zip(by_block, placed, strict=True)))
            for i, block in enumerate(group)
        )


def _spread(function: Callable[..., R], item: Any, blocks: OnDisk[Any], *shared: Any) -> R:
    return _packed(function(blocks, item, *map(_unpacked, shared)))


class _Tensor:
    """A tensor as its arrays, which are sent as they are in memory, while a tensor is copied several times."""

    __slots__ = ("arrays", "shape")

    def __init__(self, arrays: Sequence[np.ndarray], shape: Sequence[int] | None):
        self.arrays, self.shape = tuple(arrays), None if shape is None else tuple(shape)

    def tensor(self) -> Any:
        import torch

        first, *others = (torch.from_numpy(_aligned(array)) for array in self.arrays)
        return first if self.shape is None else csr_tensor(first, others[0], others[1], self.shape)


def _packed(value: Any) -> Any:
    """A value as it is kept and sent: with arrays in place of tensors."""
    return mapped(value, _array)


def _array(value: Any) -> Any:
    layout = str(getattr(value, "layout", ""))
    if "sparse_csr" in layout:
        return _Tensor([part.numpy() for part in (value.crow_indices(), value.col_indices(), value.values())], value.shape)
    return _Tensor([value.numpy()], None) if "strided" in layout else value


def _unpacked(value: Any) -> Any:
    """The value again; arrays that came from another process are moved to where arrays begin elsewhere: the order of sums depends on it."""
    return mapped(value, lambda part: part.tensor() if isinstance(part, _Tensor) else _aligned(part))


def _aligned(value: Any) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.hasobject or value.ctypes.data % ALIGNMENT == 0:
        return value
    buffer = np.empty(value.nbytes + ALIGNMENT, np.uint8)
    first = -buffer.ctypes.data % ALIGNMENT
    by_column = value.flags.f_contiguous and not value.flags.c_contiguous
    out = np.ndarray(value.shape, value.dtype, buffer, first, order="F" if by_column else "C")
    out[...] = value
    return out


def _small(value: Any) -> bool:
    """Whether a value may travel with every task, rather than once to every worker."""
    return _size(value) <= SMALL


def _size(value: Any) -> int:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(_size(getattr(value, field.name)) for field in dataclasses.fields(value))
    return sum(map(_size, value)) if isinstance(value, (tuple, list)) else getattr(value, "nbytes", 0)


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
        import dask
        from distributed import Client
    except ImportError:
        raise InputError("a cluster needs dask.distributed. Install it: pip install 'fatescreen[cluster]'.", "scheduler") from None
    n_local = scheduler.removeprefix(LOCAL)
    if scheduler.startswith(LOCAL):
        if not n_local.isdigit() or int(n_local) < 1:
            raise InputError(f"the scheduler is {scheduler!r}; after local: comes a number of workers, as in local:4.", "scheduler")
        with (
            dask.config.set({"distributed.scheduler.work-stealing": False, "distributed.nanny.pre-spawn-environ": ONE_THREAD | KEEP_PAGES}),
            _local_cluster(int(n_local)) as cluster,
            Client(cluster) as client,
        ):
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


def _local_cluster(n_workers: int) -> "LocalCluster":
    from distributed import LocalCluster

    try:
        return LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    except RuntimeError as error:
        raise ClusterLost(f"the workers on this machine did not start ({error}). Run the same command again.") from error


@contextmanager
def _watched() -> Iterator[None]:
    """Turn the many errors of a lost scheduler into `ClusterLost`."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"the workers of the cluster do not see the file {error.filename}. Choose an output folder on a file system that all of them have, under one path.",
            "out",
            "scheduler",
        ) from error
    except Exception as error:
        of_connection = isinstance(error, (ConnectionError, TimeoutError)) or (isinstance(error, OSError) and error.errno is None)
        if not of_connection and not type(error).__module__.startswith("distributed"):
            raise  # such as a full disk of a worker
        raise ClusterLost(
            f"the connection to the cluster was lost ({type(error).__name__}: {error}). What was finished is kept. Start the scheduler and its workers, and "
            "run the same command again."
        ) from error
