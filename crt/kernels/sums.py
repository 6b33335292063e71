"""Draws of both samplers, and sums of the inputs' rows over the cells that each resample treats.

Names: Z (cells, width) float32 rows, one per cell; `sums` (resamples, width) their sums over the treated cells of each resample; `hazard` −log(1 − p) of each
cell's propensity p. Numba does not compile this file again when `random.py` changes: delete `__pycache__` after such a change.
"""

import numba as nb
import numpy as np

from crt.kernels.random import BLOCK, fill_exponentials, hits_of, shuffle_front


@nb.njit(cache=True, inline="always")
def _add_row(total, row, width):
    for k in range(width):
        total[k] += row[k]


@nb.njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, inline="always")
def _add_rows(total, Z, cells, n, width):
    """Add several rows into one total, four at a time: one after the other, each would wait for the last one's store."""
    t = 0
    while t + 4 <= n:
        first, second, third, fourth = Z[cells[t]], Z[cells[t + 1]], Z[cells[t + 2]], Z[cells[t + 3]]
        for k in range(width):
            total[k] += (first[k] + second[k]) + (third[k] + fourth[k])
        t += 4
    while t < n:
        _add_row(total, Z[cells[t]], width)
        t += 1


@nb.njit(cache=True, nogil=True)
def bernoulli_sums(Z, cells, hazard, sums, drawn, value, left, state):
    """Draw Bernoulli resamples and sum at once, cell by cell: each row is read once, and the sums stay in the second-level cache.

    Called for pieces of the cells in their order, with the same state, it gives the sums over all of them.

    Parameters
    ----------
    Z
        Rows of the screen, float32 (all cells, width).
    cells
        Cells of the unit, int32 (cells,).
    hazard
        Hazard of each of them, (cells,).
    sums
        Receives the sums, float32 (resamples, width); zeros at first.
    drawn
        The block of exponential numbers in use, (BLOCK,), from `first_exponentials`.
    value
        Room for the next, (BLOCK,).
    left
        What is left of the current exponential number, and the position of the next, (2,).
    state
        State of the generator, uint64 (1,).
    """
    n_resamples, width = sums.shape
    hits = np.empty(n_resamples, np.int32)
    rest, at, now = left[0], np.int64(left[1]), state[0]
    for i in range(cells.size):
        span = hazard[i] * n_resamples
        if rest >= span:
            rest -= span
            continue
        n, rest, at, now = hits_of(hazard[i], n_resamples, rest, at, now, hits, drawn, value)
        row = Z[cells[i]]
        for t in range(n):
            _add_row(sums[hits[t]], row, width)
    left[0], left[1], state[0] = rest, at, now


@nb.njit(cache=True, nogil=True)
def first_exponentials(drawn, value, left, state):
    """Begin the stream of `bernoulli_sums`: fill the block of exponential numbers and take the first.

    Parameters
    ----------
    drawn
        Receives the block of exponential numbers, (BLOCK,).
    value
        Room for the next, (BLOCK,).
    left
        Receives what is left of the current number, and the position of the next, (2,).
    state
        State of the generator, uint64 (1,); moved on.
    """
    state[0] = fill_exponentials(drawn, value, state[0])
    left[0], left[1] = drawn[0], 1.0


@nb.njit(cache=True, nogil=True)
def bernoulli_indices(hazard, position, indices, state):
    """The treated cells themselves, by the draws of `bernoulli_sums`: `position`, which starts as indptr[:-1], ends as indptr[1:].

    With empty `indices` the cells are only counted: `position`, which starts as zeros, ends as the number of treated cells of each resample.

    Parameters
    ----------
    hazard
        Hazard of each cell, (cells,).
    position
        Where the next cell of each resample is written, int64 (resamples,).
    indices
        Receives the treated cells, int32 (treated,), or empty.
    state
        Initial state of the generator.
    """
    n_resamples, write = position.size, indices.size > 0
    out, value, hits = np.empty(BLOCK), np.empty(BLOCK), np.empty(n_resamples, np.int32)
    state = fill_exponentials(out, value, state)
    left, at = out[0], 1
    for i in range(hazard.size):
        span = hazard[i] * n_resamples
        if left >= span:
            left -= span
            continue
        n, left, at, state = hits_of(hazard[i], n_resamples, left, at, state, hits, out, value)
        for t in range(n):
            if write:
                indices[position[hits[t]]] = i
            position[hits[t]] += 1


@nb.njit(cache=True, nogil=True)
def stratified_sums(Z, members, offsets, n_treated, sums, state):
    """Draw permutations within strata and sum at once, stratum by stratum, so that the rows of a stratum stay in cache.

    Parameters
    ----------
    Z
        Rows of the screen, float32 (all cells, width).
    members
        Cells of the unit by stratum, int32 (cells,); shuffled in place.
    offsets
        Bounds of the strata in `members`, int64 (strata + 1,).
    n_treated
        Number of treated cells of each stratum, int64 (strata,).
    sums
        Receives the sums, float32 (resamples, width); zeros at first.
    state
        Initial state of the generator.
    """
    n_resamples, width = sums.shape
    for s in range(n_treated.size):
        m = n_treated[s]
        if m == 0:
            continue
        own = members[offsets[s] : offsets[s + 1]]
        for b in range(n_resamples):
            state = shuffle_front(own, m, state)
            _add_rows(sums[b], Z, own, m, width)


@nb.njit(cache=True, nogil=True)
def stratified_indices(members, offsets, n_treated, n_resamples, indices, state):
    """The treated cells themselves, by the draws of `stratified_sums`; those of a resample are in the order of the strata.

    Parameters
    ----------
    members
        As in `stratified_sums`.
    offsets
        As in `stratified_sums`.
    n_treated
        As in `stratified_sums`.
    n_resamples
        Number of resamples.
    indices
        Receives the treated cells, int32 (resamples · treated,).
    state
        Initial state of the generator.
    """
    per_resample = indices.size // max(1, n_resamples)
    first = 0
    for s in range(n_treated.size):
        m = n_treated[s]
        if m == 0:
            continue
        own = members[offsets[s] : offsets[s + 1]]
        for b in range(n_resamples):
            state = shuffle_front(own, m, state)
            at = b * per_resample + first
            for t in range(m):
                indices[at + t] = own[t]
        first += m
