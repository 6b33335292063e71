"""Results of a run: tables of p-values and coefficients, and their storage in an AnnData."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd

from crt.engine import UnitResult
from crt.pvalues import adjust
from crt.resume import settings_record
from crt.settings import UnitSettings
from data_prep.errors import InputError, missing_key, warn

TABLE = "target program beta z p_raw p_skew p_adj n_treated reason log10_p se ci_low ci_high p method statistic n_control".split()
NORMAL_95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CRTResult:
    """Results of a run, as attributes or as `result["pvals_df"]`.

    Attributes
    ----------
    pvals_df
        p-values, genes × programs: those used for inference: skew-normal ones if the run was calibrated, else those of its method.
    betas_df
        Coefficients, genes × programs.
    treated_df
        One row per gene: n_treated, n_control, reason, and diagnostics of its propensity and its resamples; n_resampled counts the programs whose p-value is
        empirical, as the saddlepoint approximation is not accurate.
    table
        One row per test: target, program, beta, z, p_raw, p_skew, p_adj, n_treated, reason, log10_p, se, ci_low, ci_high, p, method, statistic, n_control.
        Undefined tests are NaN with a reason, and do not enter the adjustment. `p` is the p-value used for inference, which `p_adj` is computed from. `se` is
        the standard error of `beta`; the 95 % interval from `ci_low` to `ci_high` is that of the effect, `beta` minus the mean of its null distribution. All
        of them are in the outcome's units, whatever the statistic.
    pvals_raw_df
        Empirical p-values, genes × programs; None if not requested.
    pvals_skew_df
        Skew-normal p-values, genes × programs; None if not requested.
    skew_params
        Parameters xi, omega, alpha (on the scale of beta) and fallback of each test; None if not requested.
    settings
        Settings of the run, as plain values.

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
        """An attribute by name."""
        if name not in self.__dataclass_fields__:
            raise KeyError(f"{name!r}; a result has: {', '.join(self.__dataclass_fields__)}")
        return getattr(self, name)


def collect(
    units: Sequence[UnitResult],
    programs: Sequence[str],
    settings: UnitSettings,
    *,
    calibrated: bool,
    adjust_method: Literal["bh", "by"],
    with_raw: bool,
    with_skew: bool,
) -> CRTResult:
    """Tables of unit results, in the order of the units.

    Parameters
    ----------
    units
        Results of the units.
    programs
        Names of the programs.
    settings
        Settings of the test.
    calibrated
        Whether the skew-normal p-values are the ones used for inference.
    adjust_method
        "bh" or "by", see `adjust`.
    with_raw, with_skew
        Whether to return the matrix of empirical p-values; that of skew-normal p-values, with the parameters of the fits.
    """
    names = pd.Index([u.name for u in units], name="target", dtype=object)
    columns = pd.Index(list(programs), name="program").astype(object)

    def stack(attribute: str) -> np.ndarray:
        return np.array([getattr(u, attribute) for u in units]).reshape(len(units), len(columns))

    raw, skew = stack("p_raw"), stack("p_skew")
    p = skew if calibrated else stack("p")
    table = _tests(units, columns, names, p).assign(p_adj=adjust(p, method=adjust_method).ravel(), method=settings.method, statistic=settings.statistic)[TABLE]
    params = table[["target", "program"]].assign(**{name: stack(name).ravel() for name in ("xi", "omega", "alpha", "fallback")})
    return CRTResult(
        pvals_df=pd.DataFrame(p, names, columns),
        betas_df=pd.DataFrame(stack("beta"), names, columns),
        treated_df=_per_unit(units, names),
        table=table,
        pvals_raw_df=pd.DataFrame(raw, names, columns) if with_raw else None,
        pvals_skew_df=pd.DataFrame(skew, names, columns) if with_skew else None,
        skew_params=params if with_skew else None,
        settings={**settings_record(settings), "calibrated": calibrated, "adjust_method": adjust_method},
    )


def _tests(units: Sequence[UnitResult], programs: pd.Index, names: pd.Index, p: np.ndarray) -> pd.DataFrame:
    """One row per test, with the p-values used for inference."""
    n = len(programs)
    tests = {name: np.array([getattr(u, name) for u in units]).ravel() for name in ("beta", "z", "p_raw", "p_skew", "log10_p", "se", "null_mean")}
    of_units = {name: np.repeat(np.array([getattr(u, name) for u in units]), n) for name in ("n_treated", "n_control")}
    reason = np.repeat(np.array([u.reason for u in units], dtype=object), n)
    reason[np.isnan(p.ravel()) & (reason == "")] = "constant"  # the covariates determine the outcome
    table = pd.DataFrame({"target": np.repeat(names.to_numpy(), n), "program": np.tile(programs.to_numpy(), len(units)), **tests, **of_units, "reason": reason})
    effect, reach = table["beta"] - table["null_mean"], NORMAL_95 * table["se"]
    return table.assign(ci_low=effect - reach, ci_high=effect + reach, p=p.ravel())


