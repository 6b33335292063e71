"""Random numbers: SplitMix64, exponential variates, the resamples that treat a cell, and shuffles.

SplitMix64 is of Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators": number n of a stream is a hash of `state + n·γ`, so a stream
is a function of its 64-bit state alone. Exponential variates are −log of a 53-bit uniform, made a block at a time.
"""

import math

import numba as nb
import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
BLOCK = 512  # exponentials made at a time: they and their bits stay in the first-level cache
_LN2, _SQRT2 = math.log(2.0), math.sqrt(2.0)


@nb.njit(cache=True, inline="always")
def _mix(x):
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


@nb.njit(cache=True, nogil=True, fastmath=True)
def fill_exponentials(out, value, state):
    """Exponential variates −log(uniform) to 1e-12, vectorised: u = 2^e·f with f in [1, 2), log f = log √2 + 2 atanh((f − √2)/(f + √2)).

    `out` and `value` have `BLOCK` entries; `value` becomes the uniforms times 2^53. Returns the next state.
    """
    bits = value.view(np.int64)
    for i in range(BLOCK):
        value[i] = np.float64(np.int64(_mix(state + np.uint64(i + 1) * GAMMA) >> _S11) + 1)
    for i in range(BLOCK):
        raw = bits[i]
        f = np.float64((raw & 0xFFFFFFFFFFFFF) | 0x10000000000000) * 2.0**-52
        s = (f - _SQRT2) / (f + _SQRT2)
        z = s * s
        odd = 1.0 + z * (1 / 3.0 + z * (1 / 5.0 + z * (1 / 7.0 + z * (1 / 9.0 + z * (1 / 11.0 + z / 13.0)))))
        out[i] = -(2.0 * s * odd + (np.float64((raw >> 52) - 1076) + 0.5) * _LN2)
    return state + np.uint64(BLOCK) * GAMMA


@nb.njit(cache=True, nogil=True, inline="always")
def hits_of(h, n_resamples, left, at, state, hits, out, value):
    """The resamples that treat a cell.

    Parameters
    ----------
    h
        Hazard of the cell, −log(1 − p).
    n_resamples
        Number of resamples.
    left
        Rest of the current exponential variate, which carries over from the last cell.
    at
        Position of the next variate in `out`.
    state
        State of the generator.
    hits
        Receives the resamples, int32 (resamples,).
    out
        Exponential variates, (BLOCK,).
    value
        Work space, (BLOCK,).

    Returns
    -------
    tuple
        Number of resamples that treat the cell, and the new `left`, `at` and `state`.
    """
    inverse = 1.0 / h
    n = 0
    b = np.int64(left * inverse)
    while b < n_resamples:
        hits[n] = b
        n += 1
        if at == BLOCK:
            state = fill_exponentials(out, value, state)
            at = 0
        left = out[at]
        at += 1
        step = left * inverse
        remaining = n_resamples - b - 1
        if step >= remaining:
            left -= remaining * h
            break
        b += 1 + np.int64(step)
    return n, left, at, state


@nb.njit(cache=True, nogil=True, inline="always")
def shuffle_front(members, n_drawn, state):
    """A uniform subset without replacement into members[:n_drawn]: the first steps of a Fisher–Yates shuffle, valid from any starting order."""
    n = members.size
    for t in range(n_drawn):
        state += GAMMA
        u = np.float64(_mix(state) >> _S11) * 2.0**-53
        j = t + np.int64(u * (n - t))
        members[t], members[j] = members[j], members[t]
    return state
