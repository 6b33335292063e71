"""Where the data of the cells are during a run: in memory, in files inside the output folder, or on the workers of a cluster."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.blocks.cluster import ClusterLost, connect
from data_prep.errors import InputError
from data_prep.files import PARTIAL
from data_prep.memory import Needs, in_use
from fatescreen.cli.command import NoResult

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def storage(out: Path, needs: Needs, *, memory: int | None, scheduler: str | None) -> Iterator[tuple[Path | None, "Client | None"]]:
    """A scratch folder, if the data of the cells are to be in files, and a connection to the cluster, if there is one; both end with the block.

    Parameters
    ----------
    out
        The output folder, in which the scratch folder is.
    needs
        What the run takes.
    memory
        Bytes that the process may have; None for no limit.
    scheduler
        Address of a Dask scheduler; None for this process alone.

    Raises
    ------
    InputError
        If the memory is too small even with files.
    NoResult
        If the cluster is lost.
    """
    least, have = in_use() + needs.in_files, math.inf if memory is None else memory
    if least > have:
        rounded = math.ceil(10 * least / 2**30) / 10
        raise InputError(f"the run takes at least {rounded:.1f} GiB of memory, and {have / 2**30:.1f} GiB is allowed. Allow {rounded:.1f}GiB.", "memory")
    if scheduler is None and in_use() + needs.in_memory <= have:
        yield None, None
        return
    with tempfile.TemporaryDirectory(dir=out, prefix=f"{PARTIAL}cells-") as scratch:
        if scheduler is None:
            yield Path(scratch), None
            return
        try:
            with connect(scheduler) as client:
                yield Path(scratch), client
        except ClusterLost as error:
            raise NoResult(str(error), "scheduler") from error
