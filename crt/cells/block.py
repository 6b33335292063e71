"""A block of the cells that units are compared on, and the sums over its cells that the test consists of.

Every sum takes a block first. Where outcome scores are tested it also takes the normal scores of its cells, float32 (cells, K), or None for the mean alone, and
`MeanScores`; the cells that a batch of units treats come as `Members`. Sums are float64. `crt.cells.device` has the same sums for blocks on a device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from crt.kernels import cumulants as _cumulants
from crt.kernels import logistic as _logistic
from crt.tails.cumulants import PowerSums, power_sums

PIECE = 1024  # cells whose residuals and their powers stay in cache
WIDE_PIECE = 8192  # cells whose residuals in float64 are held at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellBlock:
    """Cells with their covariates and outcomes.

    Attributes
    ----------
    rows
        Covariates, the intercept first, and outcomes, by cell.
    columns
        What the propensity depends on: the covariates, transposed, float32 (p, cells).
    n_covariates
        Number of covariates p.
    n_programs
        Number of outcomes K.
    """

    rows: Float32[np.ndarray, "cells width"]
    columns: Float[np.ndarray, "terms cells"]
    n_covariates: int
    n_programs: int

    def __post_init__(self) -> None:
        """Make the arrays read-only, wherever they came from: the kernels are compiled for such arrays."""
        self.rows.flags.writeable = self.columns.flags.writeable = False

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.rows)

    @property
    def C(self) -> Float32[np.ndarray, "cells covariates"]:
        """The design."""
        return self.rows[:, : self.n_covariates]

    @property
    def Y(self) -> Float32[np.ndarray, "cells programs"]:
        """The outcomes."""
        return self.rows[:, self.n_covariates : self.n_covariates + self.n_programs]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Members:
    """The cells of a block that each of a batch of units treats.

    Attributes
    ----------
    offsets
        The cells of unit u are `cells[offsets[u]:offsets[u + 1]]`, int64 (units + 1,).
    cells
        Positions in the block, ascending within a unit.
    """

    offsets: Int[np.ndarray, " bounds"]
    cells: Int[np.ndarray, " entries"]

    def by_unit(self) -> Iterator[Int[np.ndarray, " _"]]:
        """The cells of each unit."""
        return (self.cells[a:b] for a, b in zip(self.offsets, self.offsets[1:], strict=False))


def members_of(sets: Sequence[Int[np.ndarray, " _"]], blocks: Sequence[slice]) -> Iterator[Members]:
    """The members of each block, from the treated cells of each unit, ascending."""
    bounds = np.array([[cells.start, cells.stop] for cells in blocks])
    ends = [np.searchsorted(treated, bounds) for treated in sets]
    for i, (first, _) in enumerate(bounds):
        parts = [treated[at[i, 0] : at[i, 1]] - np.int32(first) for treated, at in zip(sets, ends, strict=True)]
        yield Members(offsets=np.cumsum([0, *(part.size for part in parts)], dtype=np.int64), cells=np.concatenate(parts, dtype=np.int32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeanScores:
    """Outcomes as scores: residuals of variance 1, Y/scale − C coef.

    Attributes
    ----------
    coef
        Least-squares coefficients of Y/scale on C, (p, K).
    centre
        Mean of the outcomes, float32 (K,), which is subtracted first, so that large outcomes cost no digits.
    scale
        SD of the residuals, (K,). Infinite, so that residuals are 0, where the outcome has no variance given C.
    """

    coef: Float64[np.ndarray, "covariates programs"]
    centre: Float32[np.ndarray, " programs"]
    scale: Float64[np.ndarray, " programs"]

    def residuals(self, C: Float[np.ndarray, "cells covariates"], Y: Float[np.ndarray, "cells programs"]) -> Float32[np.ndarray, "cells programs"]:
        """Residuals of some cells."""
        out, coef = np.empty(Y.shape, np.float32), self.coef.copy()
        coef[0] -= self.centre / self.scale
        _cumulants.residual_block(Y, self.centre, (1 / self.scale).astype(np.float32), C, coef.astype(np.float32), out)
        return out


Normal = Float32[Any, "cells programs"] | None  # normal scores, or None where the mean alone is tested


@singledispatch
def residuals(block: CellBlock, normal: Normal, mean: MeanScores, cells: slice) -> Float32[np.ndarray, "piece columns"]:
    """Scores of some cells: the normal scores, and the outcomes'.

    Parameters
    ----------
    block
        The cells.
    normal
        Their normal scores, or None.
    mean
        The outcomes as scores.
    cells
        The cells wanted.
    """
    own = mean.residuals(block.C[cells], block.Y[cells])
    return own if normal is None else np.hstack([normal[cells], own])


@singledispatch
def wide_residuals(
    block: CellBlock, normal: Normal, mean: MeanScores, columns: Int[np.ndarray, " columns"], cells: slice
) -> Float64[np.ndarray, "columns piece"]:
    """Some columns of the scores of some cells in float64, transposed.

    Parameters
    ----------
    block
        The cells.
    normal
        Their normal scores, or None.
    mean
        The outcomes as scores.
    columns
        The columns wanted: those of the normal scores come first.
    cells
        The cells wanted.
    """
    n, K = len(range(len(block))[cells]), block.n_programs
    out = np.empty((columns.size, n))
    of_normal = np.zeros(columns.size, bool) if normal is None else columns < K
    if normal is not None and of_normal.any():
        out[of_normal] = normal[cells][:, columns[of_normal]].T
    if not of_normal.all():
        own = np.empty((int((~of_normal).sum()), n))
        _cumulants.residual_columns(block.Y[cells], block.C[cells], mean.coef, mean.scale, columns[~of_normal] % K, own)
        out[~of_normal] = own
    return out


def _pieces(block: CellBlock, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, len(block))) for first in range(0, len(block), size))


@singledispatch
def treated_sums(block: CellBlock, normal: Normal, members: Members) -> Float64[np.ndarray, "units width"]:
    """Sums of the normal scores, or of covariates and outcomes where there are none, over each unit's treated cells."""
    values = block.rows if normal is None else normal
    return np.stack([values[own].astype(np.float64).sum(0) for own in members.by_unit()])


