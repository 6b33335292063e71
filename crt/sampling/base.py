"""What all samplers share: their output, what they know about a unit, and the interface of a sampler that is bound to a screen."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from crt.propensity import PropensityFit
from data_prep.errors import InputError


class Resamples(NamedTuple):
    """Ragged lists of treated cells: resample b treats `indices[indptr[b]:indptr[b + 1]]`.

    Attributes
    ----------
    indptr
        Position of the first cell of each resample, int64 (B + 1,).
    indices
        The treated cells, int32.

    Examples
    --------
    >>> import numpy as np
    >>> from crt import bernoulli_index_sampler
    >>> resamples = bernoulli_index_sampler(np.full(10, 0.3), B=2, seed=1)
    >>> [resamples.indices[a:b].tolist() for a, b in zip(resamples.indptr, resamples.indptr[1:])]
    [[2, 7], [0]]
    """

    indptr: Int[np.ndarray, " bounds"]
    indices: Int[np.ndarray, " treated"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """The cells of one unit, and their treatment and propensity.

    Attributes
    ----------
    cells
        Rows of the screen, int32 (cells,), ascending.
    treated
        Positions of the treated cells among `cells`, ascending.
    propensity
        Propensity of `cells`.
    whole
        Whether `cells` is every cell of the screen.
    """

    cells: Int[np.ndarray, " cells"]
    treated: Int[np.ndarray, " treated"]
    propensity: PropensityFit
    whole: bool

    @property
    def p(self) -> Float64[np.ndarray, " cells"]:
        """Propensity of `cells`, (cells,)."""
        return self.propensity.p


class Drawer(Protocol):
    """A sampler bound to one screen."""

    def sums(
        self, unit: Unit, rows: Float32[np.ndarray, "cells width"], n_resamples: int, seed: int
    ) -> tuple[Float32[np.ndarray, "resamples width"], dict[str, int]]:
        """Sums of `rows` over the treated cells of each resample, and diagnostics of the sampler.

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


def checked_probabilities(p: Float[np.ndarray, " cells"], argument: str) -> Float[np.ndarray, " cells"]:
    """Probabilities as contiguous float64; `argument` names them in errors."""
    p = np.ascontiguousarray(p, dtype=np.float64)
    if p.ndim != 1 or p.size == 0:
        raise InputError(f"{argument} has shape {p.shape}. Give one probability per cell.", argument)
    if not (np.isfinite(p).all() and p.min() >= 0 and p.max() <= 1):
        raise InputError(f"{int((~((p >= 0) & (p <= 1))).sum()):,} of the {p.size:,} probabilities in {argument} are NaN or outside [0, 1].", argument)
    return p
