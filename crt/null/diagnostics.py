"""Is the null right, and if not, why: genes and NTC groups with what is measured on them, an oracle rerun, a summary and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta, kstest

from crt.engine import UnitSettings, all_units, run_unit
from crt.inputs import CRTInputs
from crt.null.ensemble import ntc_group_results, pvalue_table
from crt.null.groups import Groups, make_ntc_groups_ensemble
from crt.null.units import MeasuredUnit, UnitProbe
from crt.null.verdict import Thresholds, Verdict, judge
from crt.resume import settings_record
from crt.sampling.streams import unit_seed
from data_prep.errors import InputError

LEVELS = (0.05, 0.01, 0.001)
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullDiagnostics:
    """What `diagnose_null` found.

    Attributes
    ----------
    units
        One row a unit, genes and NTC groups: the columns of `diagnostics_units.csv`.
    real_raw
        Empirical p-values of the genes, genes × programs.
    real_skew
        Skew-normal p-values of the genes, genes × programs.
    ntc_raw
        Empirical p-values of the NTC groups, (ensemble, group) × programs.
    ntc_skew
        Skew-normal p-values of the NTC groups, (ensemble, group) × programs.
    oracle_raw
        Empirical p-values of the NTC groups where the propensity is the treated share for every cell, (ensemble, group) × programs.
    checks
        A few NTC tests at random, with p_raw, p_skew and the moments of their null.
    summary
        Plain values, the verdict among them: what `diagnostics_summary.json` holds.
    verdict
        Which cause the figures support, if any.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> found = diagnose_null(inputs, UnitSettings(n_resamples=255), group_size=2, n_ensemble=2)
    >>> found.real_raw.shape, found.ntc_raw.shape, found.verdict.label
    ((20, 4), (16, 4), 'calibrated')
    """

    units: pd.DataFrame
    real_raw: pd.DataFrame
    real_skew: pd.DataFrame
    ntc_raw: pd.DataFrame
    ntc_skew: pd.DataFrame
    oracle_raw: pd.DataFrame
    checks: pd.DataFrame
    summary: Mapping[str, Any]
    verdict: Verdict


def diagnose_null(
    inputs: CRTInputs,
    settings: UnitSettings | None = None,
    *,
    genes: Sequence[str] | None = None,
    group_size: int = 6,
    n_ensemble: int = 10,
    max_groups: int | None = None,
    program: int = 0,
    n_checks: int = 12,
    n_jobs: int = 1,
    thresholds: Thresholds | None = None,
    progress: bool = False,
) -> NullDiagnostics:
    """Test genes and NTC groups, measure both, run the groups again with a constant propensity, and judge.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    settings
        Of the runs, by default those of `UnitSettings`; its seed is the one that grouping, resampling and checks derive theirs from. Skew-normal
        p-values are always made.
    genes
        Which; all by default.
    group_size
        Guides in an NTC group: the number of guides that genes have.
    n_ensemble
        Random partitions of the NTC guides.
    max_groups
        At most this many groups in a partition; None for as many as the guides make.
    program
        The one whose null the table of units describes.
    n_checks
        NTC tests in `checks`.
    n_jobs
        Worker threads; nothing depends on it.
    thresholds
        What the verdict depends on; by default those of `Thresholds`.
    progress
        Show bars (on a terminal).

    Returns
    -------
    NullDiagnostics
        Tables, summary and verdict; `write_diagnostics` writes them.

    Raises
    ------
    InputError
        Where the program is not there, or there are fewer NTC guides than one group needs.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> found = diagnose_null(inputs, UnitSettings(n_resamples=255), group_size=2, n_ensemble=2)
    >>> for line in found.verdict.lines():
    ...     print(line)
    no cause shows (raw_rate_0.05 0.0469, oracle_rate_0.05 0.0156, skew_tail_ratio 0.826); at 0.05 a rate of 0.21 or more would have been seen
    verdict: calibrated
    """
    if not 0 <= program < len(inputs.program_names):
        raise InputError(f"program is {program}; the screen has programs 0 to {len(inputs.program_names) - 1}.")
    settings = replace(settings or UnitSettings(), skew_normal=True)
    seed0 = unit_seed(settings.seed, "ntc", purpose="groups") % 2**31
    ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=n_ensemble, seed0=seed0, group_size=group_size, max_groups=max_groups)
    probe = UnitProbe.of(inputs, program=program)
    names = list(inputs.genes if genes is None else genes)
    bars = ("genes", "NTC groups", "NTC groups, constant propensity") if progress else ("", "", "")
    real = all_units(probe, names, lambda g: inputs.treated(inputs.gene_to_cols[g]), inputs, settings, n_jobs=n_jobs, bar=bars[0])
    ntc = ntc_group_results(probe, inputs, ensemble, settings, group_size=group_size, n_jobs=n_jobs, bar=bars[1])
    constant = replace(settings, propensity_mode="oracle_const", skew_normal=False)
    oracle = ntc_group_results(run_unit, inputs, ensemble, constant, group_size=group_size, n_jobs=n_jobs, bar=bars[2])
    raw, skew = (pvalue_table([u.result for u in ntc], ensemble, inputs, which) for which in ("p_raw", "p_skew"))
    oracle_raw = pvalue_table(oracle, ensemble, inputs, "p_raw")
    units = units_table(real, ntc, ensemble, inputs, settings)
    verdict = judge(units, raw, skew, oracle_raw, n_resamples=settings.n_resamples, n_ntc_guides=inputs.ntc_cols.size, thresholds=thresholds)
    index, columns = pd.Index(names, name="target", dtype=object), raw.columns
    real_raw, real_skew = (pd.DataFrame(np.array([getattr(u.result, which) for u in real]), index, columns) for which in ("p_raw", "p_skew"))
    curves = {"real_raw": real_raw, "real_skew": real_skew, "ntc_raw": raw, "ntc_skew": skew, "ntc_oracle_raw": oracle_raw}
    record = _record(inputs, settings, seed0, group_size=group_size, n_ensemble=n_ensemble, program=program)
    return NullDiagnostics(
        units=units,
        real_raw=real_raw,
        real_skew=real_skew,
        ntc_raw=raw,
        ntc_skew=skew,
        oracle_raw=oracle_raw,
        checks=skew_checks(ntc, inputs, settings.seed, n_checks),
        summary=record | summarise(units, curves, settings.n_resamples) | {"verdict": _verdict_record(verdict)},
        verdict=verdict,
    )


def units_table(
    real: Sequence[MeasuredUnit], ntc: Sequence[MeasuredUnit], ensemble: Sequence[Groups], inputs: CRTInputs, settings: UnitSettings
) -> pd.DataFrame:
    """`diagnostics_units.csv`: genes, then NTC groups."""
    groups = [(m, columns) for m, member in enumerate(ensemble) for columns in member.values()]
    rows = []
    for unit in real:
        head = {"unit_id": unit.name, "unit_type": "real_gene", "ensemble": -1, "guide_count": len(inputs.gene_to_cols[unit.name])}
        rows.append(head | {"seed_base": settings.seed} | unit.row)
    for unit, (member, columns) in zip(ntc, groups, strict=True):
        rows.append({"unit_id": unit.name, "unit_type": "ntc_group", "ensemble": member, "guide_count": len(columns), "seed_base": settings.seed} | unit.row)
    return pd.DataFrame(rows)


def skew_checks(ntc: Sequence[MeasuredUnit], inputs: CRTInputs, seed: int, n: int) -> pd.DataFrame:
    """A few NTC tests drawn at random: p_raw and p_skew, which should be close, and the moments of the law that p_skew comes from."""
    rng = np.random.default_rng(unit_seed(seed, "checks", purpose="skew-normal checks"))
    defined = [u for u in ntc if np.isfinite(u.result.p_skew).any()]
    rows = []
    for i in rng.integers(0, max(1, len(defined)), n if defined else 0):
        r = defined[i].result
        k = int(rng.choice(np.flatnonzero(np.isfinite(r.p_skew))))
        delta = r.alpha[k] / np.sqrt(1 + r.alpha[k] ** 2) * np.sqrt(2 / np.pi)
        sd = r.omega[k] * np.sqrt(1 - delta**2)
        rows.append(
            {
                "unit_id": r.name,
                "program": inputs.program_names[k],
                "p_raw": r.p_raw[k],
                "p_skew": r.p_skew[k],
                "z_obs": r.z[k],
                "null_mean": r.xi[k] + r.omega[k] * delta,
                "null_sd": sd,
                "null_skewness": (4 - np.pi) / 2 * delta**3 / (1 - delta**2) ** 1.5,
                "fallback": bool(r.fallback[k]),
            }
        )
    return pd.DataFrame(rows, columns=["unit_id", "program", "p_raw", "p_skew", "z_obs", "null_mean", "null_sd", "null_skewness", "fallback"])


def summarise(units: pd.DataFrame, curves: Mapping[str, pd.DataFrame], n_resamples: int) -> dict[str, Any]:
    """Counts, quantiles and fractions by type of unit; rates and KS distance of each curve."""
    kinds = {}
    for kind, rows in units.groupby("unit_type", sort=False):
        quantiles = {name: {f"{q:g}": _plain(rows[name].dropna().quantile(q)) for q in QUANTILES} for name in ("x_mean", "n_treated", "p_hat_mean")}
        short = "real" if kind == "real_gene" else "ntc"
        kinds[str(kind)] = {
            "count": len(rows),
            "quantiles": quantiles,
            "den_is_bad_fraction": _plain(rows["den_is_bad"].mean()),
            "beta_obs_nan_fraction": _plain(rows["beta_obs_nan"].mean()),
            "separation_fraction": _plain(rows["propensity_separation_flag"].mean()),
            "p_raw_equal_1_fraction": _share(curves[f"{short}_raw"] >= 1, curves[f"{short}_raw"]),
            "p_skew_equal_1_fraction": _share(curves[f"{short}_skew"] >= 1, curves[f"{short}_skew"]),
            "p_nan_fraction": _plain(curves[f"{short}_raw"].isna().to_numpy().mean()),
        }
    return {"units": kinds, "curves": {name: curve_summary(p.to_numpy().ravel(), None if "skew" in name else n_resamples) for name, p in curves.items()}}


def curve_summary(p: np.ndarray, n_resamples: int | None) -> dict[str, Any]:
    """KS distance from uniform, and the frequency of small p with exact binomial 95 % intervals.

    The intervals and the KS p take tests for independent, which those of one screen are not quite, and those of an ensemble less so.
    An empirical p, which lies on the grid 1/(B + 1), …, 1, is moved to the middle of its step first.
    """
    p = p[np.isfinite(p)]
    n = p.size
    if n == 0:
        return {"tests": 0}
    test = kstest(p - (0.5 / (n_resamples + 1) if n_resamples else 0.0), "uniform")
    out: dict[str, Any] = {"tests": n, "ks_distance": _plain(test.statistic), "ks_p": _plain(test.pvalue)}
    for level in LEVELS:
        hits = int((p <= level).sum())
        low = beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0
        high = beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1.0
        out[f"p<={level:g}"] = {"rate": hits / n, "low": _plain(low), "high": _plain(high)}
    return out


def _record(inputs: CRTInputs, settings: UnitSettings, seed0: int, *, group_size: int, n_ensemble: int, program: int) -> dict[str, Any]:
    """What the run was: seeds and settings."""
    return {
        "seed_base": settings.seed,
        "seed_groups": seed0,
        "group_size": group_size,
        "n_ensemble": n_ensemble,
        "control_group": inputs.control_group,
        "program": inputs.program_names[program],
        "settings": settings_record(settings),
    }


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    findings = [
        {"cause": f.cause, "title": f.title, "figures": {k: _plain(v) for k, v in f.figures.items()}, "next_step": f.next_step} for f in verdict.findings
    ]
    return {"label": verdict.label, "findings": findings, "figures": {k: _plain(v) for k, v in verdict.figures.items()}}


def _share(hit: pd.DataFrame, p: pd.DataFrame) -> float | None:
    n = int(p.notna().to_numpy().sum())
    return int(hit.to_numpy().sum()) / n if n else None


def _plain(value: Any) -> float | None:
    """A JSON number of ten digits; None for NaN."""
    return float(f"{value:.10g}") if np.isfinite(value) else None
