"""The verdict on a null: which of the causes A–D the figures support. Every rule and every threshold is here.

C is asked first, as figures of groups that match no gene say nothing else. Then A; degenerate units are left out of what follows. Then B and D. A null
that is off with none of them shown is "unexplained", never "calibrated".

Groups of one partition have no guide in common; partitions share all of them. So a rate has the standard error of as many units as one partition holds, and
the spread between units (programs of a unit are correlated) for their SD.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

TITLES = {
    "A": "degenerate units",
    "B": "the propensity model fails for NTC units",
    "C": "the NTC curve is not built from groups like the genes",
    "D": "the skew-normal calibration itself",
    "unexplained": "the null is off, and none of A-D shows",
}
NEXT_STEPS = {
    "A": "Raise the cells per unit (merge or drop guides with few cells), and leave out batches that carry no comparison; the units concerned are marked in "
    "diagnostics_units.csv (reason, n_treated, null_nan_frac, den_share, saturated_share).",
    "B": "Look at propensity_auc, p_hat_min, p_hat_max and misfit in diagnostics_units.csv. Separated: drop the covariate that gives treatment away. Misfit: "
    "add what assignment depends on (the burden, by add_burden_covariate, a batch, a curve), or use --resampling-method stratified_perm with --burden-key.",
    "C": "Run again with --group-size set to the number of guides that genes have.",
    "D": "Report the empirical p-values, with --adaptive for small ones; or give outcomes lighter tails (CLR, a log) and test again.",
    "unexplained": "Look for what the covariates leave out (burden, batch, day) with the QQ figures by program, and for effects of NTC guides themselves.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """All numbers that the verdict depends on. A unit is an NTC group; causes are A–D of `Verdict`.

    Attributes
    ----------
    size_ratio
        C, where group size over the genes' median number of guides is this or more, or its inverse or less.
    degenerate_share
        A, where more of the units are degenerate.
    half
        B and D are not asked where more of the units than this are degenerate.
    ones_share
        A, where more of the tests have p = 1 (beyond 3/(B + 1)).
    few_cells
        A unit is degenerate with fewer treated or control cells.
    nan_share
        A unit is degenerate with more undefined resamples.
    den_share
        A unit is degenerate with less of its spread left by the covariates.
    saturated_share
        A unit is degenerate with this share of its treated cells in batches that are wholly treated.
    separated_share
        B, where more of the sound units are separated or have no converged fit.
    auc
        A unit is separated at this AUC of its propensity.
    flagged_auc
        Or at this one, with a propensity within 1e-4 of 0 or 1.
    misfit
        B, where the null is off and the misfit over its degrees of freedom is this or more.
    z
        The null is off where a rate is this many standard errors from its level, and beyond a factor of `inflated` or `conservative`.
    inflated
        (level, factor): too large by so much.
    conservative
        (level, factor): too small by so much.
    tail_ratio
        D, where resamples fall beyond their own law's 0.001 quantile this many times too often,
    tail_expected
        so many or more should,
    tail_z
        and the excess is so many standard errors, of counts with twice a Poisson's variance as programs are correlated.

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
    """A cause that is supported.

    Attributes
    ----------
    cause
        "A", "B", "C", "D" or "unexplained".
    title
        What it is.
    figures
        The figures that decided it.
    next_step
        What to do about it.

    Examples
    --------
    NTC groups of six guides say nothing of genes that have two:

    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> finding = diagnose_null(inputs, UnitSettings(n_resamples=99), group_size=6, n_ensemble=1).verdict.findings[0]
    >>> finding.cause, finding.title
    ('C', 'the NTC curve is not built from groups like the genes')
    >>> finding.next_step
    'Run again with --group-size set to the number of guides that genes have.'
    """

    cause: str
    title: str
    figures: Mapping[str, float]
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which of the causes A–D the figures support.

    A, degenerate units; B, the propensity model fails for NTC units; C, groups unlike the genes; D, the skew-normal calibration itself.

    Attributes
    ----------
    label
        "calibrated", "unexplained", or the causes' letters joined by "+".
    findings
        The causes that are supported, each a `Finding`.
    figures
        All that were looked at.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import UnitSettings, diagnose_null
    >>> verdict = diagnose_null(inputs, UnitSettings(n_resamples=255), group_size=2, n_ensemble=1).verdict
    >>> verdict.label, verdict.findings
    ('calibrated', ())
    >>> round(verdict.figures["raw_rate_0.05"], 2)
    0.09
    """

    label: str
    findings: tuple[Finding, ...]
    figures: Mapping[str, float]

    def lines(self) -> list[str]:
        """The verdict as text, a cause and its figures at a time."""
        out = []
        for found in self.findings:
            figures = ", ".join(f"{name} {value:.3g}" for name, value in found.figures.items())
            out += [f"{found.cause}: {found.title} ({figures})", f"   next: {found.next_step}"]
        if not self.findings:
            figures = ", ".join(f"{name} {self.figures[name]:.3g}" for name in ("raw_rate_0.05", "oracle_rate_0.05", "skew_tail_ratio") if name in self.figures)
            out = [f"no cause shows ({figures}); at 0.05 a rate of {self.figures['seen_from_0.05']:.2g} or more would have been seen"]
        return [*out, f"verdict: {self.label}"]


def judge(
    units: pd.DataFrame,
    raw: pd.DataFrame,
    skew: pd.DataFrame | None,
    oracle: pd.DataFrame | None,
    *,
    n_resamples: int,
    n_ntc_guides: int,
    thresholds: Thresholds | None = None,
) -> Verdict:
    """Weigh the evidence.

    Parameters
    ----------
    units
        The table of units, genes and NTC groups.
    raw, skew, oracle
        P-values of the NTC groups, indexed by (ensemble, group); oracle with a constant propensity.
    n_resamples
        B.
    n_ntc_guides
        NTC guides of the screen.
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
            Finding(cause=c, title=TITLES[c], figures={n: figures[n] for n in names if n in figures}, next_step=NEXT_STEPS[c]) for c, names in found.items()
        ),
        figures=figures,
    )


