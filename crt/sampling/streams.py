"""Random streams: the stream of a unit depends on the seed of the run and the unit's name, and on nothing else."""

import hashlib

import numpy as np

from data_prep.errors import whole_number

_MASK = (1 << 64) - 1


def unit_seed(base_seed: int, name: str, *, purpose: str = "resamples") -> int:
    """The 64-bit seed of one unit: BLAKE2b of (base seed, purpose, name).

    It does not depend on the order of units, batches or workers, nor on Python's `hash`, which is salted in every process.

    >>> unit_seed(123, "STAT1") == unit_seed(123, "STAT1"), unit_seed(123, "STAT1") == unit_seed(124, "STAT1")
    (True, False)
    """
    text = f"{checked_seed(base_seed)}\x00{purpose}\x00{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def stream_state(seed: int) -> np.uint64:
    """Initial state of the kernels' generator: a hash of the seed, so that streams of neighbouring seeds do not overlap."""
    digest = hashlib.blake2b((checked_seed(seed) & _MASK).to_bytes(8, "little"), digest_size=8, person=b"crt stream")
    return np.uint64(int.from_bytes(digest.digest(), "little"))


def checked_seed(seed: int) -> int:
    """The seed as a Python int, or an error."""
    return whole_number("seed", seed, least=0)
