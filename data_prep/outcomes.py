"""Fate probabilities and program usage, checked."""

from typing import Any

import numpy as np

from data_prep.errors import InputError, first_few, first_rows, warn
from data_prep.read.rows import row_blocks, take

SUM_EXACT, SUM_ROUNDED = 1e-5, 1e-3  # rows within the first are as good as exact in float32; within the second they are rounded


def check_fate_prob(prob: np.ndarray, names: tuple[str, ...], cells: np.ndarray, *, where: str) -> np.ndarray:
    """Fate probabilities as float64 (N, F) with rows that sum to 1.

    Raises
    ------
    InputError
        fewer than two fates, repeated names, NaN, infinite or negative entries, or rows whose sum is off by more than 1e-3.
    """
    if prob.ndim != 2 or prob.shape[1] != len(names):
        raise InputError(f"{where} has shape {prob.shape} but {len(names)} fate names ({first_few(names)}). Give one name for each column.")
    if len(prob) != cells.size:
        raise InputError(f"{where} has {len(prob):,} rows but the screen has {cells.size:,} cells. Give one row for each cell.")
    if len(names) < 2:
        raise InputError(f"{where} has {len(names)} fate; at least two are needed, one of them the reference.")
    if len(set(names)) < len(names):
        raise InputError(f"{where} repeats a fate name: {first_few(names, 20)}. Name each column once.")
    if prob.dtype.kind == "c":
        raise InputError(f"{where} holds complex numbers. Give one probability for each cell and fate.")
    try:
        prob = np.asarray(prob, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is not numeric: {error}. Give one probability for each cell and fate.") from error
    for bad, said in ((~np.isfinite(prob), "NaN or infinite"), (prob < 0, "negative")):
        rows = np.any(bad, axis=1)
        if rows.any():
            raise InputError(f"{where} is {said} in {first_rows(rows, cells, prob)}. Drop those cells, or compute their fates again.")
    total = prob.sum(1)
    off = np.abs(total - 1)
    if (off > SUM_ROUNDED).any():
        rows = off > SUM_ROUNDED
        raise InputError(
            f"{where}: rows must sum to 1, but {first_rows(rows, cells, total)}. "
            "Give probabilities over all fates (a dropped column?), or divide each row by its sum."
        )
    if (off > SUM_EXACT).any():
        warn(f"{where}: {int((off > SUM_EXACT).sum()):,} rows sum to 1 only within {off.max():.1e}; they were renormalised.")
    return prob / total[:, None]


def check_usage(usage: Any, cells: np.ndarray, *, where: str) -> Any:
    """Program usage (N, K), checked: finite and nonnegative, with a positive sum in every cell. It comes back as it was given.

    An array, a DataFrame or a `StoredRows`; it is gone through a block of cells at a time.

    Raises
    ------
    InputError
        naming the key, the first bad cells and the mend.
    """
    usage = check_outcome(usage, cells, where=where)
    negative, empty = np.zeros(cells.size, bool), np.zeros(cells.size, bool)
    for rows in row_blocks(usage.shape):
        block = _numbers(usage, rows, where)
        negative[rows], empty[rows] = (block < 0).any(1), block.sum(1) <= 0
    if negative.any():
        raise InputError(f"{where} is negative in {first_rows(negative, cells)}. Give program usage, or transform='none' for other outcomes.")
    if empty.any():
        raise InputError(f"{where} is zero throughout in {first_rows(empty, cells)}. Drop those cells: a composition of nothing is undefined.")
    return usage


def check_outcome(values: Any, cells: np.ndarray, *, where: str) -> Any:
    """Any continuous outcome (N, K), checked: numbers, and finite. It comes back as it was given; see `check_usage`."""
    values = values if hasattr(values, "shape") else np.asarray(values)
    if len(values.shape) != 2 or values.shape[1] == 0:
        raise InputError(f"{where} has shape {values.shape}; it must be cells × programs.")
    if values.shape[0] != cells.size:
        raise InputError(f"{where} has {values.shape[0]:,} rows but the screen has {cells.size:,} cells.")
    bad = np.zeros(cells.size, bool)
    for rows in row_blocks(values.shape):
        bad[rows] = ~np.isfinite(_numbers(values, rows, where)).all(1)
    if bad.any():
        raise InputError(f"{where} is NaN or infinite in {first_rows(bad, cells)}. Drop those cells, or compute their values again.")
    return values


def all_rows(values: Any, *, where: str) -> np.ndarray:
    """The whole of an array, a DataFrame or a `StoredRows`, as float64."""
    return _numbers(values, slice(0, values.shape[0]), where)


def _numbers(values: Any, rows: slice, where: str) -> np.ndarray:
    try:
        return np.asarray(take(values, rows), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is not numeric: {error}. Give one number for each cell and program.") from error


def clr_usage(usage: Any, *, eps_quantile: float = 1e-4, where: str = "usage", out: np.ndarray | None = None) -> np.ndarray:
    """Centred log-ratios of program usage, (N, K), written to `out` if it is given.

    Rows are divided by their sums (usages in percent, whose rows sum to 100, are said), floored at the `eps_quantile` quantile of the *positive* entries,
    divided by their sums again, and clr_k = log u_k − mean_j log u_j. Consensus NMF leaves exact zeros; a quantile over all entries would then be 0 and
    the logarithm −∞. Usage is gone through a block of cells at a time, in float64, whatever the type of `out`.

    Source: Aitchison 1986, "The statistical analysis of compositional data", for the centred log-ratio.
    """
    if not 0 <= eps_quantile < 1:
        raise InputError(f"eps_quantile is {eps_quantile}; it must be in [0, 1).")
    if usage.shape[1] < 2:
        raise InputError(f"{where} has one program; a centred log-ratio needs two or more (transform='none' takes the outcome as it is).")
    total, least = np.empty((usage.shape[0], 1)), SmallestPositive(eps_quantile, usage.shape[0] * usage.shape[1])
    for rows in row_blocks(usage.shape):
        block = _numbers(usage, rows, where)
        total[rows] = block.sum(1, keepdims=True)
        least.add(block / total[rows])
    if abs(float(np.median(total)) - 100) < 1:
        warn(f"{where}: rows sum to 100, so usages are in percent; they were divided by their sums.")
    elif (np.abs(total - 1) > SUM_ROUNDED).any():
        warn(f"{where}: rows do not sum to 1 (they sum to {total.min():.4g} to {total.max():.4g}); they were divided by their sums.")
    floor = max(least.quantile(), np.finfo(np.float64).tiny)
    out = np.empty(usage.shape) if out is None else out
    for rows in row_blocks(usage.shape):
        share = _numbers(usage, rows, where) / total[rows]
        np.maximum(share, floor, out=share)
        share /= share.sum(1, keepdims=True)
        np.log(share, out=share)
        share -= share.mean(1, keepdims=True)
        out[rows] = share
    return out


class SmallestPositive:
    """A low quantile of the positive entries of many blocks, to the bit that of `np.quantile` over them all, holding only the smallest."""

    def __init__(self, q: float, most: int):
        """The quantile `q` of at most `most` entries."""
        self._q, self._kept, self._n = q, np.empty(0), 0
        self._room = min(most, int(q * most) + 2)

    def add(self, values: np.ndarray) -> None:
        """Take in the positive entries of a block."""
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
        """The quantile of what was taken in, interpolated linearly between neighbours."""
        at = (self._n - 1) * self._q
        below = int(at)
        a, b = self._kept[below], self._kept[min(below + 1, self._n - 1)]
        part = at - below
        return float(b - (b - a) * (1 - part) if part >= 0.5 else a + (b - a) * part)