def degenerate(ntc: pd.DataFrame, t: Thresholds) -> pd.Series:
    """Which units can't give a p-value that means something."""
    few = (ntc["n_treated"] < t.few_cells) | (ntc["n_control"] < t.few_cells)
    vanishing = ntc["den_is_bad"] | (ntc["den_share"] < t.den_share) | (ntc["saturated_share"] >= t.saturated_share)
    return few | vanishing | (ntc["reason"] != "") | ntc["beta_obs_nan"] | (ntc["null_nan_frac"] > t.nan_share)


def _decide(f: Mapping[str, float], n_resamples: int, t: Thresholds) -> dict[str, list[str]]:
    """Supported causes with the names of the figures that decided them."""
    if not 1 / t.size_ratio < f["size_ratio"] < t.size_ratio:
        return {"C": ["group_size", "gene_guides_median", "size_ratio", "share_of_all_ntc_guides"]}
    found: dict[str, list[str]] = {}
    if f["degenerate_share"] > t.degenerate_share or f["p_equal_1_share"] > t.ones_share + 3 / (n_resamples + 1):
        found["A"] = ["degenerate_share", "undefined_share", "n_treated_min", "null_nan_max", "den_share_min", "saturated_max", "p_equal_1_share"]
    if f["degenerate_share"] > t.half:
        return found
    off = f.get("raw_inflated", 0.0) or f.get("raw_conservative", 0.0)
    separated = max(f.get("separated_share", 0.0), f.get("not_converged_share", 0.0)) > t.separated_share
    misfit = off and f.get("misfit_ratio", 1.0) >= t.misfit
    mended = f.get("raw_conservative", 0.0) and "oracle_conservative" in f and not f["oracle_conservative"]
    if separated or misfit or mended:
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


def _rates(name: str, p: pd.DataFrame, n_resamples: int, t: Thresholds) -> dict[str, float]:
    """Rates of p ≤ level, and whether any is too large or too small."""
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
        expected = level if name == "skew" else np.floor(level * (n_resamples + 1) + 1e-9) / (n_resamples + 1)
        by_unit = (values[rows] <= level).sum(1) / defined[rows].sum(1)
        rate = float(by_unit.mean())
        sd = max(float(by_unit.std()), np.sqrt(level * (1 - level) / values.shape[1]))
        se = sd / np.sqrt(n_units)
        out[f"{name}_rate_{level:g}"] = rate
        if name == "raw" and level == 0.05:
            out["seen_from_0.05"] = max(expected + t.z * se, inflated[level] * expected)
        flags["inflated"] |= rate > inflated[level] * expected > 0 and rate - expected > t.z * se
        flags["conservative"] |= level in conservative and rate < conservative[level] * expected and expected - rate > t.z * se
    return out | {f"{name}_{flag}": float(value) for flag, value in flags.items()}


def _tail(ntc: pd.DataFrame) -> dict[str, float]:
    expected = float(ntc["skew_tail_expected"].sum())
    return {"skew_tail_expected": expected, "skew_tail_ratio": float(ntc["skew_tail_hits"].sum()) / expected} if expected > 0 else {}
