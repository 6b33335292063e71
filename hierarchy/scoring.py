"""Scores of daywise effects, estimates or posterior means, against a simulation's truth."""

import numpy as np
import pandas as pd
from scipy.stats import norm

from data_prep.errors import InputError, first_few
from hierarchy.mash.hits import CALL_LFSR
from hierarchy.mash.patterns import PATTERNS, classify

Z_CALL = 1.96
SWAPPED = "table and truth are not swapped"


def score_daywise(table: pd.DataFrame, truth: pd.DataFrame, *, fate: str, level: float = 0.9, z_call: float = Z_CALL) -> pd.DataFrame:
    """Score a table of effects against a simulation's truth.

    Parameters
    ----------
    table
        Columns gene, betahat_d0 …, se_d0 …, as in `DaywiseEffects.gene_table`, or with lfsr_d0 … too, as in `gene_posterior_table`. Gene-days where both are
        missing are left out.
    truth
        Columns gene, fate, day, theta; its days, in order, are the table's.
    fate
        The fate that the table is about.
    level
        Nominal coverage of the intervals betahat ± z·se.
    z_call
        A gene-day is called an effect where `|betahat/se|` exceeds this number; the call is compared with θ ≠ 0.

    Returns
    -------
    pandas.DataFrame
        One row for each day and one, `all`, for all of them: estimates ("likelihood" or "posterior"), tp, fp, fn, tn, rmse, correlation, coverage,
        null_coverage (where θ = 0), active_coverage (where θ ≠ 0), mean_offset (mean of betahat − θ).

    Raises
    ------
    InputError
        If a column, the fate, a day or a gene is missing.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> from hierarchy import fit, score_daywise, summarise
    >>> simulated = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0)
    >>> effects = summarise(fit(build_fate_data(read_screen(simulated.adata), ref_fate="EC")))
    >>> score_daywise(effects.gene_table("MES"), simulated.truth, fate="MES")[["day", "tp", "fp", "fn", "tn"]]
       day  tp  fp  fn  tn
    0   d0   1   0   0   7
    1   d1   1   0   0   7
    2  all   2   0   0  14
    """
    days = _days(table)
    _check_columns(truth, "truth", {"gene", "fate", "day", "theta"})
    if fate not in set(truth["fate"]):
        raise InputError(f"the truth has no fate {fate!r}; it has {first_few(sorted(set(truth['fate']), key=str))}.", "fate")
    theta = _theta(table, truth, fate, days)
    betahat, se = _estimates(table, days)
    rows = [_row(d, betahat[:, i], se[:, i], theta[:, i], level, z_call) for i, d in enumerate(days)]
    scores = pd.DataFrame([*rows, _row("all", betahat.ravel(), se.ravel(), theta.ravel(), level, z_call)])
    scores.insert(1, "estimates", "posterior" if any(str(c).startswith("lfsr_") for c in table.columns) else "likelihood")
    return scores