def _per_unit(units: Sequence[UnitResult], names: pd.Index) -> pd.DataFrame:
    numbers = ("n_treated", "n_control", "reason", "n_resamples", "n_stages", "n_undefined", "propensity_min", "propensity_mean", "propensity_max")
    table = pd.DataFrame({name: [getattr(u, name) for u in units] for name in (*numbers, "propensity_converged", "propensity_separated")}, index=names)
    table["n_resampled"] = [u.n_resampled for u in units]
    table["n_skew_fallback"] = [int(u.fallback.sum()) for u in units]
    return table


def strongest_first(table: pd.DataFrame, *, most: int | None = None) -> pd.DataFrame:
    """The tests sorted by p-value, then by |z| (many empirical p-values are equal to 1/(B + 1)), undefined tests last; all, or the first `most`."""
    p, z = table["log10_p"].to_numpy(float), np.abs(table["z"].to_numpy(float))
    return table.iloc[np.lexsort((-np.nan_to_num(z), np.where(np.isfinite(p), p, np.inf)))[:most]]


def store_results_in_adata(adata: ad.AnnData, result: CRTResult, *, key: str = "crt") -> None:
    """Store the tables of a result in `adata.uns[key]`, in a form that `write_h5ad` and `read_h5ad` preserve.

    HDF5 reads a "/" in a name as a path, so it is stored as "|" in the columns of matrices, with a warning; `table` keeps the names of programs.

    Parameters
    ----------
    adata
        AnnData; it is modified.
    result
        Result of `run_all_genes_union_crt`.
    key
        Key in `uns`.

    Raises
    ------
    InputError
        Where the key is empty or contains "/".

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt, store_results_in_adata
    >>> adata = make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1)
    >>> store_results_in_adata(adata, run_all_genes_union_crt(prepare_crt_inputs(adata), B=255))
    >>> sorted(adata.uns["crt"])
    ['betas_df', 'pvals_df', 'settings', 'table', 'treated_df']
    """
    if not key or "/" in key:
        raise InputError(f"key is {key!r}. Give a name without '/'.", "key")
    tables = ("pvals_df", "betas_df", "treated_df", "table", "pvals_raw_df", "pvals_skew_df", "skew_params")
    stored: dict[str, Any] = {}
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
        stored[name] = frame
    if renamed:
        warn(f"uns[{key!r}]: '/' in program names is stored as '|' in the columns of the matrices.")
    stored["settings"] = {k: json.dumps(v) if isinstance(v, (dict, list, tuple)) or v is None else v for k, v in result.settings.items()}
    adata.uns[key] = stored


def read_results_from_adata(adata: ad.AnnData, *, key: str = "crt") -> CRTResult:
    """The result that `store_results_in_adata` has stored; an `InputError` if there is none.

    Parameters
    ----------
    adata
        AnnData.
    key
        Key in `uns`.

    Returns
    -------
    CRTResult
        The tables, and the settings as they were.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs, read_results_from_adata, run_all_genes_union_crt, store_results_in_adata
    >>> adata = make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1)
    >>> store_results_in_adata(adata, run_all_genes_union_crt(prepare_crt_inputs(adata), B=255))
    >>> read_results_from_adata(adata).pvals_df.shape
    (6, 4)
    """
    if key not in adata.uns:
        raise missing_key("uns", key, adata.uns, "Store a result there with store_results_in_adata.", "key")
    stored = adata.uns[key]
    if lost := [name for name in ("pvals_df", "betas_df", "treated_df", "table", "settings") if name not in stored]:
        raise InputError(f"uns[{key!r}] holds no result of a test: it lacks {', '.join(lost)}. Store one with store_results_in_adata.", "key")
    table = stored["table"].reset_index(drop=True)
    programs = pd.Index(table["program"].astype(str).unique(), dtype=object, name="program")
    found: dict[str, Any] = {name: stored.get(name) for name in ("pvals_df", "betas_df", "pvals_raw_df", "pvals_skew_df", "treated_df", "skew_params")}
    for name, frame in found.items():
        if frame is not None and name != "skew_params":
            found[name] = frame.set_axis(frame.index.astype(object).rename("target")).copy()
            if name != "treated_df":
                found[name].columns = programs
    return CRTResult(**found, table=table, settings={name: _plain_setting(value) for name, value in stored["settings"].items()})


def _plain_setting(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return json.loads(value) if isinstance(value, str) and (value[:1] in ("{", "[") or value == "null") else value
