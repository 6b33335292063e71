"""Independent Bernoulli draws of the treatment from each cell's propensity."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from crt.cells.stored import pieces
from crt.kernels import sums as _kernels
from crt.kernels.random import BLOCK
from crt.sampling.base import Resamples, Unit, checked_probabilities
from crt.sampling.streams import stream_state
from data_prep.errors import whole_number


def bernoulli_index_sampler(p: Float[np.ndarray, " cells"], B: int, seed: int) -> Resamples:
    """Treat every cell independently in each resample, with its own probability.

    The gaps between the resamples that treat a cell are geometric: ⌊E/h⌋ with E ~ Exp(1) and h = −log(1 − p). What is left of E after the last resample
    carries over to the next cell, since the exponential distribution has no memory. The cost is one random number per treated draw, plus one step per cell.

    Parameters
    ----------
    p
        Probability of treatment of each cell, (cells,).
    B
        Number of resamples.
    seed
        Random seed.

    Returns
    -------
    Resamples
        The cells of a resample are in ascending order.

    Raises
    ------
    InputError
        Where a probability is NaN or outside [0, 1], or B is not a positive whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from crt import bernoulli_index_sampler
    >>> resamples = bernoulli_index_sampler(np.full(1000, 0.1), B=200, seed=1)
    >>> round(resamples.indices.size / 200 / 1000, 2)
    0.1
    """
    hazard, state = _hazard(checked_probabilities(p, "p")), stream_state(seed)
    counts = np.zeros(whole_number("B", B), np.int64)
    _kernels.bernoulli_indices(hazard, counts, np.empty(0, np.int32), state)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    indices = np.empty(indptr[-1], np.int32)
    _kernels.bernoulli_indices(hazard, indptr[:-1].copy(), indices, state)
    return Resamples(indptr, indices)


@dataclass(frozen=True, slots=True, kw_only=True)
class BernoulliDrawer:
    """A `BernoulliIndex` bound to a screen."""

    def sums(
        self, unit: Unit, rows: Float32[np.ndarray, "cells width"], n_resamples: int, seed: int
    ) -> tuple[Float32[np.ndarray, "resamples width"], dict[str, int]]:
        """Sums of `rows` over the treated cells of each resample.

        Parameters
        ----------
        unit
            The unit.
        rows
            Rows of the screen.
        n_resamples
            Number of resamples.
        seed
            Random seed of the unit.
        """
        sums, hazard = np.zeros((n_resamples, rows.shape[1]), np.float32), _hazard(unit.p)
        drawn, value, left, state = np.empty(BLOCK), np.empty(BLOCK), np.empty(2), np.array([stream_state(seed)], np.uint64)
        _kernels.first_exponentials(drawn, value, left, state)
        for piece in pieces(rows):
            first, last = np.searchsorted(unit.cells, (piece.start, piece.stop))
            _kernels.bernoulli_sums(rows, unit.cells[first:last], hazard[first:last], sums, drawn, value, left, state)
        return sums, {}


def _hazard(p: np.ndarray) -> np.ndarray:
    """−log(1 − p); 1e300 in place of infinity where p = 1."""
    certain = p >= 1
    if certain.any():
        return np.where(certain, 1e300, -np.log1p(-np.where(certain, 0.0, p)))
    return -np.log1p(-p)
