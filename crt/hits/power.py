"""Power: which effects a test can find, and with how many cells.

An effect is a shift δ of the outcome in the treated cells. The z score of the mean is then distributed as N(δ/se, 1). The mean of normal scores in treated and
in control cells differs by m(δ), which depends on the distribution of the outcome's residuals. With σ the SD of the residuals, their z score is distributed as
N(m(δ) σ/se, v(δ)), v being the variance of the scores of treated cells. The two z scores are correlated as the residuals are with their normal scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int
from scipy.interpolate import RegularGridInterpolator
from scipy.special import ndtr, ndtri

from crt.hits.guides import FDR
from crt.inputs import CRTInputs
from crt.linear.scores import sampled_scores
from crt.results import CRTResult
from crt.settings import SIDES, Side, Statistic, check_side
from data_prep.errors import InputError

POWER = 0.8
QUANTILES = 200  # of the residuals of a program
MOST_CELLS = 20_000
SHARES = np.array([0.0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.9])  # of treated cells at which m and v are computed
SHIFTS = np.concatenate([[0.0], np.geomspace(0.01, 10.0, 30)])  # in SDs of the residuals
NODES = np.linspace(-6.0, 6.0, 161)  # of integrals over a standard normal variable
WEIGHTS = np.exp(-(NODES**2) / 2) / np.exp(-(NODES**2) / 2).sum()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShiftResponse:
    """How the scores of a screen's programs respond to a shift.

    Attributes
    ----------
    sd
        SD of the residuals of each program.
    correlation
        Correlation of residuals and normal scores.
    response
        m and v for shares of treated cells and shifts in SDs, both signs: (programs, shares, shifts, 2), the shifts those of `grid`.
    """

    sd: Float64[np.ndarray, " programs"]
    correlation: Float64[np.ndarray, " programs"]
    response: Float64[np.ndarray, "programs shares shifts 2"]

    @classmethod
    def of(cls, inputs: CRTInputs) -> "ShiftResponse":
        """Measure it on control cells of a screen, at most `MOST_CELLS`."""
        cells = inputs.all_cells if inputs.control_group == "complement" else inputs.ntc_cells
        cells = cells[:: -(-cells.size // MOST_CELLS)]
        scores, r = sampled_scores(inputs, cells, normal=False)
        some = np.sort(r.astype(np.float64), axis=0)
        return cls(
            sd=np.where(np.isfinite(scores.scale), scores.scale, np.nan),
            correlation=np.array([np.corrcoef(x, _scores(_rank(x, x), len(x)))[0, 1] if x[0] < x[-1] else np.nan for x in some.T]),
            response=np.array([_response(x) for x in some.T]),
        )

    def power(
        self,
        effect: Float64[np.ndarray, " tests"],
        se: Float64[np.ndarray, " tests"],
        share: Float64[np.ndarray, " tests"],
        program: Int[np.ndarray, " tests"],
        test: "PlannedTest",
    ) -> Float64[np.ndarray, " tests"]:
        """Probability that a test finds an effect.

        Parameters
        ----------
        effect
            Effects in the outcome's units.
        se
            Standard errors of the effects.
        share
            Shares of treated cells.
        program
            Index of the program of each test.
        test
            The test.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            of_mean = effect / se
            if test.statistic == "mean":
                return test.tail(of_mean, 1.0)
            at = np.column_stack([program, np.clip(share, 0, SHARES[-1]), np.clip(effect / self.sd[program], -SHIFTS[-1], SHIFTS[-1])])
            table = RegularGridInterpolator((np.arange(len(self.sd)), SHARES, grid()), self.response, bounds_error=False)
            m, v = table(np.nan_to_num(at)).T
            of_scores, sd = m * self.sd[program] / se, np.sqrt(v * (1 - share) + share)
            if test.statistic == "normal_scores":
                return test.tail(of_scores, sd)
            rho = self.correlation[program][:, None]
            z = of_scores[:, None] + sd[:, None] * NODES
            return test.tail_given(of_mean[:, None] + rho * NODES, np.sqrt(np.maximum(1 - rho**2, 0.0025)), z) @ WEIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTest:
    """A test at a threshold: a discovery is p ≤ threshold.

    Attributes
    ----------
    statistic
        "mean", "normal_scores" or "cauchy".
    threshold
        Largest p-value of a discovery.
    side
        Alternative hypothesis.
    """

    statistic: Statistic
    threshold: float
    side: Side = "both"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_side(self.side)
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold!r}; it must be between 0 and 1.", "threshold")
        if self.statistic not in get_args(Statistic):
            raise InputError(f"statistic is {self.statistic!r}; choose {', '.join(map(repr, get_args(Statistic)))}.", "statistic")

    def tail(self, mean: Float64[np.ndarray, "*tests"], sd: Float64[np.ndarray, "*tests"] | float) -> Float64[np.ndarray, "*tests"]:
        """P(p ≤ threshold) of a z score with this mean and SD."""
        return self._beyond(mean, sd, np.asarray(self.threshold))

    def tail_given(
        self, mean: Float64[np.ndarray, "tests nodes"], sd: Float64[np.ndarray, "tests 1"], other: Float64[np.ndarray, "tests nodes"]
    ) -> Float64[np.ndarray, "tests nodes"]:
        """P(p ≤ threshold) of the Cauchy combination of a z score with this mean and SD and one that is known."""
        p = np.clip(self._p(other), 1e-300, 1 - 1e-12)
        needed = 2 / np.tan(np.pi * self.threshold) - 1 / np.tan(np.pi * p)  # cot(π p) of the first
        return self._beyond(mean, sd, np.arctan2(1.0, needed) / np.pi)

    def _p(self, z: np.ndarray) -> np.ndarray:
        return 2 * ndtr(-np.abs(z)) if self.side == "both" else ndtr(-z * SIDES[self.side])

    def _beyond(self, mean: np.ndarray, sd: np.ndarray | float, p: np.ndarray) -> np.ndarray:
        if self.side == "both":
            edge = -ndtri(p / 2)
            return ndtr((mean - edge) / sd) + ndtr((-mean - edge) / sd)
        return ndtr((mean * SIDES[self.side] + ndtri(p)) / sd)