@singledispatch
def moment_sums(block: CellBlock, raw: Normal) -> tuple[Float64[np.ndarray, "covariates both"], Float64[np.ndarray, " programs"]]:
    """C'C beside C'Y, and Σ Y², of the outcomes, or of `raw` in their place."""
    p = block.n_covariates
    total, square = np.zeros((p, p + block.n_programs)), np.zeros(block.n_programs)
    for cells in _pieces(block, WIDE_PIECE):
        c, y = block.C[cells].astype(np.float64), (block.Y if raw is None else raw)[cells].astype(np.float64)
        total += c.T @ np.hstack([c, y])
        square += np.square(y).sum(0)
    return total, square


@singledispatch
def largest_residuals(block: CellBlock, normal: Normal, mean: MeanScores) -> Float64[np.ndarray, " columns"]:
    """The largest absolute score of each column."""
    found = [np.abs(residuals(block, normal, mean, cells)).max(0) for cells in _pieces(block, PIECE)]
    return np.max(found, axis=0).astype(np.float64)


@singledispatch
def logistic_sums(
    block: CellBlock, beta: Float64[np.ndarray, "units covariates"], want_hessian: Bool[np.ndarray, " units"]
) -> tuple[Float64[np.ndarray, "units covariates"], Float64[np.ndarray, "units covariates covariates"]]:
    """Σ π C and, where it is wanted, Σ π(1 − π) C C', with π the propensity at each coefficient vector."""
    gradient, hessian = np.empty(beta.shape), np.empty((*beta.shape, beta.shape[1]))
    _logistic.logistic_pass(block.columns, beta, gradient, hessian, want_hessian)
    return gradient, hessian


@singledispatch
def propensity_range(block: CellBlock, beta: Float64[np.ndarray, "units covariates"], members: Members) -> Float64[np.ndarray, "units 5"]:
    """Of each unit's propensity: the minimum, sum and maximum, the minimum over treated and the maximum over untreated cells."""
    out = np.empty((len(beta), 5))
    _logistic.propensity_range(block.columns, beta, members.offsets, members.cells, out)
    return out


def joint_range(first: Float64[np.ndarray, "units 5"], second: Float64[np.ndarray, "units 5"]) -> Float64[np.ndarray, "units 5"]:
    """The range over two blocks."""
    out = np.minimum(first, second)
    out[:, 1] = first[:, 1] + second[:, 1]
    out[:, [2, 4]] = np.maximum(first[:, [2, 4]], second[:, [2, 4]])
    return out


