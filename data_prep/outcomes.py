"""Fate probabilities and program usage, checked."""

import numpy as np

from data_prep.errors import InputError, first_few, first_rows, warn

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
