"""The verdict on a null distribution: which of the causes A–D of miscalibration the numbers support. All rules and thresholds are here.

C is checked first: p-values of groups that do not match the genes carry no information on the other causes. Then A; degenerate units do not enter the checks
of B and D. A null distribution that is off for none of these causes is "unexplained", not "calibrated".

Groups of one partition share no guides, but different partitions share all of them. So the standard error of a rate is based on the number of units in one
partition, and on the SD between units, as programs of a unit are correlated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

TITLES = {
    "A": "degenerate units",
    "B": "the propensity model does not fit NTC groups",
    "C": "NTC groups and genes differ in their number of guides",
    "D": "the skew-normal calibration is inaccurate",
    "unexplained": "the null distribution is off, for none of the causes A-D",
}
NEXT_STEPS: dict[str, tuple[str, tuple[str, ...]]] = {  # with the arguments that they name
    "A": (
        "Increase the number of cells per unit (merge or drop guides with few cells), and leave out batches in which all or no cells are treated. The units "
        "are marked in diagnostics_units.csv (reason, n_treated, null_nan_frac, den_share, saturated_share).",
        (),
    ),
    "B": (
        "Look at propensity_auc, p_hat_min, p_hat_max and misfit in diagnostics_units.csv. If a covariate that counts the unit's own guides separates the "
        "units, drop it. If one that guide assignment depends on does (a batch), keep it: few cells inform these tests. If the misfit is large, add a "
        "covariate on which guide assignment depends (the burden, by add_burden_covariate, a batch, a nonlinear term), or permute within strata of the "
        "burden: resampling_method stratified_perm, with burden_key.",
        ("resampling_method", "burden_key"),
    ),
    "C": ("Run again with group_size set to the number of guides per gene.", ("group_size",)),
    "D": (
        "Use the empirical p-values, with adaptive resampling for small ones; or transform the outcomes to lighter tails (CLR, logarithm) and test again.",
        ("adaptive",),
    ),
    "unexplained": (
        "Look for confounders that are not among the covariates (burden, batch, day), with QQ plots by program, and for effects of NTC guides.",
        (),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds of the verdict. Units are NTC groups; the causes A–D are those of `Verdict`.

    Attributes
    ----------
    size_ratio
        Minimum ratio of group size to the genes' median number of guides, or of its inverse, for C.
    degenerate_share
        Maximum share of degenerate units; above it, A.
    half
        Maximum share of degenerate units with which B and D are checked.
    ones_share
        Maximum share of tests with p = 1, beyond 3/(B + 1); above it, A.
    few_cells
        Minimum number of treated cells, and of control cells, of a unit that is not degenerate.
    nan_share
        Maximum share of undefined resamples of a unit that is not degenerate.
    den_share
        Minimum share of the variance of treatment that the covariates leave unexplained, for a unit that is not degenerate.
    saturated_share
        Minimum share of treated cells in batches where every cell is treated, for a degenerate unit.
    separated_share
        Maximum share of units that are separated, or whose propensity fit did not converge; above it, B.
    auc
        Minimum AUC of the propensity for a unit to be separated.
    flagged_auc
        Minimum AUC of the propensity for a unit to be separated if some propensity is within 1e-4 of 0 or 1.
    misfit
        Minimum ratio of the Hosmer–Lemeshow-type statistic to its degrees of freedom for B, if the null distribution is off.
    z
        Minimum distance of a rate from its level, in standard errors, for the null distribution to be off.
    inflated
        Pairs (level, factor): minimum ratio of a rate to its level for the null distribution to be off.
    conservative
        Pairs (level, factor): maximum ratio of a rate to its level for the null distribution to be off.
    tail_ratio
        Minimum ratio of observed to expected resamples in the 0.001 tails of the fitted skew-normal distributions, for D.
    tail_expected
        Minimum expected number of resamples in these tails for D to be checked.
    tail_z
        Minimum excess in these tails for D, in standard errors of a count with twice the Poisson variance, as programs are correlated.

    Examples
    --------
    >>> from crt import Thresholds
    >>> Thresholds(z=5.0).misfit
    1.2
    """

    size_ratio: float = 1.5
    degenerate_share: float = 0.05
    half: float = 0.5
    ones_share: float = 0.02
    few_cells: int = 7
    nan_share: float = 0.05
    den_share: float = 0.01
    saturated_share: float = 0.1
    separated_share: float = 0.05
    auc: float = 0.97
    flagged_auc: float = 0.9
    misfit: float = 1.2
    z: float = 3.5
    inflated: tuple[tuple[float, float], ...] = ((0.2, 1.25), (0.05, 1.5), (0.01, 2.0))
    conservative: tuple[tuple[float, float], ...] = ((0.2, 0.75), (0.05, 0.5))
    tail_ratio: float = 2.0
    tail_expected: float = 5.0
    tail_z: float = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause of miscalibration that the numbers support.

    Attributes
    ----------
    cause
        Its letter, "A", "B", "C" or "D", or "unexplained".
    title
        Its description.
    figures
        The numbers that support it, by name.
    next_step
        How to address it.
    arguments
        Names of the arguments that address it, as in `InputError`; the commands add the options of these names.

    Examples
    --------
    NTC groups of six guides do not represent genes with two guides:

    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> finding = diagnose_null(inputs, UnitSettings(n_resamples=99), group_size=6, n_ensemble=1).verdict.findings[0]
    >>> finding.cause, finding.title
    ('C', 'NTC groups and genes differ in their number of guides')
    >>> finding.next_step, finding.arguments
    ('Run again with group_size set to the number of guides per gene.', ('group_size',))
    """

    cause: str
    title: str
    figures: Mapping[str, float]
    next_step: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which of the causes A–D of miscalibration the numbers support.

    A: degenerate units. B: the propensity model does not fit NTC groups. C: NTC groups and genes differ in their number of guides. D: the skew-normal
    calibration is inaccurate.

    Attributes
    ----------
    label
        "calibrated", "unexplained", or the letters of the causes joined by "+".
    findings
        The supported causes.
    figures
        All numbers of the decision, by name.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> verdict = diagnose_null(inputs, UnitSettings(n_resamples=255), group_size=2, n_ensemble=1).verdict
    >>> verdict.label, verdict.findings
    ('calibrated', ())
    >>> round(verdict.figures["raw_rate_0.05"], 2)
    0.06
    """

    label: str
    findings: tuple[Finding, ...]
    figures: Mapping[str, float]

    def lines(self) -> list[str]:
        """The verdict as text: each cause with its numbers and the next step."""
        out = []
        for found in self.findings:
            figures = ", ".join(f"{name} {value:.3g}" for name, value in found.figures.items())
            out += [f"{found.cause}: {found.title} ({figures})", f"   next step: {found.next_step}"]
        if not self.findings:
            figures = ", ".join(f"{name} {self.figures[name]:.3g}" for name in ("raw_rate_0.05", "oracle_rate_0.05", "skew_tail_ratio") if name in self.figures)
            out = [f"no cause found ({figures}); minimum detectable rate at 0.05: {self.figures['detectable_rate_0.05']:.2g}"]
        return [*out, f"verdict: {self.label}"]


