"""`gene_daywise_for_mash.csv` against a simulation's truth."""

import numpy as np
import pandas as pd
from scipy.stats import norm

from data_prep.errors import InputError, first_few

Z_CALL = 1.96


def score_daywise(table: pd.DataFrame, truth: pd.DataFrame, *, fate: str, level: float = 0.9, z_call: float = Z_CALL) -> pd.DataFrame:
    """Score a table of effects against a simulation's truth.

    Parameters
    ----------
    table
        gene, betahat_d0 …, se_d0 …, as `DaywiseEffects.gene_table` gives them.
    truth
        gene, fate, day, theta; its days, in order, are the table's.
    fate
        Which fate of the truth the table is of.
    level
        Nominal coverage of the intervals betahat ± z·se.
    z_call
        A gene-day is called where `|betahat/se|` is above it, against θ ≠ 0.

    Returns
    -------
    pandas.DataFrame
        One row for each day and one, `all`, for all of them: tp, fp, fn, tn, rmse, correlation, coverage, null_coverage (where θ = 0),
        mean_offset (mean of betahat − θ).

    Raises
    ------
    InputError
        Where a column, the fate, a day or a gene is missing.

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