def score_hits(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Compare hits with a simulation's truth: calls at lfsr < 0.05 on each day, and the patterns of the hits.

    Parameters
    ----------
    table
        Hits in one contrast, as in `Hits.table`.
    truth
        Columns gene, fate, day, theta; its days, in order, are the table's.

    Returns
    -------
    pandas.DataFrame
        One row for each day and one, `all`: contrast, day, called, right (the sign is that of θ), null (θ = 0), wrong_sign, missed (θ ≠ 0, not called),
        false_share (null or wrong sign, of the calls), rmse of the posterior means. In the row `all`, patterns_right is the share of the hits whose
        pattern is that of θ.

    Raises
    ------
    InputError
        If a column, a fate, a day or a gene is missing.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> from hierarchy import call_hits, fit, hit_estimates, score_hits
    >>> simulated = simulate_fate_screen(ScreenDesign(n_cells=8000, n_genes=40, n_days=3, effects="late"), seed=0)
    >>> hits = call_hits(hit_estimates(fit(build_fate_data(read_screen(simulated.adata), ref_fate="EC")), "MES"), covariances="canonical")
    >>> score_hits(hits.table, simulated.truth)[["day", "called", "right", "missed"]]
       day  called  right  missed
    0   d0       0      0       0
    1   d1       1      1       0
    2   d2       4      4       0
    3  all       5      5       0
    """
    _check_columns(table, "table of hits", {"gene", "contrast", "min_lfsr", "pattern"})
    _check_columns(truth, "truth", {"gene", "fate", "day", "theta"})
    days = [c.removeprefix("mean_") for c in map(str, table.columns) if c.startswith("mean_")]
    contrast = str(table["contrast"].iloc[0])
    fate, against = _fates_of(contrast, set(truth["fate"]))
    theta = np.zeros((len(table), len(days)))
    for sign, name in ((1, fate), (-1, against)):
        theta += 0.0 if name is None else sign * _theta(table, truth, name, days)
    mean, lfsr = (np.column_stack([_numbers(table, f"{name}_{d}", "table of hits", may_miss=True) for d in days]) for name in ("mean", "lfsr"))
    rows = [_hit_row(d, mean[:, i], lfsr[:, i], theta[:, i]) for i, d in enumerate(days)]
    hits = table["min_lfsr"].to_numpy() < CALL_LFSR
    known = np.array(PATTERNS, dtype=object)[classify(theta[hits][None])[0].argmax(1)]
    rows.append(_hit_row("all", mean.ravel(), lfsr.ravel(), theta.ravel()) | {"patterns_right": _mean(table["pattern"].to_numpy()[hits] == known)})
    scores = pd.DataFrame(rows)
    scores.insert(0, "contrast", contrast)
    return scores


def _fates_of(contrast: str, known: set[str]) -> tuple[str | None, str | None]:
    """The two fates of a contrast "A:B"; None for the reference, which the truth does not have."""
    pairs = [(contrast[:i], contrast[i + 1 :]) for i, letter in enumerate(contrast) if letter == ":"]
    found = [(a if a in known else None, b if b in known else None) for a, b in pairs if known & {a, b}]
    if not found:
        raise InputError(f"the truth has no fate of the contrast {contrast!r}; it has {first_few(sorted(known, key=str))}.", "truth")
    return max(found, key=lambda pair: len(pair) - pair.count(None))


def _theta(table: pd.DataFrame, truth: pd.DataFrame, fate: str, days: list[str]) -> np.ndarray:
    """θ of the table's genes in one fate, genes × days."""
    wide = _wide(truth, fate)
    if len(days) != wide.shape[1]:
        raise InputError(f"the table has {len(days)} days but the truth has {wide.shape[1]} ({first_few(wide.columns)}). Score a table with its own truth.")
    unknown = sorted(set(table["gene"]) - set(wide.index), key=str)
    if unknown:
        raise InputError(f"{len(unknown)} genes of the table are not in the truth: {first_few(unknown)}. Score a table with its own truth.")
    return wide.loc[table["gene"]].to_numpy()


def _hit_row(day: str, mean: np.ndarray, lfsr: np.ndarray, theta: np.ndarray) -> dict[str, object]:
    called, active = lfsr < CALL_LFSR, theta != 0
    right = called & active & (np.sign(mean) == np.sign(theta))
    seen = np.isfinite(mean)
    return {
        "day": day,
        "called": int(called.sum()),
        "right": int(right.sum()),
        "null": int((called & ~active).sum()),
        "wrong_sign": int((called & active & ~right).sum()),
        "missed": int((active & ~called).sum()),
        "false_share": _mean(~right[called]),
        "rmse": float(np.sqrt(_mean((mean[seen] - theta[seen]) ** 2))),
    }


def _estimates(table: pd.DataFrame, days: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and positive standard errors, genes × days; both NaN where missing."""
    betahat, se = (np.column_stack([_numbers(table, f"{name}_{d}", "table", may_miss=True) for d in days]) for name in ("betahat", "se"))
    if (half := np.isnan(betahat) != np.isnan(se)).any():
        row, column = np.argwhere(half)[0]
        raise InputError(f"the table has only one of betahat_{days[column]} and se_{days[column]} in row {row} ({table['gene'].iloc[row]}); give both or none.")
    if (se <= 0).any():
        row, column = np.argwhere(se <= 0)[0]
        raise InputError(f"the table's se_{days[column]} is {se[row, column]} in row {row} ({table['gene'].iloc[row]}); standard errors must be positive.")
    return betahat, se


def _check_columns(frame: pd.DataFrame, name: str, needed: set[str]) -> None:
    if missing := sorted(needed - set(frame.columns)):
        raise InputError(f"the {name} has no column {', '.join(missing)}; it has: {first_few(frame.columns, 20)}. Check that {SWAPPED}.")
    if frame.empty:
        raise InputError(f"the {name} has no rows.")


def _days(table: pd.DataFrame) -> list[str]:
    """Names of the table's days; its genes are unique."""
    _check_columns(table, "table", {"gene"})
    days = [c.removeprefix("betahat_") for c in map(str, table.columns) if c.startswith("betahat_")]
    if not days:
        raise InputError(f"the table has no column betahat_…; it has: {first_few(table.columns, 20)}. Check that {SWAPPED}.")
    _check_unique(table, ["gene"], "table")
    return days


def _wide(truth: pd.DataFrame, fate: str) -> pd.DataFrame:
    """θ of one fate, genes × days."""
    own = truth[truth["fate"] == fate]
    _check_unique(own, ["gene", "day"], "truth")
    own = own.assign(theta=_numbers(own, "theta", "truth"))
    wide = own.pivot(index="gene", columns="day", values="theta")[list(dict.fromkeys(own["day"]))]
    if (missing := wide.isna()).to_numpy().any():
        gene, day = (axis[i] for axis, i in zip((wide.index, wide.columns), np.argwhere(missing.to_numpy())[0], strict=True))
        raise InputError(f"the truth has no theta of gene {gene} on day {day}, fate {fate}. It must have one for each gene and day.")
    return wide


def _check_unique(table: pd.DataFrame, columns: list[str], name: str) -> None:
    if (blank := table[columns].isna().any(axis=1)).any():
        raise InputError(f"the {name} has no {' or '.join(columns)} in row {blank.idxmax()}.")
    if (repeated := table.duplicated(columns)).any():
        names = (" on ".join(map(str, row)) for row in table[repeated][columns].itertuples(index=False))
        raise InputError(f"the {name} has {first_few(names)} twice. Keep one row for each.")


def _numbers(table: pd.DataFrame, column: str, name: str, *, may_miss: bool = False) -> np.ndarray:
    """A column of finite numbers, some of which may be missing."""
    if list(table.columns).count(column) != 1:
        raise InputError(f"the {name} has {list(table.columns).count(column)} columns {column}; it must have one. It has: {first_few(table.columns, 20)}.")
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values) & ~(may_miss & table[column].isna().to_numpy())
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"the {name}'s {column} is {table[column].iloc[row]!r} in row {row} ({table['gene'].iloc[row]}); it must be a finite number.")
    return values


def _row(day: str, betahat: np.ndarray, se: np.ndarray, theta: np.ndarray, level: float, z_call: float) -> dict[str, object]:
    seen = ~np.isnan(betahat)
    betahat, se, theta = betahat[seen], se[seen], theta[seen]
    called, active = np.abs(betahat / se) > z_call, theta != 0
    inside = np.abs(betahat - theta) <= norm.ppf(0.5 + level / 2) * se
    varied = seen.any() and theta.std() > 0 and betahat.std() > 0
    return {
        "day": day,
        "tp": int((called & active).sum()),
        "fp": int((called & ~active).sum()),
        "fn": int((~called & active).sum()),
        "tn": int((~called & ~active).sum()),
        "rmse": float(np.sqrt(_mean((betahat - theta) ** 2))),
        "correlation": float(np.corrcoef(betahat, theta)[0, 1]) if varied else float("nan"),
        "coverage": _mean(inside),
        "null_coverage": _mean(inside[~active]),
        "active_coverage": _mean(inside[active]),
        "mean_offset": _mean(betahat - theta),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