def judge(
    units: pd.DataFrame,
    raw: pd.DataFrame,
    skew: pd.DataFrame | None,
    oracle: pd.DataFrame | None,
    *,
    n_resamples: int | None,
    n_ntc_guides: int,
    thresholds: Thresholds | None = None,
) -> Verdict:
    """Decide which causes the numbers support.

    Parameters
    ----------
    units
        Table of units, genes and NTC groups, from `units_table`.
    raw
        p-values of the NTC groups, empirical or of the saddlepoint, indexed by (ensemble, group).
    skew
        Their skew-normal p-values, or None.
    oracle
        Their p-values by the same method with a constant propensity, or None.
    n_resamples
        Number of resamples; None for p-values without resamples.
    n_ntc_guides
        Number of NTC guides of the screen.
    thresholds
        Thresholds of the decision, by default those of `Thresholds`.
    """
    t = thresholds or Thresholds()
    ntc = units[units["unit_type"] == "ntc_group"].set_index("unit_id").loc[raw.index.get_level_values("group")]
    sound = ~degenerate(ntc, t).to_numpy()
    figures = _sizes(units, ntc, n_ntc_guides) | _degeneracy(ntc, sound) | _propensity(ntc[sound], t)
    for name, p in (("raw", raw), ("skew", skew), ("oracle", oracle)):
        if p is not None and sound.any():
            figures |= _rates(name, p[sound], n_resamples, t)
    figures |= _tail(ntc[sound])
    found = _decide(figures, n_resamples, t)
    return Verdict(
        label="+".join(found) or "calibrated",
        findings=tuple(
            Finding(
                cause=cause,
                title=TITLES[cause],
                figures={name: figures[name] for name in names if name in figures},
                next_step=NEXT_STEPS[cause][0],
                arguments=NEXT_STEPS[cause][1],
            )
            for cause, names in found.items()
        ),
        figures=figures,
    )


def degenerate(ntc: pd.DataFrame, t: Thresholds) -> pd.Series:
    """Whether each unit has too little information for a valid p-value."""
    few = (ntc["n_treated"] < t.few_cells) | (ntc["n_control"] < t.few_cells)
    vanishing = ntc["den_is_bad"] | (ntc["den_share"] < t.den_share) | (ntc["saturated_share"] >= t.saturated_share)
    return few | vanishing | (ntc["reason"] != "") | ntc["beta_obs_nan"] | (ntc["null_nan_frac"] > t.nan_share)


