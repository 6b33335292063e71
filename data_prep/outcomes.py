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


def check_usage(usage: np.ndarray, cells: np.ndarray, *, where: str) -> np.ndarray:
    """Program usage as float64 (N, K): finite and nonnegative, with a positive sum in every cell.

    Raises
    ------
    InputError
        naming the key, the first bad cells and the mend.
    """
    usage = check_outcome(usage, cells, where=where)
    negative = np.asarray((usage < 0).any(1))
    if negative.any():
        raise InputError(f"{where} is negative in {first_rows(negative, cells)}. Give program usage, or transform='none' for other outcomes.")
    total = usage.sum(1)
    if (total <= 0).any():
        raise InputError(f"{where} is zero throughout in {first_rows(total <= 0, cells)}. Drop those cells: a composition of nothing is undefined.")
    return usage


def check_outcome(values: np.ndarray, cells: np.ndarray, *, where: str) -> np.ndarray:
    """Any continuous outcome as float64 (N, K), finite."""
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is not numeric: {error}. Give one number for each cell and program.") from error
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"{where} has shape {values.shape}; it must be cells × programs.")
    if len(values) != cells.size:
        raise InputError(f"{where} has {len(values):,} rows but the screen has {cells.size:,} cells.")
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise InputError(f"{where} is NaN or infinite in {first_rows(bad, cells)}. Drop those cells, or compute their values again.")
    return values


def clr_usage(usage: np.ndarray, *, eps_quantile: float = 1e-4, where: str = "usage") -> np.ndarray:
    """Centred log-ratios of program usage, (N, K).

    Rows are divided by their sums (usages in percent, whose rows sum to 100, are said), floored at the `eps_quantile` quantile of the *positive* entries,
    divided by their sums again, and clr_k = log u_k − mean_j log u_j. Consensus NMF leaves exact zeros; a quantile over all entries would then be 0 and
    the logarithm −∞.

    Source: Aitchison 1986, "The statistical analysis of compositional data", for the centred log-ratio.
    """
    if not 0 <= eps_quantile < 1:
        raise InputError(f"eps_quantile is {eps_quantile}; it must be in [0, 1).")
    if usage.shape[1] < 2:
        raise InputError(f"{where} has one program; a centred log-ratio needs two or more (transform='none' takes the outcome as it is).")
    total = usage.sum(1, keepdims=True)
    if abs(float(np.median(total)) - 100) < 1:
        warn(f"{where}: rows sum to 100, so usages are in percent; they were divided by their sums.")
    elif (np.abs(total - 1) > SUM_ROUNDED).any():
        warn(f"{where}: rows do not sum to 1 (they sum to {total.min():.4g} to {total.max():.4g}); they were divided by their sums.")
    share = usage / total
    floor = max(float(np.quantile(share[share > 0], eps_quantile)), np.finfo(np.float64).tiny)
    np.maximum(share, floor, out=share)
    share /= share.sum(1, keepdims=True)
    np.log(share, out=share)
    share -= share.mean(1, keepdims=True)
    return share
