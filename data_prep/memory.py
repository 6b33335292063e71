"""How much memory there is, how much this process has, and how much a run will take: sizes that no memory can hold are refused before any work."""

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import InputError

CGROUP = Path("/sys/fs/cgroup/memory.max")  # the limit of a container, or "max"


STATUS = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that a run takes beyond what the process has when it is asked.

    Attributes
    ----------
    in_memory
        With the data of the cells in memory.
    in_files
        With the data of the cells in files.
    """

    in_memory: float
    in_files: float


def in_use() -> int:
    """Bytes of memory that this process has; the most it had, where the system does not report the present number."""
    try:
        return int(STATUS.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def require_memory(n_bytes: float, what: str, *arguments: str) -> None:
    """Raise an `InputError` if `what` takes more than all memory of this machine; nothing is checked where its size is unknown."""
    most = _memory()
    if most is not None and n_bytes > most:
        raise InputError(
            f"{what} would take at least {min(n_bytes, 2**99) / 2**30:,.0f} GiB of memory; this machine has {most / 2**30:,.0f} GiB. Choose fewer.", *arguments
        )


def _memory() -> int | None:
    """Bytes of memory of this machine or container."""
    found = []
    try:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        found.append(int(CGROUP.read_text(encoding="ascii")))
    except (AttributeError, OSError, ValueError):  # not Unix; not Linux; no limit
        pass
    return min(found, default=None)
