"""Effects compared between days: the difference of any two days, and whether there is an effect on any day."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import chi2, false_discovery_control, norm

from data_prep.errors import InputError
from hierarchy.effects import DaywiseEffects
from hierarchy.mash.hits import contrast_covariance

ANY, COLUMNS = "any", ["gene", "contrast", "days", "betahat", "se", "statistic", "df", "p", "p_adj"]


def day_contrasts(effects: DaywiseEffects, contrasts: str | Sequence[str]) -> pd.DataFrame:
    """Tests of the likelihood-type estimates of each gene between days, from the covariance of their errors over days.

    "later-earlier" is the difference of two days, b_j − b_i over its standard error √(V_ii + V_jj − 2 V_ij), compared with the normal distribution. "any" is
    Wald's test of no effect on any day, b'V⁻¹b, compared with χ² with as many degrees of freedom as there are days with estimates.

    Parameters
    ----------
    effects
        Result of `summarise`.
    contrasts
        Contrast of fates, "A" (against the reference) or "A:B", or several of them.

    Returns
    -------
    pandas.DataFrame
        A row for each gene, contrast and comparison: gene, contrast, days, betahat, se, statistic (z, or χ² of "any"), df, p, and p_adj, adjusted over the
        genes (Benjamini and Hochberg). A comparison with a day without cells is NaN; "any" leaves such days out.

    Raises
    ------
    InputError
        If a contrast names an unknown fate, or none is given.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import day_contrasts, fit, summarise
    >>> table = day_contrasts(summarise(fit(build_fate_data(read_screen(adata), ref_fate="EC"))), "MES")
    >>> table[table["gene"] == "GENE6"].round(2)[["gene", "days", "betahat", "se", "df"]]
         gene   days  betahat    se  df
    6   GENE6  d1-d0    -0.41  0.03   1
    14  GENE6    any      NaN   NaN   2
    """
    listed = [contrasts] if isinstance(contrasts, str) else list(contrasts)
    if not listed:
        raise InputError("contrasts is empty. Name a contrast of fates, such as 'A' or 'A:B'.", "fate")
    return pd.concat([_of_contrast(effects, contrast) for contrast in listed], ignore_index=True)


def _of_contrast(effects: DaywiseEffects, contrast: str) -> pd.DataFrame:
    own = effects.of_genes(contrast)
    covariance = contrast_covariance(effects.theta_estimate_covariance, effects.contrast_weights(contrast)[None])
    names = {"gene": effects.genes, "contrast": f"{own.fate}:{own.against}"}
    tables = []
    for i, j in combinations(range(len(effects.days)), 2):
        difference = own.estimate[:, j] - own.estimate[:, i]
        variance = covariance[:, i, i] + covariance[:, j, j] - 2 * covariance[:, i, j]
        se = np.where(np.isfinite(difference) & (variance > 0), np.sqrt(variance.clip(0)), np.nan)
        z = difference / se
        tested = {"betahat": difference, "se": se, "statistic": z, "df": 1, "p": 2 * norm.sf(np.abs(z))}
        tables.append(pd.DataFrame({**names, "days": f"{effects.days[j]}-{effects.days[i]}", **tested}))
    statistic, df = _wald(own.estimate, covariance)
    tested = {"betahat": np.nan, "se": np.nan, "statistic": statistic, "df": df, "p": chi2.sf(statistic, np.maximum(df, 1))}
    tables.append(pd.DataFrame({**names, "days": ANY, **tested}))
    return pd.concat([table.assign(p_adj=_adjusted(table["p"].to_numpy())) for table in tables], ignore_index=True)[COLUMNS]


def _wald(estimate: Float[np.ndarray, "genes days"], covariance: Float[np.ndarray, "genes days days"]) -> tuple[np.ndarray, np.ndarray]:
    """b'V⁻¹b over the days with estimates, and their number; NaN where there is none or V is singular."""
    there = np.isfinite(estimate)
    b = np.where(there, estimate, 0.0)
    v = np.where(there[:, :, None] & there[:, None, :], np.nan_to_num(covariance), np.eye(estimate.shape[1]))
    definite = np.linalg.eigvalsh(v)[:, 0] > 0
    v[~definite] = np.eye(estimate.shape[1])
    statistic = np.einsum("gd,gd->g", b, np.linalg.solve(v, b[..., None])[..., 0])
    return np.where(definite & there.any(1), statistic, np.nan), there.sum(1)


def _adjusted(p: np.ndarray) -> np.ndarray:
    there = np.isfinite(p)
    out = np.full(p.shape, np.nan)
    if there.any():
        out[there] = false_discovery_control(p[there])
    return out
