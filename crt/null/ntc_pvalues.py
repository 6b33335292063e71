"""p-values relative to the null distribution that NTC groups show, in place of the theoretical one.

A confounder that is no covariate moves genes and NTC groups alike: their z scores have another location and scale than the standard normal distribution (Efron
2004, "Large-scale simultaneous hypothesis testing: the choice of a null hypothesis"). Both are estimated for each program from the groups of all partitions.
Scales are shrunk to a common one by the empirical Bayes method of Smyth 2004 ("Linear models and empirical Bayes methods", section 6.2), locations to zero.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import norm, t

from crt.null.diagnostics import NullDiagnostics
from crt.pvalues import adjust, signed_z
from crt.results import CRTResult
from crt.settings import Side
from data_prep.errors import InputError

LEAST_GROUPS = 20  # independent NTC groups below which a null distribution is not fitted
MOST_DF = 1e6  # prior degrees of freedom that stand for scales without differences
COLUMNS = ("p_ntc", "p_ntc_low", "p_ntc_high", "q_ntc", "q_ntc_low", "q_ntc_high")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NTCNull:
    """The null distribution of z that NTC groups show, (programs,) each: (z − location)/scale is distributed as t.

    Attributes
    ----------
    location
        Location, shrunk to zero.
    location_se
        Its standard error.
    scale
        Scale, shrunk to a common one.
    df
        Degrees of freedom of the scale.
    """

    location: Float64[np.ndarray, " programs"]
    location_se: Float64[np.ndarray, " programs"]
    scale: Float64[np.ndarray, " programs"]
    df: Float64[np.ndarray, " programs"]

    def log_p(self, z: Float64[np.ndarray, "tests programs"], *, side: Side, deviation: float | None = None) -> Float64[np.ndarray, "tests programs"]:
        """log p of z under the t distribution; if a deviation of location and scale from their estimates is given, under the normal distribution with these.

        Parameters
        ----------
        z
            z scores of tests.
        side
            Alternative hypothesis.
        deviation
            Standard errors by which the scale is larger than its estimate and the location nearer to z; smaller and farther if negative.
        """
        sign = {"both": np.sign(z - self.location), "left": -np.ones_like(z), "right": np.ones_like(z)}[side]
        distance, n_sides = (z - self.location) * sign, 2 if side == "both" else 1
        if deviation is None:
            scale = np.sqrt(self.scale**2 + self.location_se**2)
            return np.log(n_sides) + t.logsf(distance / scale, self.df)
        scale = self.scale * np.exp(deviation / np.sqrt(2 * self.df))
        return np.minimum(np.log(n_sides) + norm.logsf((distance - deviation * self.location_se) / scale), 0.0)


def fit_ntc_null(z: Float64[np.ndarray, "groups programs"], *, n_groups: float, n_tests: float) -> NTCNull:
    """Fit the location and scale of the z scores of NTC groups by program.

    Parameters
    ----------
    z
        z scores of the groups of all partitions; NaN where undefined.
    n_groups
        Number of independent groups.
    n_tests
        Number of independent tests for the mean of z² over all programs: the largest number of degrees of freedom of a scale.
    """
    mean, variance = np.nanmean(z, axis=0), np.nanvar(z, axis=0, ddof=1)
    d = n_groups - 1
    common, prior = _moderated(variance, d)
    scale2 = (prior * common + d * variance) / (prior + d)
    noise = scale2 / n_groups
    between = max(0.0, float(np.mean(mean**2 - noise)))  # variance of the true locations
    kept = between / (between + noise)
    return NTCNull(
        location=kept * mean, location_se=np.sqrt(kept * noise), scale=np.sqrt(scale2), df=np.full(len(scale2), float(min(prior + d, max(n_tests, d))))
    )


def _moderated(variance: Float64[np.ndarray, " programs"], d: float) -> tuple[float, float]:
    """The common variance and its prior degrees of freedom, from variances with d degrees of freedom (Smyth 2004, section 6.2)."""
    e = np.log(variance) - digamma(d / 2) + np.log(d / 2)
    excess = float(e.var(ddof=1)) - float(polygamma(1, d / 2)) if len(e) > 1 else 0.0
    if excess <= polygamma(1, MOST_DF / 2):
        return float(variance.mean()), MOST_DF
    prior = 2 * float(brentq(lambda half: float(polygamma(1, half)) - excess, 1e-3, MOST_DF / 2))
    return float(np.exp(e.mean() + digamma(prior / 2) - np.log(prior / 2))), prior


def _independent_groups(found: NullDiagnostics) -> int:
    """Number of defined groups of one partition, which share no guides."""
    return int(found.ntc_z.notna().groupby(level="ensemble").sum().min(axis=1).max())


def too_few_groups(found: NullDiagnostics) -> str:
    """Why p-values relative to the NTC groups of a diagnosis cannot be computed; empty if they can."""
    n = _independent_groups(found)
    if n >= LEAST_GROUPS:
        return ""
    size = found.summary["group_size"]
    return f"{n} independent NTC groups of {size} {'guide' if size == 1 else 'guides'} are too few for p-values relative to them; {LEAST_GROUPS} are needed."


def ntc_pvalues(result: CRTResult, found: NullDiagnostics) -> pd.DataFrame:
    """p-values and q-values of a run relative to the NTC groups of a diagnosis with the same settings.

    Parameters
    ----------
    result
        Result of `run_all_genes_union_crt`.
    found
        Result of `diagnose_null` with the same settings and matched groups.

    Returns
    -------
    pandas.DataFrame
        One row per test, in the order of `result.table`: p_ntc, the p-value of z under the t distribution with the location and scale of the NTC groups;
        p_ntc_low and p_ntc_high, its 95 % interval from their standard errors, which count independent groups; q_ntc, q_ntc_low and q_ntc_high, the same
        adjusted for the false discovery rate (Benjamini and Hochberg).

    Raises
    ------
    InputError
        With fewer than 20 independent NTC groups, from which a scale cannot be estimated well enough.

    Examples
    --------
    >>> from crt import UnitSettings, diagnose_null, make_sceptre_style_synth, ntc_pvalues, prepare_crt_inputs, run_all_genes_union_crt
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=2000, K=12, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.5, seed=1))
    >>> found = diagnose_null(inputs, UnitSettings(method="saddlepoint"), n_ensemble=4)
    >>> ntc_pvalues(run_all_genes_union_crt(inputs, method="saddlepoint"), found).shape
    (240, 6)
    """
    if reason := too_few_groups(found):
        raise InputError(reason, "group_size")
    null = fit_ntc_null(found.ntc_z.to_numpy(), n_groups=_independent_groups(found), n_tests=found.verdict.figures["raw_independent_tests"])
    side: Side = result.settings["side"]
    table, shape = result.table, result.pvals_df.shape
    effect = ((table["ci_low"] + table["ci_high"]) / 2).to_numpy()
    z = signed_z(table["log10_p"].to_numpy(), effect, side=side).reshape(shape)
    ends = (None, -norm.isf(0.025), norm.isf(0.025))
    p = [np.exp(null.log_p(z, side=side, deviation=end)) for end in ends]
    return pd.DataFrame(dict(zip(COLUMNS, [one.ravel() for one in (*p, *map(adjust, p))], strict=True)))
