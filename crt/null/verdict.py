"""The verdict on a null distribution: calibrated, inconclusive, or off, and which of the causes A-D the numbers support. All rules and thresholds are here.

C is checked first: p-values of groups that do not match the genes carry no information on the other causes. Then A; degenerate units do not enter any other
check, and D is not checked, as skew-normal fits of few cells are inaccurate. The null distribution is off if the rate of p ≤ 0.05, 0.01 or 0.001, or the SD
of z, differs from its value by more than an SD of `sd_ratio` would cause, and by more than z standard errors of the independent tests (`crt.null.dependence`).
B and D are causes of a null distribution that is off; if neither is supported it is "unexplained". If no cause is found, it is calibrated if the minimum
detectable rate at 0.05 is small enough, and inconclusive otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from crt.null.dependence import Dependence
from crt.null.rates import curve_figures

Outcome = Literal["calibrated", "inconclusive", "off"]
TITLES = {
    "A": "degenerate units",
    "B": "the propensity model does not fit NTC groups",
    "C": "NTC groups and genes differ in their number of guides",
    "D": "the skew-normal calibration is inaccurate",
    "unexplained": "the null distribution is off, for none of the causes A-D",
    "inconclusive": "{n_ntc_guides:.0f} NTC guides are too few to detect a miscalibration",
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
        "Look for confounders that are not among the covariates (burden, batch, day), with QQ plots by program, and for effects of NTC guides. If random "
        "subsets of the control cells are off too (subset figures), the cause is the outcomes: heavy tails, or cells that are not independent.",
        (),
    ),
    "inconclusive": (
        "A rate below the minimum detectable one cannot be excluded. The figures that start with 'subset' are those of random subsets of the control cells: "
        "they test the p-values themselves, but not how guides were assigned. Interpret discoveries with this in mind, and add NTC guides to the next screen; "
        "more partitions help only where there are few.",
        ("n_ensemble",),
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
    information
        Minimum median over units of Σp(1 − p), relative to that of a constant propensity; below it, the covariates determine the treatment: B.
    separated_share
        Maximum share of units that are separated, or whose propensity fit did not converge; above it, B, if the null distribution is off.
    auc
        Minimum AUC of the propensity for a unit to be separated.
    flagged_auc
        Minimum AUC of the propensity for a unit to be separated if some propensity is within 1e-4 of 0 or 1.
    misfit
        Minimum ratio of the Hosmer–Lemeshow-type statistic to its degrees of freedom for B, if the null distribution is off.
    z
        Minimum distance of a rate from its level, or of the SD of z from 1, for the null distribution to be off, as a quantile of the normal distribution.
    sd_ratio
        Minimum ratio of the SD of z to 1, or its inverse, for the null distribution to be off; also limits the rates, to those that this SD would cause.
    detectable
        Maximum of the minimum detectable rate of p ≤ 0.05 for a calibrated null distribution; above it, the verdict is inconclusive.
    tail_ratio
        Minimum ratio of observed to expected resamples in the 0.001 tails of the fitted skew-normal distributions, for D.
    tail_expected
        Minimum expected number of resamples in these tails for D to be checked.
    tail_units
        Minimum number of independent units for D to be checked.
    tail_z
        Minimum excess in these tails for D, in standard errors between independent units.

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
    information: float = 0.15
    separated_share: float = 0.05
    auc: float = 0.97
    flagged_auc: float = 0.9
    misfit: float = 1.2
    z: float = 3.0
    sd_ratio: float = 1.05
    detectable: float = 0.1
    tail_ratio: float = 2.0
    tail_expected: float = 5.0
    tail_units: float = 5.0
    tail_z: float = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause of miscalibration that the numbers support, or the reason why the numbers do not suffice.

    Attributes
    ----------
    cause
        Its letter, "A", "B", "C" or "D", "unexplained", or "inconclusive".
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
    """Whether the null distribution is calibrated, and which of the causes A–D of miscalibration the numbers support.

    A: degenerate units. B: the propensity model does not fit NTC groups. C: NTC groups and genes differ in their number of guides. D: the skew-normal
    calibration is inaccurate.

    Attributes
    ----------
    label
        "calibrated", "inconclusive", "unexplained", or the letters of the causes joined by "+".
    findings
        The supported causes, or why the verdict is inconclusive.
    figures
        All numbers of the decision, by name.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=2000, K=12, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.5, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> verdict = diagnose_null(inputs, UnitSettings(method="saddlepoint")).verdict
    >>> verdict.outcome, verdict.label, verdict.findings
    ('calibrated', 'calibrated', ())
    >>> round(verdict.figures["raw_rate_0.05"], 2)
    0.04
    """

    label: str
    findings: tuple[Finding, ...]
    figures: Mapping[str, float]

    @property
    def outcome(self) -> Outcome:
        """ "calibrated", "inconclusive" or "off"."""
        return "calibrated" if self.label == "calibrated" else "inconclusive" if self.label == "inconclusive" else "off"

    def lines(self) -> list[str]:
        """The verdict as text: each cause with its numbers and the next step."""
        out = []
        for found in self.findings:
            figures = ", ".join(f"{name} {value:.3g}" for name, value in found.figures.items())
            out += [f"{found.cause}: {found.title} ({figures})", f"   next step: {found.next_step}"]
        if not self.findings:
            figures = ", ".join(f"{name} {self.figures[name]:.3g}" for name in SHOWN if name in self.figures)
            out = [f"no cause found ({figures}); minimum detectable rate at 0.05: {self.figures['detectable_rate_0.05']:.2g}"]
        return [*out, f"verdict: {self.outcome}" + (f" ({self.label})" if self.outcome == "off" else "")]


SHOWN = ("raw_rate_0.05", "raw_z_sd", "oracle_rate_0.05", "skew_tail_ratio")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullTests:
    """Tests of units without effect, and how they depend on each other.

    Attributes
    ----------
    units
        Rows of the table of units, in the order of the p-values.
    curves
        p-values, units × programs: "raw", by the method of the run; "skew", skew-normal; "oracle", by the method of the run with a constant propensity.
    dependence
        Correlations of the tests.
    n_resamples
        Number of resamples; None for p-values without resamples.
    two_sided
        Whether the tests are two-sided.
    """

    units: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]
    dependence: Dependence
    n_resamples: int | None
    two_sided: bool


def judge(
    groups: NullTests, *, gene_guides: float, n_ntc_guides: int, largest_size: int, subsets: NullTests | None = None, thresholds: Thresholds | None = None
) -> Verdict:
    """Decide which causes the numbers support.

    Parameters
    ----------
    groups
        Tests of NTC groups.
    gene_guides
        The genes' median number of guides.
    n_ntc_guides
        Number of NTC guides of the screen.
    largest_size
        Maximum size of NTC groups that leaves controls.
    subsets
        Tests of random subsets of the control cells.
    thresholds
        Thresholds of the decision, by default those of `Thresholds`.
    """
    t = thresholds or Thresholds()
    sound = ~degenerate(groups.units, t).to_numpy()
    figures = _sizes(groups.units, gene_guides, n_ntc_guides, largest_size)
    figures |= _degeneracy(groups.units, sound) | _propensity(groups.units[sound], t) | _curves(groups, sound, t)
    if subsets is not None:
        figures |= {f"subset_{name}": value for name, value in _curves(subsets, np.ones(len(subsets.units), bool), t).items()}
    found = _decide(figures, groups.n_resamples, t)
    return Verdict(
        label="+".join(found) or "calibrated",
        findings=tuple(
            Finding(
                cause=cause,
                title=TITLES[cause].format(**figures),
                figures={name: figures[name] for name in names if name in figures},
                next_step=NEXT_STEPS[cause][0],
                arguments=NEXT_STEPS[cause][1],
            )
            for cause, names in found.items()
        ),
        figures=figures,
    )


def degenerate(units: pd.DataFrame, t: Thresholds) -> pd.Series:
    """Whether each unit has too little information for a valid p-value."""
    few = (units["n_treated"] < t.few_cells) | (units["n_control"] < t.few_cells)
    vanishing = units["den_is_bad"] | (units["den_share"] < t.den_share) | (units["saturated_share"] >= t.saturated_share)
    return few | vanishing | (units["reason"] != "") | units["beta_obs_nan"] | (units["null_nan_frac"] > t.nan_share)


def _decide(f: Mapping[str, float], n_resamples: int | None, t: Thresholds) -> dict[str, list[str]]:
    """The supported causes, with the names of the numbers that support them."""
    comparable = 1 / t.size_ratio < f["size_ratio"] < t.size_ratio
    if not comparable and f["gene_guides_median"] <= f["largest_size"]:
        return {"C": ["group_size", "gene_guides_median", "size_ratio", "share_of_all_ntc_guides"]}
    found: dict[str, list[str]] = {}
    if f["degenerate_share"] > t.degenerate_share or f["p_equal_1_share"] > t.ones_share + (3 / (n_resamples + 1) if n_resamples else 0.0):
        found["A"] = ["degenerate_share", "undefined_share", "n_treated_min", "null_nan_max", "den_share_min", "saturated_max", "p_equal_1_share"]
    if f["degenerate_share"] > t.half:
        return found
    if _propensity_is_wrong(f, t):
        found["B"] = [
            "separated_share",
            "not_converged_share",
            "auc_median",
            "information_median",
            "misfit_ratio",
            "raw_rate_0.05",
            "raw_z_sd",
            "oracle_rate_0.05",
        ]
    raw_off = _off(f, "raw")
    skew_off = _tail_is_wrong(f, "", t) or _off(f, "skew") and not raw_off and "B" not in found
    if skew_off and "A" not in found and f["independent_units"] >= t.tail_units:
        found["D"] = ["skew_tail_ratio", "skew_tail_expected", "raw_rate_0.01", "skew_rate_0.01", "independent_units"]
    if not found and raw_off:
        found["unexplained"] = ["raw_rate_0.05", "raw_rate_0.01", "raw_rate_0.001", "raw_z_sd", "oracle_rate_0.05", "misfit_ratio"]
    if not found and _off(f, "subset_raw"):
        found["unexplained"] = ["subset_raw_rate_0.05", "subset_raw_rate_0.01", "subset_raw_z_sd", "raw_rate_0.05"]
    if not found and (_tail_is_wrong(f, "subset_", t) or _off(f, "subset_skew")):
        found["D"] = ["subset_skew_tail_ratio", "subset_skew_tail_expected", "subset_raw_rate_0.01", "subset_skew_rate_0.01"]
    if not found and (not comparable or f.get("detectable_rate_0.05", 1.0) > t.detectable):
        found["inconclusive"] = ["n_ntc_guides", "group_size", "gene_guides_median", "independent_units", "raw_rate_0.05", "detectable_rate_0.05", "raw_z_sd"]
        found["inconclusive"] += ["subset_raw_rate_0.05", "subset_detectable_rate_0.05", "subset_raw_z_sd"]
    return found


def _off(f: Mapping[str, float], curve: str) -> bool:
    return bool(f.get(f"{curve}_inflated", 0.0) or f.get(f"{curve}_conservative", 0.0))


def _propensity_is_wrong(f: Mapping[str, float], t: Thresholds) -> bool:
    """Whether the propensity determines treatment; or the null distribution is off, and it separates, does not fit, or is worse than a constant one."""
    if not _off(f, "raw"):
        return f.get("information_median", 1.0) < t.information
    separated = max(f.get("separated_share", 0.0), f.get("not_converged_share", 0.0)) > t.separated_share
    removed = f["raw_conservative"] and "oracle_conservative" in f and not f["oracle_conservative"]
    return bool(separated or removed or f.get("misfit_ratio", 1.0) >= t.misfit)


def _tail_is_wrong(f: Mapping[str, float], prefix: str, t: Thresholds) -> bool:
    ratio, expected = f.get(f"{prefix}skew_tail_ratio", 1.0), f.get(f"{prefix}skew_tail_expected", 0.0)
    return expected >= t.tail_expected and ratio >= t.tail_ratio and ratio - 1 >= t.tail_z * f[f"{prefix}skew_tail_se"]


def _sizes(units: pd.DataFrame, gene_guides: float, n_ntc_guides: int, largest_size: int) -> dict[str, float]:
    size = float(units["guide_count"].median())
    sizes = {"group_size": size, "gene_guides_median": gene_guides, "size_ratio": size / gene_guides, "share_of_all_ntc_guides": size / n_ntc_guides}
    return sizes | {"n_ntc_guides": float(n_ntc_guides), "largest_size": float(largest_size)}


def _degeneracy(units: pd.DataFrame, sound: np.ndarray) -> dict[str, float]:
    ones = units["pvals_raw_eq1_frac"].fillna(0.0)
    return {
        "degenerate_share": float(1 - sound.mean()),
        "undefined_share": float((units["reason"] != "").mean()),
        "n_treated_min": float(units["n_treated"].min()),
        "null_nan_max": float(units["null_nan_frac"].fillna(1.0).max()),
        "den_share_min": float(units["den_share"].min()),
        "saturated_max": float(units["saturated_share"].max()),
        "p_equal_1_share": float(ones.mean()),
    }


def _propensity(units: pd.DataFrame, t: Thresholds) -> dict[str, float]:
    if units.empty:
        return {}
    flagged = units["propensity_separation_flag"] & (units["propensity_auc"] >= t.flagged_auc)
    df = float(units["misfit_df"].sum())
    return {
        "separated_share": float((flagged | units["propensity_perfect"] | (units["propensity_auc"] >= t.auc)).mean()),
        "not_converged_share": float(1 - units["propensity_converged"].mean()),
        "auc_median": float(units["propensity_auc"].median()),
        "information_median": float((1 - units["p_hat_var"] / (units["p_hat_mean"] * (1 - units["p_hat_mean"]))).median()),
        "misfit_ratio": float(units["misfit"].sum() / df) if df else 1.0,
    }


def _curves(tests: NullTests, sound: np.ndarray, t: Thresholds) -> dict[str, float]:
    """The figures of each curve of p-values, and of the tails of the skew-normal fits; the minimum detectable rate is that of the raw curve."""
    if not sound.any():
        return {}
    dependence = tests.dependence.of(sound, np.ones(len(tests.dependence.programs), bool))
    out = {"independent_units": dependence.independent_units()}
    for name, p in tests.curves.items():
        n_resamples = None if name == "skew" else tests.n_resamples
        figures = curve_figures(p[sound], dependence, n_resamples, two_sided=tests.two_sided, z=t.z, sd_ratio=t.sd_ratio)
        detectable = {key: figures.pop(key) for key in list(figures) if key.startswith("detectable")}
        out |= {f"{name}_{key}": value for key, value in figures.items()} | (detectable if name == "raw" else {})
    return out | _tail(tests.units[sound], out["independent_units"])


def _tail(units: pd.DataFrame, n: float) -> dict[str, float]:
    """Resamples in the tails of the skew-normal fits over their expected number, with the standard error between n independent units."""
    units = units[units["skew_tail_expected"] > 0]
    if units.empty:
        return {}
    expected = float(units["skew_tail_expected"].sum())
    ratio = float(units["skew_tail_hits"].sum()) / expected
    spread = (units["skew_tail_hits"] / units["skew_tail_expected"]).std(ddof=0)
    return {"skew_tail_expected": expected, "skew_tail_ratio": ratio, "skew_tail_se": float(max(spread / np.sqrt(n), np.sqrt(2 / expected)))}