def probabilities(block: CellBlock, beta: Float64[np.ndarray, "units covariates"], cells: slice) -> Float64[np.ndarray, "units piece"]:
    """Propensities of some cells at each coefficient vector."""
    out = np.empty((len(beta), len(range(len(block))[cells])))
    _logistic.logistic_probabilities(block.columns, cells.start, beta, out)
    return out


@singledispatch
def null_sums(block: CellBlock, normal: Normal, mean: MeanScores, beta: Float64[np.ndarray, "units covariates"], n_tested: int) -> PowerSums:
    """The sums that the cumulants of T consist of, cells treated independently.

    Parameters
    ----------
    block
        The cells.
    normal
        Their normal scores, or None.
    mean
        The outcomes as scores.
    beta
        Coefficients of the units' propensities.
    n_tested
        Number of leading columns that are tested.
    """
    total = None
    for cells in _pieces(block, PIECE):
        own = power_sums(residuals(block, normal, mean, cells), probabilities(block, beta, cells).astype(np.float32), n_tested)
        total = own if total is None else total + own
    assert total is not None
    return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tilts:
    """Tests whose saddlepoint equations are being solved.

    Attributes
    ----------
    unit
        Unit of each test, as a row of `beta`.
    column
        Column of the scores that each tests.
    s
        The tilt of each.
    beta
        Coefficients of the units' propensities, (units, covariates).
    """

    unit: Int[np.ndarray, " tests"]
    column: Int[np.ndarray, " tests"]
    s: Float64[np.ndarray, " tests"]
    beta: Float64[np.ndarray, "units covariates"]


@singledispatch
def tilt_sums(block: CellBlock, normal: Normal, mean: MeanScores, tilts: Tilts) -> Float64[np.ndarray, "tests 5"]:
    """K(s) = Σ log(1 − p + p e^{sr}) − s Σ p r and its first four derivatives, of each test.

    Parameters
    ----------
    block
        The cells.
    normal
        Their normal scores, or None.
    mean
        The outcomes as scores.
    tilts
        The tests.
    """
    units, unit = np.unique(tilts.unit, return_inverse=True)
    columns, column = np.unique(tilts.column, return_inverse=True)
    total = np.zeros((tilts.s.size, 5))
    for cells in _pieces(block, WIDE_PIECE):
        r, p = wide_residuals(block, normal, mean, columns, cells), probabilities(block, tilts.beta[units], cells)
        _cumulants.bernoulli_tilts(p, r, unit, column, tilts.s, total)
    return total


@singledispatch
def support_ends(block: CellBlock, normal: Normal, mean: MeanScores, tilts: Tilts) -> Float64[np.ndarray, "tests 2"]:
    """Of each test Σ |r| over the cells with positive p whose residuals have the sign of s; and Σ p r.

    Parameters
    ----------
    block
        The cells.
    normal
        Their normal scores, or None.
    mean
        The outcomes as scores.
    tilts
        The tests, with a sign in place of s.
    """
    total = np.zeros((tilts.s.size, 2))
    for cells in _pieces(block, WIDE_PIECE):
        r, p = wide_residuals(block, normal, mean, tilts.column, cells), probabilities(block, tilts.beta[tilts.unit], cells)
        total[:, 0] += (np.maximum(np.sign(tilts.s)[:, None] * r, 0.0) * (p > 0)).sum(1)
        total[:, 1] += (p * r).sum(1)
    return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockStrata:
    """The strata of a block's cells for a batch of units.

    Attributes
    ----------
    ids
        Stratum of each cell, (units, cells).
    n_strata
        Number of strata of each unit.
    """

    ids: Int[np.ndarray, "units cells"]
    n_strata: tuple[int, ...]


@singledispatch
def stratum_sums(block: CellBlock, normal: Normal, mean: MeanScores, strata: BlockStrata) -> list[Float64[np.ndarray, "strata 4 columns"]]:
    """Sums of the first four powers of the scores over each stratum of each unit.

    Parameters
    ----------
    block
        The cells.
    normal
        Their normal scores, or None.
    mean
        The outcomes as scores.
    strata
        The strata.
    """
    width = block.n_programs * (1 if normal is None else 2)
    sums = [np.zeros((n, 4, width)) for n in strata.n_strata]
    for cells in _pieces(block, PIECE):
        r = residuals(block, normal, mean, cells)
        for row, one in zip(strata.ids, sums, strict=True):
            _cumulants.add_powers(r, row[cells], one)
    return sums
