"""Diagnostics of a tested unit, from the draws of its test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import skewnorm

from crt.engine import TestedUnit, UnitResult
from crt.inputs import LOW_MOI, CRTInputs
from crt.sampling.strata import batch_codes, compute_bins
from crt.settings import Side, UnitSettings
from crt.statistic import DEN_MIN, NullDraws, unit_cells

SEPARATED = 1e-4  # distance of a propensity from 0 or 1 below which the unit is flagged
TAIL_LEVEL = 1e-3  # p-value at which the tail of a skew-normal fit is compared with its own null
N_BINS = 10  # bins per covariate of the Hosmer–Lemeshow-type statistic
FEW_VALUES = 20  # covariates with fewer distinct values are not binned
SMALL_BATCH = 5  # cells; all cells of a smaller batch may be treated by chance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredUnit:
    """A unit's result and its row of `diagnostics_units.csv`."""

    result: UnitResult
    row: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitProbe:
    """Measures tested units of one screen.

    Attributes
    ----------
    inputs
        Screen.
    side
        Alternative hypothesis of the tests.
    program
        Index of the program whose null distribution is described.
    batch
        Batch codes, (cells,), or None.
    covariate_bins
        Bins (cells,) of each numeric covariate and, at high MOI, of the number of targeting guides.
    levels
        The two levels (cells,) of each 0/1 covariate.
    residual_sd
        SD of the program given the covariates, over the control cells.
    """

    inputs: CRTInputs
    side: Side
    program: int
    batch: Int[np.ndarray, " cells"] | None
    covariate_bins: Sequence[Int[np.ndarray, " cells"]]
    levels: Sequence[Int[np.ndarray, " cells"]]
    residual_sd: float

    @classmethod
    def of(cls, inputs: CRTInputs, settings: UnitSettings, *, program: int = 0) -> "UnitProbe":
        """The probe of a screen and of tests with these settings."""
        levels = [np.unique(c, return_inverse=True)[1] for c in inputs.C.T[1:]]
        numeric = [c for c, codes in zip(inputs.C.T[1:], levels, strict=True) if codes.max() + 1 >= FEW_VALUES]
        if inputs.moi >= LOW_MOI:
            targeting = inputs.guides[:, np.setdiff1d(np.arange(inputs.guides.shape[1]), inputs.ntc_cols)]
            numeric.append(np.bincount(targeting.indices, minlength=inputs.guides.shape[0]).astype(np.float32))
        cells = inputs.all_cells if inputs.control_group == "complement" else inputs.ntc_cells
        C, y = inputs.C[cells].astype(np.float64), inputs.Y[cells, program].astype(np.float64)
        residuals = y - C @ np.linalg.lstsq(C, y, rcond=None)[0]
        return cls(
            inputs=inputs,
            side=settings.side,
            program=program,
            batch=None if inputs.batch_raw is None else batch_codes(inputs.batch_raw),
            covariate_bins=[compute_bins(c, N_BINS)[0] for c in numeric],
            levels=[codes for codes in levels if codes.max() == 1],
            residual_sd=float(np.sqrt(residuals @ residuals / max(1, cells.size - C.shape[1]))),
        )

    def __call__(self, tested: TestedUnit) -> MeasuredUnit:
        """Measure one unit."""
        result, drawn = tested.result, tested.draws
        cells, local, whole = unit_cells(tested.treated, self.inputs)
        row = _observed(result, drawn, cells.size)
        row["saturated_share"] = self._saturated(cells, tested.treated)
        row |= self._propensity(drawn, cells, local, whole) | self._null(result, drawn) | _tail_check(result, drawn, self.side)
        return MeasuredUnit(result=result, row=row)

    def _saturated(self, cells: np.ndarray, treated: np.ndarray) -> float:
        """Share of the treated cells in batches where every cell is treated."""
        if self.batch is None or treated.size == 0:
            return 0.0
        n = np.bincount(self.batch[cells])
        x = np.bincount(self.batch[treated], minlength=n.size)
        return float(x[(x == n) & (n >= SMALL_BATCH)].sum() / treated.size)

    def _propensity(self, drawn: NullDraws, cells: np.ndarray, local: np.ndarray, whole: bool) -> dict[str, Any]:
        if drawn.propensity is None:
            numbers = dict.fromkeys(("p_hat_mean", "p_hat_min", "p_hat_max", "p_hat_var"), np.nan)
            return numbers | {
                "propensity_separation_flag": False,
                "propensity_perfect": False,
                "propensity_auc": np.nan,
                "propensity_converged": True,
                "misfit": np.nan,
                "misfit_df": 0,
            }
        p = drawn.propensity.p
        low, high = float(p.min()), float(p.max())
        misfit, df = self._misfit(p, cells, local, whole)
        return {
            "p_hat_mean": float(p.mean()),
            "p_hat_min": low,
            "p_hat_max": high,
            "p_hat_var": float(p.var()),
            "propensity_separation_flag": low < SEPARATED or high > 1 - SEPARATED,
            "propensity_perfect": drawn.propensity.separated,
            "propensity_auc": auc(p, local),
            "propensity_converged": drawn.propensity.converged,
            "misfit": misfit,
            "misfit_df": df,
        }

    def _misfit(self, p: np.ndarray, cells: np.ndarray, local: np.ndarray, whole: bool) -> tuple[float, int]:
        """Hosmer–Lemeshow-type statistic, Σ (treated − Σp)²/Σp(1 − p) over bins of each covariate, and its degrees of freedom.

        Hosmer & Lemeshow 1980, "Goodness of fit tests for the multiple logistic regression model", bin by p; bins of a covariate show along which one the
        model is wrong. Two degrees of freedom per covariate are used by its intercept and slope. A fit reproduces the treated cells of every level, so levels
        have no degrees of freedom, and add to the statistic only where the propensity is wrong.
        """
        total, df, variances = 0.0, 0, p * (1 - p)
        for bins, is_level in (*((b, False) for b in self.covariate_bins), *((b, True) for b in self.levels)):
            here = bins if whole else bins[cells]
            expected, variance = np.bincount(here, p), np.bincount(here, variances)
            known = variance > 1
            if is_level or known.sum() > 2:
                x = np.bincount(here[local], minlength=expected.size)
                total += float((np.square(x - expected)[known] / variance[known]).sum())
                df += 0 if is_level else int(known.sum()) - 2
        return total, df

    def _null(self, result: UnitResult, drawn: NullDraws) -> dict[str, Any]:
        k, B = self.program, len(drawn.null)
        null = drawn.null[:, k].astype(np.float64)
        null = null[np.isfinite(null)]
        mean, sd, skewness = float(result.null_mean[k]), float(result.se[k]), np.nan
        if null.size > 1 and null.std() > 0:
            skewness = float(np.mean(((null - null.mean()) / null.std()) ** 3))
        se = self.residual_sd / np.sqrt(drawn.den) if drawn.den > DEN_MIN else np.nan
        return {
            "null_nan_frac": 1 - null.size / B if B else (np.nan if result.reason else 0.0),
            "beta_null_mean": mean,
            "beta_null_sd": sd,
            "z_null_mean": mean / se if se > 0 else np.nan,
            "z_null_sd": sd / se if se > 0 else np.nan,
            "z_null_skewness": skewness,
            "z_obs": float(result.z[k]),
            "p_raw": float(result.p[k]),
            "p_skew": float(result.p_skew[k]),
        }