def _decide(f: Mapping[str, float], n_resamples: int | None, t: Thresholds) -> dict[str, list[str]]:
    """The supported causes, with the names of the numbers that support them."""
    if not 1 / t.size_ratio < f["size_ratio"] < t.size_ratio:
        return {"C": ["group_size", "gene_guides_median", "size_ratio", "share_of_all_ntc_guides"]}
    found: dict[str, list[str]] = {}
    if f["degenerate_share"] > t.degenerate_share or f["p_equal_1_share"] > t.ones_share + (3 / (n_resamples + 1) if n_resamples else 0.0):
        found["A"] = ["degenerate_share", "undefined_share", "n_treated_min", "null_nan_max", "den_share_min", "saturated_max", "p_equal_1_share"]
    if f["degenerate_share"] > t.half:
        return found
    off = f.get("raw_inflated", 0.0) or f.get("raw_conservative", 0.0)
    separated = max(f.get("separated_share", 0.0), f.get("not_converged_share", 0.0)) > t.separated_share
    misfit = off and f.get("misfit_ratio", 1.0) >= t.misfit
    removed = f.get("raw_conservative", 0.0) and "oracle_conservative" in f and not f["oracle_conservative"]
    if separated or misfit or removed:  # `removed`: a constant propensity removes the miscalibration
        found["B"] = ["separated_share", "not_converged_share", "auc_median", "misfit_ratio", "raw_rate_0.2", "raw_rate_0.05", "oracle_rate_0.05"]
    ratio, expected = f.get("skew_tail_ratio", 1.0), f.get("skew_tail_expected", 0.0)
    tail = expected >= t.tail_expected and ratio >= t.tail_ratio and (ratio - 1) * expected >= t.tail_z * np.sqrt(2 * expected)
    skew_off = f.get("skew_inflated", 0.0) or f.get("skew_conservative", 0.0)
    if tail or (skew_off and not off and "B" not in found):
        found["D"] = ["skew_tail_ratio", "skew_tail_expected", "raw_rate_0.01", "skew_rate_0.01"]
    if not found and off:
        found["unexplained"] = ["raw_rate_0.2", "raw_rate_0.05", "raw_rate_0.01", "oracle_rate_0.05", "misfit_ratio"]
    return found


def _sizes(units: pd.DataFrame, ntc: pd.DataFrame, n_ntc_guides: int) -> dict[str, float]:
    genes = float(units.loc[units["unit_type"] == "real_gene", "guide_count"].median())
    size = float(ntc["guide_count"].median())
    return {"group_size": size, "gene_guides_median": genes, "size_ratio": size / genes, "share_of_all_ntc_guides": size / n_ntc_guides}


def _degeneracy(ntc: pd.DataFrame, sound: np.ndarray) -> dict[str, float]:
    ones = ntc["pvals_raw_eq1_frac"].fillna(0.0)
    return {
        "degenerate_share": float(1 - sound.mean()),
        "undefined_share": float((ntc["reason"] != "").mean()),
        "n_treated_min": float(ntc["n_treated"].min()),
        "null_nan_max": float(ntc["null_nan_frac"].fillna(1.0).max()),
        "den_share_min": float(ntc["den_share"].min()),
        "saturated_max": float(ntc["saturated_share"].max()),
        "p_equal_1_share": float(ones.mean()),
    }


def _propensity(ntc: pd.DataFrame, t: Thresholds) -> dict[str, float]:
    if ntc.empty:
        return {}
    flagged = ntc["propensity_separation_flag"] & (ntc["propensity_auc"] >= t.flagged_auc)
    df = float(ntc["misfit_df"].sum())
    return {
        "separated_share": float((flagged | ntc["propensity_perfect"] | (ntc["propensity_auc"] >= t.auc)).mean()),
        "not_converged_share": float(1 - ntc["propensity_converged"].mean()),
        "auc_median": float(ntc["propensity_auc"].median()),
        "misfit_ratio": float(ntc["misfit"].sum() / df) if df else 1.0,
    }


def _rates(name: str, p: pd.DataFrame, n_resamples: int | None, t: Thresholds) -> dict[str, float]:
    """Rates of p ≤ level, and whether any of them is too large or too small."""
    out: dict[str, float] = {}
    values = p.to_numpy()
    defined = np.isfinite(values)
    rows = defined.any(1)
    n_units = int(pd.Series(rows, p.index).groupby(level="ensemble").sum().max())
    if n_units == 0:
        return {}
    inflated, conservative = dict(t.inflated), dict(t.conservative)
    flags = {"inflated": False, "conservative": False}
    for level in inflated:
        expected = level if name == "skew" or n_resamples is None else np.floor(level * (n_resamples + 1) + 1e-9) / (n_resamples + 1)
        by_unit = (values[rows] <= level).sum(1) / defined[rows].sum(1)
        rate = float(by_unit.mean())
        sd = max(float(by_unit.std()), np.sqrt(level * (1 - level) / values.shape[1]))
        se = sd / np.sqrt(n_units)
        out[f"{name}_rate_{level:g}"] = rate
        if name == "raw" and level == 0.05:
            out["detectable_rate_0.05"] = max(expected + t.z * se, inflated[level] * expected)
        flags["inflated"] |= rate > inflated[level] * expected > 0 and rate - expected > t.z * se
        flags["conservative"] |= level in conservative and rate < conservative[level] * expected and expected - rate > t.z * se
    return out | {f"{name}_{flag}": float(value) for flag, value in flags.items()}


def _tail(ntc: pd.DataFrame) -> dict[str, float]:
    expected = float(ntc["skew_tail_expected"].sum())
    return {"skew_tail_expected": expected, "skew_tail_ratio": float(ntc["skew_tail_hits"].sum()) / expected} if expected > 0 else {}
