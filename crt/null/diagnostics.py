"""Diagnosis of the null distribution: tests of genes and NTC groups, their diagnostics, a rerun with constant propensity, a summary and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import kstest, skewnorm

from crt.engine import UnitResult, all_units
from crt.inputs import CRTInputs
from crt.null.dependence import Dependence, outcome_correlations, treatment_correlations
from crt.null.ensemble import ntc_group_results, pvalue_table
from crt.null.groups import Groups, largest_group, make_ntc_groups_ensemble, matched_size, median_guides
from crt.null.rates import independent_tests, rate_interval
from crt.null.subsets import control_subsets
from crt.null.units import MeasuredUnit, UnitProbe
from crt.null.verdict import NullTests, Thresholds, Verdict, judge
from crt.pvalues import signed_z
from crt.resume import settings_record
from crt.run import warn_of_few_values
from crt.sampling.streams import unit_seed
from crt.settings import UnitSettings
from crt.signatures import shared_options
from data_prep.errors import InputError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullDiagnostics:
    """The result of `diagnose_null`.

    Attributes
    ----------
    units
        One row per unit, genes and NTC groups, with the columns of `diagnostics_units.csv`.
    real_raw
        p-values of the genes by the method of the run, empirical or of the saddlepoint, genes × programs.
    real_skew
        Skew-normal p-values of the genes, genes × programs; NaN without resamples.
    ntc_raw
        p-values of the NTC groups by that method, (ensemble, group) × programs.
    ntc_skew
        Skew-normal p-values of the NTC groups, (ensemble, group) × programs; NaN without resamples.
    ntc_z
        z scores of the NTC groups: standard normal values with their p-values and the signs of their effects, (ensemble, group) × programs.
    oracle_raw
        p-values of the NTC groups by that method with a constant propensity, the treated share, (ensemble, group) × programs.
    checks
        A random sample of NTC tests, with p_raw, p_skew and the moments of the fitted null distribution; empty without resamples.
    summary
        Summary as plain values, including the verdict; the content of `diagnostics_summary.json`.
    verdict
        Whether the null distribution is calibrated, off, or cannot be judged, and the causes that the numbers support.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=2000, K=12, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.5, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> found = diagnose_null(inputs, UnitSettings(n_resamples=255), n_ensemble=4)
    >>> found.real_raw.shape, found.ntc_raw.shape, found.verdict.outcome
    ((20, 12), (80, 12), 'calibrated')
    """

    units: pd.DataFrame
    real_raw: pd.DataFrame
    real_skew: pd.DataFrame
    ntc_raw: pd.DataFrame
    ntc_skew: pd.DataFrame
    ntc_z: pd.DataFrame
    oracle_raw: pd.DataFrame
    checks: pd.DataFrame
    summary: Mapping[str, Any]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class NullPlan:
    """What a diagnosis tests besides the genes.

    Attributes
    ----------
    group_size
        Number of guides per NTC group; None for the genes' median number of guides, or, with fewer NTC guides, the maximum number that leaves controls.
    n_ensemble
        Number of random partitions of the NTC guides.
    max_groups
        Maximum number of groups per partition; None for as many as the guides allow.
    program
        Index of the program whose null distribution the table of units describes.
    n_checks
        Number of NTC tests in `checks`.
    """

    group_size: int | None = None
    n_ensemble: int = 10
    max_groups: int | None = None
    program: int = 0
    n_checks: int = 12


class PlanOptions(TypedDict, total=False):
    """The options of `diagnose_null` that make a `NullPlan`."""

    group_size: int | None
    n_ensemble: int
    max_groups: int | None
    program: int
    n_checks: int


@shared_options(PlanOptions, NullPlan)
def diagnose_null(
    inputs: CRTInputs,
    settings: UnitSettings | None = None,
    *,
    genes: Sequence[str] | None = None,
    n_jobs: int = 1,
    thresholds: Thresholds | None = None,
    progress: bool = False,
    **plan: Unpack[PlanOptions],
) -> NullDiagnostics:
    """Test genes and NTC groups, test the groups again with a constant propensity, and decide whether the null distribution is calibrated.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    settings
        Settings of the tests, by default those of `UnitSettings`. Skew-normal p-values are computed wherever there are resamples. The seed also determines
        groups and checks.
    genes
        Genes to test; all by default.
    n_jobs
        Number of worker threads. Results do not depend on it.
    thresholds
        Thresholds of the verdict, by default those of `Thresholds`.
    progress
        Whether to show progress bars (on a terminal).
    **plan
        Those of `NullPlan`.

    Returns
    -------
    NullDiagnostics
        Tables, summary and verdict; `write_diagnostics` writes them to files.

    Raises
    ------
    InputError
        Where the program does not exist, or there are fewer NTC guides than one group, with controls, needs.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=2000, K=12, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.5, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> found = diagnose_null(inputs, UnitSettings(method="saddlepoint"))
    >>> for line in found.verdict.lines():
    ...     print(line)
    no cause found (raw_rate_0.05 0.0433, raw_z_sd 0.998, oracle_rate_0.05 0.0425); minimum detectable rate at 0.05: 0.08
    verdict: calibrated
    """
    settings, chosen = settings or UnitSettings(), inputs.genes if genes is None else genes
    settings = replace(settings, skew_normal=settings.method == "resample")
    warn_of_few_values(inputs, settings)
    tests = _tests(inputs, settings, NullPlan(**plan), {gene: inputs.gene_to_cols[gene] for gene in chosen}, n_jobs=n_jobs, progress=progress)
    return _diagnosis(tests, inputs, settings, thresholds)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tests:
    """Everything that was tested: genes, NTC groups, and NTC groups with a constant propensity."""

    plan: NullPlan
    group_size: int
    seed_groups: int
    ensemble: Sequence[Groups]
    real: Sequence[MeasuredUnit]
    ntc: Sequence[MeasuredUnit]
    oracle: Sequence[UnitResult]


def _tests(inputs: CRTInputs, settings: UnitSettings, plan: NullPlan, genes: Groups, *, n_jobs: int, progress: bool) -> _Tests:
    if not 0 <= plan.program < len(inputs.program_names):
        raise InputError(f"program is {plan.program}; the screen has programs 0 to {len(inputs.program_names) - 1}.", "program")
    size = matched_size(inputs) if plan.group_size is None else plan.group_size
    seed0 = unit_seed(settings.seed, "ntc", purpose="groups") % 2**31
    ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=plan.n_ensemble, seed0=seed0, group_size=size, max_groups=plan.max_groups)
    if inputs.control_group == "ntc_cells" and size == inputs.ntc_cols.size:
        raise InputError(
            f"the screen has {size} NTC guides and a group takes all of them, so no NTC cells are left as controls. "
            + ("Choose a smaller group_size." if size > 1 else "Check which guides the map marks as NTC, or use control_group 'complement'."),
            "group_size" if size > 1 else "control_group",
        )
    probe = UnitProbe.of(inputs, settings, program=plan.program)
    constant = replace(settings, propensity_mode="oracle_const", skew_normal=False)
    bars = ("genes", "NTC groups", "NTC groups, constant propensity") if progress else ("", "", "")
    return _Tests(
        plan=plan,
        group_size=size,
        seed_groups=seed0,
        ensemble=ensemble,
        real=all_units(genes, inputs, settings, keep=probe, n_jobs=n_jobs, bar=bars[0]),
        ntc=ntc_group_results(inputs, ensemble, settings, group_size=size, keep=probe, n_jobs=n_jobs, bar=bars[1]),
        oracle=ntc_group_results(inputs, ensemble, constant, group_size=size, keep=lambda unit: unit.result, n_jobs=n_jobs, bar=bars[2]),
    )


def _diagnosis(tests: _Tests, inputs: CRTInputs, settings: UnitSettings, thresholds: Thresholds | None) -> NullDiagnostics:
    ensemble, plan = tests.ensemble, tests.plan
    raw, skew = (pvalue_table([u.result for u in tests.ntc], ensemble, inputs, which) for which in ("p", "p_skew"))
    oracle_raw = pvalue_table(tests.oracle, ensemble, inputs, "p")
    units = units_table(tests.real, tests.ntc, ensemble, inputs, settings)
    groups = _null_tests(units[units["unit_type"] == "ntc_group"], {"raw": raw, "skew": skew, "oracle": oracle_raw}, ensemble, inputs, settings)
    verdict = _verdict(groups, units, inputs, settings, thresholds)
    index, columns = pd.Index([u.result.name for u in tests.real], name="target", dtype=object), raw.columns
    real_raw, real_skew = (pd.DataFrame(np.array([getattr(u.result, which) for u in tests.real]), index, columns) for which in ("p", "p_skew"))
    curves = {"real_raw": real_raw, "real_skew": real_skew, "ntc_raw": raw, "ntc_skew": skew, "ntc_oracle_raw": oracle_raw}
    record = {
        "seed_base": settings.seed,
        "seed_groups": tests.seed_groups,
        "group_size": tests.group_size,
        "n_ensemble": plan.n_ensemble,
        "control_group": inputs.control_group,
        "program": inputs.program_names[plan.program],
        "settings": settings_record(settings),
    }
    return NullDiagnostics(
        units=units,
        real_raw=real_raw,
        real_skew=real_skew,
        ntc_raw=raw,
        ntc_skew=skew,
        ntc_z=_z_scores([u.result for u in tests.ntc], raw, settings),
        oracle_raw=oracle_raw,
        checks=skew_checks(tests.ntc, inputs, settings.seed, plan.n_checks),
        summary=record | summarise(units, curves, groups) | {"verdict": _verdict_record(verdict)},
        verdict=verdict,
    )


def _z_scores(groups: Sequence[UnitResult], like: pd.DataFrame, settings: UnitSettings) -> pd.DataFrame:
    log10_p, effect = np.array([u.log10_p for u in groups]), np.array([u.beta - u.null_mean for u in groups])
    return pd.DataFrame(signed_z(log10_p, effect, side=settings.side), like.index, like.columns)


def _null_tests(units: pd.DataFrame, curves: Mapping[str, pd.DataFrame], ensemble: Sequence[Groups], inputs: CRTInputs, settings: UnitSettings) -> NullTests:
    sets = [inputs.treated(columns) for groups in ensemble for columns in groups.values()]
    return NullTests(
        units=units,
        curves=curves,
        dependence=Dependence(units=treatment_correlations(sets, inputs, settings.sampler), programs=outcome_correlations(inputs, settings.statistic)),
        n_resamples=settings.n_resamples if settings.method == "resample" else None,
        two_sided=settings.side == "both",
    )


def _verdict(groups: NullTests, units: pd.DataFrame, inputs: CRTInputs, settings: UnitSettings, thresholds: Thresholds | None) -> Verdict:
    """The verdict; if it is inconclusive, random subsets of the control cells are tested as well."""
    decide = partial(
        judge,
        groups,
        gene_guides=median_guides(inputs),
        n_ntc_guides=inputs.ntc_cols.size,
        largest_size=largest_group(inputs),
        thresholds=thresholds,
    )
    verdict = decide()
    if verdict.outcome != "inconclusive":
        return verdict
    n_treated = int(units.loc[units["unit_type"] == "real_gene", "n_treated"].median())
    screen, subsets = control_subsets(inputs, n_treated=n_treated, seed=settings.seed)
    tested = all_units(subsets, screen, settings, keep=UnitProbe.of(screen, settings))
    curves = {name: pvalue_table([u.result for u in tested], [subsets], screen, which) for name, which in (("raw", "p"), ("skew", "p_skew"))}
    return decide(subsets=_null_tests(pd.DataFrame([u.row for u in tested]), curves, [subsets], screen, settings))


def units_table(
    real: Sequence[MeasuredUnit], ntc: Sequence[MeasuredUnit], ensemble: Sequence[Groups], inputs: CRTInputs, settings: UnitSettings
) -> pd.DataFrame:
    """The table of `diagnostics_units.csv`: genes, then NTC groups.

    Parameters
    ----------
    real
        Measured genes.
    ntc
        Measured NTC groups, partition by partition.
    ensemble
        Partitions of the NTC guides.
    inputs
        Screen.
    settings
        Settings of the tests.
    """
    groups = [(m, columns) for m, member in enumerate(ensemble) for columns in member.values()]
    rows = []
    for unit in real:
        name = unit.result.name
        head = {"unit_id": name, "unit_type": "real_gene", "ensemble": -1, "guide_count": len(inputs.gene_to_cols[name])}
        rows.append(head | {"seed_base": settings.seed} | unit.row)
    for unit, (member, columns) in zip(ntc, groups, strict=True):
        head = {"unit_id": unit.result.name, "unit_type": "ntc_group", "ensemble": member, "guide_count": len(columns)}
        rows.append(head | {"seed_base": settings.seed} | unit.row)
    return pd.DataFrame(rows)


def skew_checks(ntc: Sequence[MeasuredUnit], inputs: CRTInputs, seed: int, n: int) -> pd.DataFrame:
    """A random sample of NTC tests: p_raw and p_skew, which should be close, and the moments of the fitted distribution of p_skew.

    Parameters
    ----------
    ntc
        Measured NTC groups.
    inputs
        Screen.
    seed
        Random seed.
    n
        Number of tests.
    """
    rng = np.random.default_rng(unit_seed(seed, "checks", purpose="skew-normal checks"))
    defined = [u for u in ntc if np.isfinite(u.result.p_skew).any()]
    rows = []
    for i in rng.integers(0, max(1, len(defined)), n if defined else 0):
        r = defined[i].result
        k = int(rng.choice(np.flatnonzero(np.isfinite(r.p_skew))))
        mean, variance, skewness = skewnorm.stats(r.alpha[k], r.xi[k], r.omega[k], moments="mvs")
        rows.append(
            {
                "unit_id": r.name,
                "program": inputs.program_names[k],
                "p_raw": r.p_raw[k],
                "p_skew": r.p_skew[k],
                "z_obs": r.z[k],
                "null_mean": float(mean),
                "null_sd": float(np.sqrt(variance)),
                "null_skewness": float(skewness),
                "fallback": bool(r.fallback[k]),
            }
        )
    return pd.DataFrame(rows, columns=["unit_id", "program", "p_raw", "p_skew", "z_obs", "null_mean", "null_sd", "null_skewness", "fallback"])


def summarise(units: pd.DataFrame, curves: Mapping[str, pd.DataFrame], groups: NullTests) -> dict[str, Any]:
    """Counts, quantiles and fractions by type of unit; rates and Kolmogorov–Smirnov distance of each curve.

    Intervals of rates of NTC groups count independent tests; those of genes count genes as independent.
    """
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
    genes = replace(groups.dependence, units=np.eye(len(curves["real_raw"])))
    summaries = {}
    for name, p in curves.items():
        defined = np.isfinite(p.to_numpy())
        dependence = (genes if name.startswith("real") else groups.dependence).of(defined.any(1), defined.any(0))
        n_tests = independent_tests(dependence, two_sided=groups.two_sided) if defined.any() else {}
        summaries[name] = curve_summary(p.to_numpy()[defined], None if "skew" in name else groups.n_resamples, n_tests)
    return {"units": kinds, "curves": summaries}


def curve_summary(p: Float[np.ndarray, " tests"], n_resamples: int | None, n_tests: Mapping[float, float]) -> dict[str, Any]:
    """Kolmogorov–Smirnov distance from the uniform distribution, and the rate of small p-values with 95 % (Clopper–Pearson) intervals.

    Parameters
    ----------
    p
        Defined p-values.
    n_resamples
        Number of resamples. Empirical p-values, which are multiples of 1/(B + 1), are moved to the middle of their step for the distance. None for others.
    n_tests
        Number of independent tests for the interval of each level. The KS p-value is that of as many independent tests as there are p-values.
    """
    if p.size == 0:
        return {"tests": 0}
    test = kstest(p - (0.5 / (n_resamples + 1) if n_resamples else 0.0), "uniform")
    out: dict[str, Any] = {"tests": p.size, "ks_distance": _plain(test.statistic), "ks_p": _plain(test.pvalue)}
    for level, n in n_tests.items():
        rate = float((p <= level).mean())
        low, high = rate_interval(rate, n)
        out[f"p<={level:g}"] = {"rate": rate, "low": _plain(low), "high": _plain(high), "independent_tests": _plain(n)}
    return out


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    findings = [
        {"cause": f.cause, "title": f.title, "figures": {k: _plain(v) for k, v in f.figures.items()}, "next_step": f.next_step} for f in verdict.findings
    ]
    return {"outcome": verdict.outcome, "label": verdict.label, "findings": findings, "figures": {k: _plain(v) for k, v in verdict.figures.items()}}


def _share(hit: pd.DataFrame, p: pd.DataFrame) -> float | None:
    n = int(p.notna().to_numpy().sum())
    return int(hit.to_numpy().sum()) / n if n else None


def _plain(value: Any) -> float | None:
    """A JSON number with ten digits; None for NaN."""
    return float(f"{value:.10g}") if np.isfinite(value) else None
