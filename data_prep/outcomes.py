"""Checks of fate probabilities and program usage, and the centred log-ratio."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Shaped

from data_prep.errors import InputError, first_few, first_rows, warn
from data_prep.read.cell_names import same_number
from data_prep.read.rows import row_blocks, take

LARGEST = 1e30  # sums of a hundred million such outcomes are finite in float32
SUM_EXACT, SUM_ROUNDED = 1e-5, 1e-3  # sums of rows within the first are exact in float32; within the second they are rounded


def check_fate_prob(prob: Any, names: tuple[str, ...], cells: Shaped[np.ndarray, " cells"], *, where: str) -> Float64[np.ndarray, "cells fates"]:
    """Check fate probabilities, an array or a `StoredRows`, in blocks of cells, and divide each row by its sum.

    Parameters
    ----------
    prob
        Fate probabilities, (cells, fates).
    names
        Names of the fates.
    cells
        Names of the cells, (cells,).
    where
        Name of the probabilities in error messages.

    Raises
    ------
    InputError
        If there are fewer than two fates, repeated names, entries that are NaN, infinite or negative, or rows whose sum differs from 1 by more than 1e-3.
    """
    if prob.ndim != 2 or prob.shape[1] != len(names):
        raise InputError(f"{where} has shape {prob.shape} but {len(names)} fate names ({first_few(names)}). Give one name for each column.")
    same_number(prob.shape[0], cells, where=where)
    if len(names) < 2:
        raise InputError(f"{where} has {len(names)} fate; at least two are needed, one of them the reference.")
    if len(set(names)) < len(names):
        raise InputError(f"{where} repeats a fate name: {first_few(names, 20)}. Name each column once.")
    if prob.dtype.kind == "c":
        raise InputError(f"{where} holds complex numbers. Give one probability for each cell and fate.")
    along, across = take(prob, slice(0, 2)).strides
    out = np.empty(prob.shape, order="F" if along < across else "C")
    infinite, negative, off = np.zeros(len(cells), bool), np.zeros(len(cells), bool), np.empty(len(cells))
    for rows in row_blocks(prob.shape):
        block = _numbers(prob, rows, where, "probability for each cell and fate")
        total = block.sum(1)
        infinite[rows], negative[rows], off[rows] = ~np.isfinite(block).all(1), (block < 0).any(1), np.abs(total - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(block, total[:, None], out=out[rows])
    for bad, problem in ((infinite, "NaN or infinite"), (negative, "negative")):
        if bad.any():
            shown = first_rows(bad, cells, take(prob, slice(0, len(cells))))
            raise InputError(f"{where} is {problem} in {shown}. Drop those cells, or compute their fates again.")
    if (off > SUM_ROUNDED).any():
        raise InputError(
            f"{where}: rows must sum to 1, but {first_rows(off > SUM_ROUNDED, cells, take(prob, slice(0, len(cells))).astype(np.float64).sum(1))}. "
            "Give probabilities over all fates (a dropped column?), or divide each row by its sum."
        )
    if (off > SUM_EXACT).any():
        warn(f"{where}: {int((off > SUM_EXACT).sum()):,} rows sum to 1 only within {off.max():.1e}; they were renormalised.")
    return out


Blocks = Iterator[tuple[slice, Float64[np.ndarray, "some programs"]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlainOutcomes:
    """Continuous outcomes as they are, but for those far from zero: they are centred, which changes no coefficient and keeps their digits in float32.

    Attributes
    ----------
    values
        The outcomes, (cells, programs): an array, a DataFrame or a `StoredRows`.
    mean
        Their means, (programs,).
    where
        Their name in messages.
    """

    values: Any
    mean: Float64[np.ndarray, " programs"]
    where: str

    @classmethod
    def of(cls, values: Any, cells: Shaped[np.ndarray, " cells"], *, where: str) -> "PlainOutcomes":
        """Check outcomes, in blocks of cells.

        Raises
        ------
        InputError
            If entries are not finite numbers, or are so large that their sums overflow.
        """
        values = _matrix(values, cells, where)
        mean = np.zeros(values.shape[1])

        def more(rows: slice, block: np.ndarray) -> None:
            mean[...] += np.asfortranarray(block).sum(0) / values.shape[0]  # numpy sums in memory order

        _check_finite(values, cells, where, more)
        return cls(values=values, mean=mean, where=where)

    def blocks(self, keep: Sequence[int]) -> Blocks:
        """Consecutive cells, and some of their outcomes.

        Warns
        -----
        ScreenWarning
            If outcomes were centred.
        """
        values, where, mean, square = self.values, self.where, self.mean[list(keep)], np.zeros(len(keep))
        for rows in row_blocks(values.shape):
            square += np.square(_numbers(values, rows, where)[:, keep] - mean).sum(0) / values.shape[0]
        far = np.abs(mean) > 100 * np.sqrt(square)
        if far.any():
            warn(f"{where}: the means of {int(far.sum())} outcomes are more than 100 SD from zero; these outcomes were centred.")
        return ((rows, _numbers(values, rows, where)[:, keep] - np.where(far, mean, 0.0)) for rows in row_blocks(values.shape))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogRatios:
    """Centred log-ratios of program usage.

    With the shares u of a cell's total usage, clr_k = log u_k − mean_j log u_j (Aitchison 1986, "The statistical analysis of compositional
    data", chapter 4). Shares below a quantile of the *positive* shares are set to it first, and each row is divided by its sum again:
    consensus NMF leaves exact zeros, so a quantile over all shares would be 0 and the logarithm −∞.

    Attributes
    ----------
    usage
        Program usage, (cells, programs): an array, a DataFrame or a `StoredRows`.
    total
        Total usage of each cell, (cells, 1).
    floor
        The quantile, which replaces smaller shares.
    where
        Name of the usage in messages.
    """

    usage: Any
    total: Float64[np.ndarray, "cells 1"]
    floor: float
    where: str

    @classmethod
    def of(cls, usage: Any, cells: Shaped[np.ndarray, " cells"], *, eps_quantile: float = 1e-4, where: str = "usage") -> "LogRatios":
        """Check program usage, and take its totals and the quantile, in blocks of cells.

        Parameters
        ----------
        usage
            Program usage, (cells, programs).
        cells
            Names of the cells, (cells,).
        eps_quantile
            Quantile of the positive shares that replaces smaller ones, at least 0 and below 1.
        where
            Name of the usage in messages.

        Raises
        ------
        InputError
            If entries are not finite or are negative, if the total usage of a cell is zero, if there is one program only, or if `eps_quantile` is out of range.

        Warns
        -----
        ScreenWarning
            If the rows do not sum to 1.
        """
        if not 0 <= eps_quantile < 1:
            raise InputError(f"eps_quantile is {eps_quantile}; it must be at least 0 and below 1.", "eps_quantile")
        usage = _matrix(usage, cells, where)
        if usage.shape[1] < 2:
            raise InputError(f"{where} has one program; a centred log-ratio needs two or more (transform='none' leaves outcomes unchanged).", "transform")
        negative, total = np.zeros(cells.size, bool), np.empty((cells.size, 1))
        least = SmallestPositive(eps_quantile, usage.shape[0] * usage.shape[1])

        def more(rows: slice, block: np.ndarray) -> None:
            negative[rows], total[rows] = (block < 0).any(1), block.sum(1, keepdims=True)
            least.add(block / total[rows])

        _check_finite(usage, cells, where, more)
        if negative.any():
            raise InputError(f"{where} is negative in {first_rows(negative, cells)}. Give program usage, or transform='none' for other outcomes.", "transform")
        if (total <= 0).any():
            raise InputError(f"{where} is zero throughout in {first_rows(total[:, 0] <= 0, cells)}. Drop those cells: their total usage is zero.")
        if abs(float(np.median(total)) - 100) < 1:
            warn(f"{where}: rows sum to 100, so usages are in percent; they were divided by their sums.")
        elif (np.abs(total - 1) > SUM_ROUNDED).any():
            warn(f"{where}: rows do not sum to 1 (they sum to {total.min():.4g} to {total.max():.4g}); they were divided by their sums.")
        return cls(usage=usage, total=total, floor=max(least.quantile(), np.finfo(np.float64).tiny), where=where)

    def blocks(self, keep: Sequence[int]) -> Blocks:
        """Consecutive cells, and the log-ratios of some programs."""
        wanted = slice(None) if len(keep) == self.usage.shape[1] else list(keep)
        for rows in row_blocks(self.usage.shape):
            yield rows, _log_ratios(_numbers(self.usage, rows, self.where) / self.total[rows], self.floor)[:, wanted]


def clr_usage(usage: Any, *, eps_quantile: float = 1e-4) -> Float64[np.ndarray, "cells programs"]:
    """Centred log-ratios of program usage, as `LogRatios`, in one array.

    Parameters
    ----------
    usage
        Program usage, (cells, programs).
    eps_quantile
        Quantile of the positive shares that replaces smaller ones, at least 0 and below 1.
    """
    ratios = LogRatios.of(usage, np.arange(len(usage)), eps_quantile=eps_quantile)
    out = np.empty(ratios.usage.shape)
    for rows, block in ratios.blocks(range(out.shape[1])):
        out[rows] = block
    return out


def _matrix(values: Any, cells: np.ndarray, where: str) -> Any:
    """Outcomes, of which the numbers of cells and programs are checked."""
    values = values if hasattr(values, "shape") else np.asarray(values)
    if len(values.shape) != 2 or values.shape[1] == 0:
        raise InputError(f"{where} has shape {values.shape}; it must be cells × programs.")
    same_number(values.shape[0], cells, where=where)
    return values


def _check_finite(values: Any, cells: np.ndarray, where: str, more: Callable[[slice, np.ndarray], None]) -> None:
    """Check that outcomes are finite; `more` sees each block, too."""
    bad, large = np.zeros(cells.size, bool), np.zeros(cells.size, bool)
    for rows in row_blocks(values.shape):
        block = _numbers(values, rows, where)
        bad[rows], large[rows] = ~np.isfinite(block).all(1), (np.abs(block) > LARGEST).any(1)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            more(rows, block)
    if bad.any():
        raise InputError(f"{where} is NaN or infinite in {first_rows(bad, cells)}. Drop those cells, or compute their values again.")
    if large.any():
        raise InputError(
            f"{where} is larger than {LARGEST:g} in {first_rows(large, cells)}, so that sums overflow. Correct or drop those cells, or change the unit."
        )


def _numbers(values: Any, rows: slice, where: str, what: str = "number for each cell and program") -> np.ndarray:
    try:
        return np.asarray(take(values, rows), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is not numeric: {error}. Give one {what}.") from error


def _log_ratios(share: np.ndarray, floor: float) -> np.ndarray:
    """The centred log-ratios of shares, in their place."""
    np.maximum(share, floor, out=share)
    share /= share.sum(1, keepdims=True)
    np.log(share, out=share)
    share -= share.mean(1, keepdims=True)
    return share


class SmallestPositive:
    """A low quantile of the positive entries of many blocks, exactly that of `np.quantile`, with only the smallest entries in memory."""

    def __init__(self, q: float, n: int):
        """The quantile `q` of at most `n` entries."""
        self._q, self._kept, self._n = q, np.empty(0), 0
        self._room = min(n, int(q * n) + 2)

    def add(self, values: Float[np.ndarray, "..."]) -> None:
        """Add the positive entries of a block."""
        positive = values[values > 0]
        self._n += positive.size
        if self._kept.size == self._room:
            positive = positive[positive < self._kept[-1]]
        together = np.concatenate([self._kept, positive])
        if together.size > self._room:
            together = np.partition(together, self._room - 1)[: self._room]
        together.sort()
        self._kept = together

    def quantile(self) -> float:
        """The quantile of all added entries, with linear interpolation (definition 7 of Hyndman and Fan 1996, Am. Stat. 50)."""
        at = (self._n - 1) * self._q
        below = int(at)
        a, b = self._kept[below], self._kept[min(below + 1, self._n - 1)]
        part = at - below
        return float(b - (b - a) * (1 - part) if part >= 0.5 else a + (b - a) * part)