def _observed(result: UnitResult, drawn: NullDraws, n_cells: int) -> dict[str, Any]:
    n = drawn.n_treated
    variance = n * (1 - n / n_cells)
    defined = np.isfinite(result.p)
    ones, lowest = [], []
    for p in (result.p, result.p_skew):
        ok = np.isfinite(p)
        ones.append(float((p[ok] >= 1).mean()) if ok.any() else np.nan)
        lowest.append(float(p[ok].min()) if ok.any() else np.nan)
    return {
        "reason": result.reason,
        "x_mean": n / n_cells,
        "n_treated": n,
        "n_control": drawn.n_control,
        "u_norm": drawn.u_norm,
        "den": drawn.den,
        "den_is_bad": bool(drawn.den <= DEN_MIN),
        "den_share": drawn.den / variance if variance > 0 else 0.0,
        "beta_obs_nan": bool(np.isnan(result.beta).any()),
        "pmin_raw": lowest[0],
        "pvals_raw_eq1_frac": ones[0],
        "pmin_skew": lowest[1],
        "pvals_skew_eq1_frac": ones[1],
        "skew_fallback_frac": float(result.fallback[defined].mean()) if defined.any() else np.nan,
    }


def _tail_check(result: UnitResult, drawn: NullDraws, side: Side) -> dict[str, Any]:
    """Number of resamples whose p-value by the accepted skew-normal fits is at most `TAIL_LEVEL`, in the tail that p comes from, and its expectation."""
    use = np.isfinite(result.p_skew) & ~result.fallback
    if not use.any():
        return {"skew_tail_hits": 0, "skew_tail_expected": 0.0}
    null = drawn.null[np.isfinite(drawn.null[:, 0]), : use.size][:, use]
    median = np.sort(null, axis=0)[(len(null) - 1) // 2]
    right = drawn.observed[: use.size][use] >= median if side == "both" else np.full(int(use.sum()), side == "right")
    sign = np.where(right, 1.0, -1.0)
    share = TAIL_LEVEL / (2 if side == "both" else 1)
    edge = result.xi[use] + sign * result.omega[use] * skewnorm.isf(share, sign * result.alpha[use])
    hits = np.where(right, null >= edge, null <= edge).sum()
    return {"skew_tail_hits": int(hits), "skew_tail_expected": float(share * null.size)}


def auc(p: Float[np.ndarray, " cells"], treated: Int[np.ndarray, " treated"]) -> float:
    """Area under the ROC curve: P(a treated cell has a higher p than an untreated one), ties counted half; 0.5 where p is constant.

    p is rounded to 4,096 steps of log p, which is several times as fast as ranks.
    """
    value = np.log(np.maximum(p, 1e-300))
    low, high = float(value.min()), float(value.max())
    if not high > low:
        return 0.5
    step = ((value - low) * (4095 / (high - low))).astype(np.int32)
    x = np.bincount(step[treated], minlength=4096).astype(np.float64)
    other = np.bincount(step, minlength=4096) - x
    below = np.cumsum(other) - other
    return float((x * (below + other / 2)).sum() / (x.sum() * other.sum()))
