"""`gene_daywise_for_mash.csv` against a simulation's truth."""

import numpy as np
import pandas as pd
from scipy.stats import norm

from data_prep.errors import InputError, first_few

Z_CALL = 1.96


def score_daywise(table: pd.DataFrame, truth: pd.DataFrame, *, fate: str, level: float = 0.9, z_call: float = Z_CALL) -> pd.DataFrame:
    """Per day: calls at |betahat/se| > `z_call` against θ ≠ 0, errors, and the coverage of intervals.

    Parameters
    ----------
    table : gene, betahat_d0.., se_d0.. as written by a fit
    truth : gene, fate, day, theta; its days, in order, are the table's
    fate : which fate of the truth the table is of

    Returns
    -------
    one row for each day and one, `all`, for all of them: tp, fp, fn, tn, rmse, correlation, coverage (of nominal `level` intervals),
    null_coverage (where θ = 0), mean_offset (mean of betahat − θ)
    """
    for said, found, needed in (("table", table, {"gene"}), ("truth", truth, {"gene", "fate", "day", "theta"})):
        if lost := sorted(needed - set(found.columns)):
            raise InputError(f"the {said} has no column {', '.join(lost)}; it has: {first_few(found.columns, 20)}. Are table and truth the right way round?")
    if fate not in set(truth["fate"]):
        raise InputError(f"the truth has no fate {fate!r}; it has {first_few(sorted(set(truth['fate'])))} (--contrast-fate).")
    wide = truth[truth["fate"] == fate].pivot(index="gene", columns="day", values="theta")
    wide = wide[list(dict.fromkeys(truth["day"]))]
    days = [c.removeprefix("betahat_") for c in table.columns if c.startswith("betahat_")]
    if len(days) != wide.shape[1]:
        raise InputError(f"the table has {len(days)} days but the truth has {wide.shape[1]} ({first_few(wide.columns)}). Score a table with its own truth.")
    unknown = sorted(set(table["gene"]) - set(wide.index))
    if unknown:
        raise InputError(f"{len(unknown)} genes of the table are not in the truth: {first_few(unknown)}. Score a table with its own truth.")
    theta = wide.loc[table["gene"]].to_numpy()
    betahat, se = (table[[f"{name}_{d}" for d in days]].to_numpy() for name in ("betahat", "se"))
    rows = [_row(d, betahat[:, i], se[:, i], theta[:, i], level, z_call) for i, d in enumerate(days)]
    return pd.DataFrame([*rows, _row("all", betahat.ravel(), se.ravel(), theta.ravel(), level, z_call)])


def _row(day: str, betahat: np.ndarray, se: np.ndarray, theta: np.ndarray, level: float, z_call: float) -> dict[str, object]:
    called, active = np.abs(betahat / se) > z_call, theta != 0
    inside = np.abs(betahat - theta) <= norm.ppf(0.5 + level / 2) * se
    varied = theta.std() > 0 and betahat.std() > 0
    return {
        "day": day,
        "tp": int((called & active).sum()),
        "fp": int((called & ~active).sum()),
        "fn": int((~called & active).sum()),
        "tn": int((~called & ~active).sum()),
        "rmse": float(np.sqrt(np.mean((betahat - theta) ** 2))),
        "correlation": float(np.corrcoef(betahat, theta)[0, 1]) if varied else float("nan"),
        "coverage": float(inside.mean()),
        "null_coverage": float(inside[~active].mean()) if (~active).any() else float("nan"),
        "mean_offset": float(np.mean(betahat - theta)),
    }
