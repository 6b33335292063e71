"""Seeds: a unit's stream is a function of the run's seed and the unit's name, and of nothing else."""

import hashlib

import numpy as np

from data_prep.errors import whole_number

_MASK = (1 << 64) - 1


def unit_seed(base_seed: int, name: str, *, purpose: str = "resamples") -> int:
    """A 64-bit seed for one unit: BLAKE2b of (base seed, purpose, name).

    Python's own `hash` is salted in every process, so it is not used; nor are the order of units, chunks or workers.

    >>> unit_seed(123, "STAT1") == unit_seed(123, "STAT1"), unit_seed(123, "STAT1") == unit_seed(124, "STAT1")
    (True, False)
    """
    text = f"{checked_seed(base_seed)}\x00{purpose}\x00{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def stream_state(seed: int) -> np.uint64:
    """Where the kernels' generator starts: a hash of the seed, so that neighbouring seeds are far apart."""
    digest = hashlib.blake2b((checked_seed(seed) & _MASK).to_bytes(8, "little"), digest_size=8, person=b"crt stream")
    return np.uint64(int.from_bytes(digest.digest(), "little"))


def checked_seed(seed: int) -> int:
    """The seed as a Python int, or an error."""
    return whole_number("the seed", seed, least=0)
