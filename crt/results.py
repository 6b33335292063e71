"""What a run returns: tables of p-values and coefficients, and how they are kept in an AnnData."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd

from crt.engine import UnitResult, UnitSettings
from crt.pvalues import adjust
from crt.resume import settings_record
from data_prep.errors import InputError, warn

TABLE_COLUMNS = ("target", "program", "beta", "z", "p_raw", "p_skew", "p_adj", "n_treated", "reason", "log10_p")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CRTResult:
    """Results of a run, by attribute or by `result["pvals_df"]`.

    Attributes
    ----------
    pvals_df
        p-values, genes × programs: the skew-normal ones if the run calibrated, else the empirical ones.
    betas_df
        Coefficients, genes × programs.
    treated_df
        One row a gene: n_treated, n_control, reason, and what became of its propensity and its resamples.
    table
        One row a test: target, program, beta, z, p_raw, p_skew, p_adj, n_treated, reason, log10_p. Undefined tests have NaN and a reason, and are
        left out of p_adj.
    pvals_raw_df
        Empirical p-values, genes × programs, on request, else None.
    pvals_skew_df
        Skew-normal p-values, genes × programs, on request, else None.
    skew_params
        xi, omega, alpha (on the scale of beta) and fallback for each test, on request, else None.
    settings
        Of the run, as plain values.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> from crt import run_all_genes_union_crt
    >>> result = run_all_genes_union_crt(inputs, B=255)
    >>> result.table.sort_values("p_raw").head(2)[["target", "program", "p_raw", "n_treated"]].round(3)
       target    program  p_raw  n_treated
    18  GENE4  program_2  0.004        497
    19  GENE4  program_3  0.004        497
    >>> result.treated_df["n_treated"].head(2).to_dict()
    {'GENE0': 533, 'GENE1': 545}
    """

    pvals_df: pd.DataFrame
    betas_df: pd.DataFrame
    treated_df: pd.DataFrame
    table: pd.DataFrame
    pvals_raw_df: pd.DataFrame | None
    pvals_skew_df: pd.DataFrame | None
    skew_params: pd.DataFrame | None
    settings: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """A part by name."""
        if name not in self.__dataclass_fields__:
            raise KeyError(f"{name!r}; a result has: {', '.join(self.__dataclass_fields__)}")
        return getattr(self, name)


def collect(
    units: Sequence[UnitResult],
    programs: Sequence[str],
    settings: UnitSettings,
    *,
    calibrated: bool,
    adjust_method: Literal["bh", "by"] = "bh",
    with_raw: bool = False,
    with_skew: bool = False,
) -> CRTResult:
    """Tables of unit results, in their order."""
    names = pd.Index([u.name for u in units], name="target", dtype=object)
    columns = pd.Index(list(programs), name="program").astype(object)

    def stack(attribute: str) -> np.ndarray:
        return np.array([getattr(u, attribute) for u in units]).reshape(len(units), len(columns))

    raw, skew = stack("p_raw"), stack("p_skew")
    p = skew if calibrated else raw
    test = pd.MultiIndex.from_product([names, columns])
    n = len(columns)
    table = pd.DataFrame(
        {
            "target": np.repeat(names.to_numpy(), n),
            "program": np.tile(columns.to_numpy(), len(units)),
            "beta": stack("beta").ravel(),
            "z": stack("z").ravel(),
            "p_raw": raw.ravel(),
            "p_skew": skew.ravel(),
            "p_adj": adjust(p, method=adjust_method).ravel(),
            "n_treated": np.repeat([u.n_treated for u in units], n),
            "reason": np.repeat(np.array([u.reason for u in units], dtype=object), n),
            "log10_p": stack("log10_p").ravel(),
        }
    )
    per_unit = ("n_treated", "n_control", "reason", "n_resamples", "n_stages", "n_undefined", "propensity_min", "propensity_mean", "propensity_max")
    treated = pd.DataFrame({name: [getattr(u, name) for u in units] for name in (*per_unit, "propensity_converged", "propensity_separated")}, index=names)
    treated["n_skew_fallback"] = [int(u.fallback.sum()) for u in units]
    params = pd.DataFrame({name: stack(name).ravel() for name in ("xi", "omega", "alpha", "fallback")}, index=test).reset_index()
    return CRTResult(
        pvals_df=pd.DataFrame(p, names, columns),
        betas_df=pd.DataFrame(stack("beta"), names, columns),
        treated_df=treated,
        table=table,
        pvals_raw_df=pd.DataFrame(raw, names, columns) if with_raw else None,
        pvals_skew_df=pd.DataFrame(skew, names, columns) if with_skew else None,
        skew_params=params if with_skew else None,
        settings={**settings_record(settings), "calibrated": calibrated, "adjust_method": adjust_method},
    )


def strongest_first(table: pd.DataFrame) -> pd.DataFrame:
    """The tests by p, those of equal p (at the floor of the resamples there are many) by |z|; undefined ones last."""
    p, z = table["log10_p"].to_numpy(float), np.abs(table["z"].to_numpy(float))
    return table.iloc[np.lexsort((-np.nan_to_num(z), np.where(np.isfinite(p), p, np.inf)))]


def store_results_in_adata(adata: ad.AnnData, result: CRTResult, *, key: str = "crt") -> None:
    """Put the tables of a result into `adata.uns[key]`, in a form that survives `write_h5ad` and `read_h5ad`.

    A "/" in a program's name would split it into folders of the file, so the columns of stored matrices have "|" instead, with a warning; `table` keeps
    the names as they are.

    Parameters
    ----------
    adata
        It is changed.
    result
        Of `run_all_genes_union_crt`.
    key
        In `uns`.

    Raises
    ------
    InputError
        Where the key is empty or has a "/".

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt, store_results_in_adata
    >>> adata = make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1)
    >>> store_results_in_adata(adata, run_all_genes_union_crt(prepare_crt_inputs(adata), B=255))
    >>> sorted(adata.uns["crt"])
    ['betas_df', 'pvals_df', 'settings', 'table', 'treated_df']
    """
    if not key or "/" in key:
        raise InputError(f"the key is {key!r}; give a name without '/'.")
    tables = ("pvals_df", "betas_df", "treated_df", "table", "pvals_raw_df", "pvals_skew_df", "skew_params")
    held: dict[str, Any] = {}
    renamed = False
    for name in tables:
        frame = result[name]
        if frame is None:
            continue
        frame = frame.copy()
        frame.columns = pd.Index([str(c).replace("/", "|") for c in frame.columns], dtype=object)
        renamed |= any("/" in str(c) for c in result[name].columns)
        frame.index = frame.index.astype(str)
        frame.index.name = None
        held[name] = frame
    if renamed:
        warn(f"uns[{key!r}]: '/' in program names was stored as '|' in the columns of the matrices.")
    held["settings"] = {k: str(v) if isinstance(v, (dict, list, tuple)) or v is None else v for k, v in result.settings.items()}
    adata.uns[key] = held
