"""Where the data of the cells are during a run: in memory, in files inside the output folder, or on the workers of a cluster."""

import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data_prep.blocks.cluster import ClusterLost, connect
from data_prep.blocks.place import MEMORY, Files, Place, Workers
from data_prep.errors import InputError
from data_prep.files import PARTIAL
from data_prep.memory import Needs, in_use
from fatescreen.cli.command import NoResult

log = logging.getLogger(__name__)


@contextmanager
def places(out: Path, *, memory: int | None, scheduler: str | None) -> Iterator[Callable[[Needs], Place]]:
    """A function that chooses where the data of the cells are, once it is known what the run takes; scratch files and connections end with the block.

    Parameters
    ----------
    out
        The output folder, in which the scratch folder is.
    memory
        Bytes that the process may have; None for no limit.
    scheduler
        Address of a Dask scheduler; None for this process alone.

    Raises
    ------
    InputError
        If there is no such scheduler; by the function, if the memory is too small even with files.
    NoResult
        If the cluster is lost.
    """
    with _ended(), ExitStack() as stack:
        client = None if scheduler is None else stack.enter_context(connect(scheduler))

        def choose(needs: Needs) -> Place:
            least, have = in_use() + needs.in_files, math.inf if memory is None else memory
            if least > have:
                rounded = math.ceil(10 * least / 2**30) / 10
                raise InputError(
                    f"the run takes at least {rounded:.1f} GiB of memory, and {have / 2**30:.1f} GiB is allowed. Allow {rounded:.1f}GiB.", "memory"
                )
            if client is None and in_use() + needs.in_memory <= have:
                return MEMORY
            files = Files(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=out, prefix=f"{PARTIAL}cells-"))))
            if client is None:
                log.info("data of the cells: in files, as they exceed the memory allowed")
                return files
            log.info("data of the cells: on the workers of the cluster")
            return Workers(client, files)

        yield choose


@contextmanager
def _ended() -> Iterator[None]:
    """A lost cluster is no result."""
    try:
        yield
    except ClusterLost as error:
        raise NoResult(str(error), "scheduler") from error


def on_device(choose: Callable[[Needs], Place], name: str) -> Callable[[Needs], Place]:
    """The choice of a place for the test, with the blocks on a device if it is not the CPU.

    Raises
    ------
    InputError
        If there is no such device; by the function, if the cells are to be in files or on a cluster.
    """
    if name == "cpu":
        return choose
    from hierarchy.fitting import choose_device

    device = choose_device(name)

    def chosen(needs: Needs) -> Place:
        place = choose(needs)
        if device.type == "cpu":
            return place
        from crt.cells.device import OnDevice

        if place.folder is not None:
            raise InputError(f"the device is {name!r}, but cells in files or on a cluster are for the CPU. Choose 'cpu', or allow more memory.", "device")
        return OnDevice(device)

    return chosen