def grid() -> Float64[np.ndarray, " shifts"]:
    """The shifts at which responses are computed, in SDs, ascending."""
    return np.concatenate([-SHIFTS[:0:-1], SHIFTS])


def _rank(sample: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The share of a sorted sample below x, half of ties included."""
    return (np.searchsorted(sample, x, "left") + np.searchsorted(sample, x, "right")) / (2 * len(sample))


def _scores(rank: np.ndarray, n: int) -> np.ndarray:
    return ndtri(np.clip(rank, 0.5 / n, 1 - 0.5 / n))


def _response(sample: np.ndarray) -> np.ndarray:
    """m and v by share of treated cells and shift, (shares, shifts, 2): treated minus control mean of the normal scores, and the variance of treated cells'."""
    x = np.quantile(sample, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    own, share = _rank(sample, x), SHARES[:, None]
    out = []
    for shift in grid():
        up, down = _rank(sample, x + shift), _rank(sample, x - shift)
        treated = _scores((1 - share) * up + share * own, len(sample))
        control = _scores((1 - share) * own + share * down, len(sample))
        out.append(np.stack([treated.mean(1) - control.mean(1), treated.var(1)], axis=1))
    return np.stack(out, axis=1)


def discovery_threshold(result: CRTResult, *, fdr: float = FDR) -> float:
    """The p-value below which a further test of a run would be a discovery: (discoveries + 1) · fdr/tests (Benjamini and Hochberg)."""
    p = result.table["p_adj"]
    n = int(p.notna().sum())
    if not n:
        return np.nan
    harmonic = float((1 / np.arange(1, n + 1)).sum()) if result.settings["adjust_method"] == "by" else 1.0
    return min(1.0, (int((p < fdr).sum()) + 1) * fdr / n / harmonic)


def detectable_effects(inputs: CRTInputs, result: CRTResult, *, fdr: float = FDR) -> Float64[np.ndarray, " tests"]:
    """The smallest effect, the absolute value of β, that each test of a run would have found with probability 0.8.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    result
        Result of `run_all_genes_union_crt`.
    fdr
        False discovery rate at which a test is a discovery; the threshold is that of the run, `discovery_threshold`.

    Returns
    -------
    numpy.ndarray
        In the outcome's units, in the order of `result.table`; NaN for undefined tests, and where the number of resamples allows no p-value that small. For
        the mean it is se · (z₁ + z₀.₈), with z₁ the z score at the threshold. With normal scores, which respond to positive and negative shifts differently,
        the power is the mean of both.

    Examples
    --------
    >>> from crt import detectable_effects, make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> detectable_effects(inputs, run_all_genes_union_crt(inputs, method="saddlepoint"))[:4].round(2)
    array([0.62, 0.6 , 0.63, 0.65])
    """
    table, settings = result.table, result.settings
    threshold = discovery_threshold(result, fdr=fdr)
    se = table["se"].where(table["p"].notna()).to_numpy(float)
    smallest = 0.0 if settings["method"] == "saddlepoint" or settings["calibrated"] else 1 / (float(result.treated_df["n_resamples"].max()) + 1)
    if not smallest <= threshold:
        return np.full(len(se), np.nan)
    test = PlannedTest(statistic=settings["statistic"], threshold=threshold, side=settings["side"])
    start = se * (ndtri(POWER) - ndtri(threshold / (2 if test.side == "both" else 1)))
    if test.statistic == "mean":
        return start
    share = (table["n_treated"] / (table["n_treated"] + table["n_control"])).to_numpy(float)
    program = np.tile(np.arange(len(inputs.program_names)), len(result.treated_df))
    return _solve(ShiftResponse.of(inputs), start, se, share, program, test)


def _solve(response: ShiftResponse, start: np.ndarray, se: np.ndarray, share: np.ndarray, program: np.ndarray, test: PlannedTest) -> np.ndarray:
    """The effects with power 0.8, by interpolation between those of a grid of standard errors and shares for each program."""
    ok = np.isfinite(start) & np.isfinite(response.sd[program])
    out = np.full(start.size, np.nan)
    if not ok.any():
        return out
    relative = np.log(se[ok] / response.sd[program[ok]])
    ses, shares = (np.unique(np.linspace(x.min(), x.max() + 1e-9, 5)) for x in (relative, share[ok]))
    K = len(response.sd)
    k, e, s = (a.ravel() for a in np.meshgrid(np.arange(K), ses, shares, indexing="ij"))
    at, ratio = np.exp(e) * response.sd[k], float((start[ok] / se[ok])[0])
    low, high = np.zeros(k.size), np.full(k.size, 6.0)  # multiples of the effect for the mean
    signs = (1.0, -1.0) if test.side == "both" else (float(SIDES[test.side]),)
    for _ in range(14):
        middle = (low + high) / 2
        power = np.mean([response.power(sign * middle * ratio * at, at, s, k, test) for sign in signs], axis=0)
        low, high = np.where(power < POWER, middle, low), np.where(power < POWER, high, middle)
    multiple = RegularGridInterpolator((np.arange(K), ses, shares), high.reshape(K, len(ses), len(shares)), bounds_error=False, fill_value=None)
    found = multiple(np.column_stack([program[ok], relative, share[ok]]))
    out[ok] = np.where(found < 6.0 - 1e-3, found * start[ok], np.nan)
    return out


def power_curve(
    inputs: CRTInputs,
    *,
    n_treated: Sequence[int],
    effects: Sequence[float],
    threshold: float = 1e-3,
    statistic: Statistic = "cauchy",
    side: Side = "both",
    n_control: int | None = None,
) -> pd.DataFrame:
    """How many treated cells an effect needs: the power of the test by number of treated cells, effect and program, from the outcomes of a screen.

    Parameters
    ----------
    inputs
        A screen with outcomes and covariates like those of the screen that is planned, such as a pilot.
    n_treated
        Numbers of treated cells.
    effects
        Shifts of the outcome in treated cells, in its own units: for CLR, differences of log usage.
    threshold
        Largest p-value of a discovery. With m tests of which R are discoveries, Benjamini and Hochberg's at 10 % is 0.1 R/m.
    statistic
        What is tested: "mean", "normal_scores" or "cauchy".
    side
        Alternative hypothesis.
    n_control
        Number of control cells; by default that of this screen.

    Returns
    -------
    pandas.DataFrame
        One row per program, number and effect: program, n_treated, effect, power.

    Raises
    ------
    InputError
        On numbers of cells below 2, a threshold that is not between 0 and 1, or an unknown statistic or side.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, power_curve, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> power_curve(inputs, n_treated=[25, 100], effects=[0.5, 1.0]).groupby(["n_treated", "effect"])["power"].median().round(2)
    n_treated  effect
    25         0.5       0.08
               1.0       0.35
    100        0.5       0.71
               1.0       0.99
    Name: power, dtype: float64
    """
    test = PlannedTest(statistic=statistic, threshold=threshold, side=side)
    controls = n_control or (inputs.all_cells if inputs.control_group == "complement" else inputs.ntc_cells).size
    if min(*n_treated, controls) < 2:
        raise InputError(f"n_treated and n_control must be at least 2; they are {list(n_treated)} and {controls}.", "n_treated", "n_control")
    response = ShiftResponse.of(inputs)
    k, n, effect = (a.ravel() for a in np.meshgrid(np.arange(len(response.sd)), np.asarray(n_treated), np.asarray(effects, float), indexing="ij"))
    se = response.sd[k] * np.sqrt(1 / n + 1 / controls)
    power = response.power(effect, se, n / (n + controls), k, test)
    return pd.DataFrame({"program": np.array(inputs.program_names, dtype=object)[k], "n_treated": n, "effect": effect, "power": power})
