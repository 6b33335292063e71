"""The test statistic of a unit, observed and resampled: (treated cells, inputs, a sampler) → `NullDraws`.

The statistic is the OLS coefficient of the treatment x in Y_k ~ x + C. With n treated cells, u = C'x, S = Y'x and A = (C'C)⁻¹ it is
β_k = (S_k − u'A C'Y_k)/(n − u'Au).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64, Int

from crt.inputs import CRTInputs
from crt.kernels import statistics as _kernels
from crt.propensity import Coefficients, PropensityFit, propensity
from crt.sampling.base import Drawer, Unit
from crt.sampling.methods import Sampler
from crt.settings import LogisticSettings, Propensity, UnitSettings
from data_prep.errors import whole_number

DEN_MIN = 1e-12
SINGULAR = 1e-5  # relative to n − n²/N: a smaller denominator of float32 sums is rounding error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullDraws:
    """The observed statistics of one unit and those of its resamples; every p-value of the unit is a function of these.

    Attributes
    ----------
    observed
        Observed statistics, float64 (programs,); NaN where `reason` is set.
    null
        Statistics of the resamples, float32 (resamples, programs), a read-only view stored by program. Rows of undefined resamples are NaN. Without rows where
        `reason` is set.
    n_undefined
        Number of resamples without a statistic: no cell or every cell is treated, or the denominator vanishes.
    den
        Denominator of the observed statistic, n − u'Au.
    u_norm
        Norm of C'x, ‖C'x‖₂.
    n_treated
        Number of treated cells.
    n_control
        Number of control cells.
    propensity
        Propensity of the unit's cells; None where `reason` is set.
    sampling
        Diagnostics of the sampler.
    reason
        Why the statistic is undefined ("no_treated", "all_treated", "few_treated", "few_control", "singular", "nonfinite"), or "".

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> from crt import BernoulliIndex, draws
    >>> drawn = draws(inputs.treated(inputs.gene_to_cols["GENE4"]), inputs, sampler=BernoulliIndex(), n_resamples=99, seed=5)
    >>> drawn.null.shape, drawn.n_treated, drawn.reason
    ((99, 4), 497, '')
    """

    observed: Float64[np.ndarray, " programs"]
    null: Float32[np.ndarray, "resamples programs"]
    n_undefined: int
    den: float
    u_norm: float
    n_treated: int
    n_control: int
    propensity: PropensityFit | None
    sampling: dict[str, int]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projection:
    """The part of a unit's data that all its resamples share: column means, and the design as an orthonormal basis.

    With S̃ and ũ the sums of Y and C over the n treated cells less n times the means over the unit's N cells, A the inverse of the centred C'C, and
    w = A^{1/2}ũ, β = (S̃ − w'A^{1/2}C'Y)/(n − n²/N − w'w). This equals (S − u'A C'Y)/(n − u'Au); with the intercept removed first, no digits cancel.

    Attributes
    ----------
    mean
        Means of the covariates without the intercept, then of the programs, (covariates − 1 + programs,).
    whiten
        A^{1/2}, (rank, covariates − 1).
    cross
        A^{1/2}C'Y, (rank, programs).
    n_cells
        Number of cells N.
    """

    mean: Float64[np.ndarray, " columns"]
    whiten: Float64[np.ndarray, "rank slopes"]
    cross: Float64[np.ndarray, "rank programs"]
    n_cells: int

    @classmethod
    def of(cls, gram: Float64[np.ndarray, "covariates covariates"], cross: Float64[np.ndarray, "covariates programs"]) -> "Projection":
        """From C'C and C'Y, the intercept first. Directions of C that do not vary among the cells are left out."""
        n = gram[0, 0]
        mean_c, mean_y = gram[0, 1:] / n, cross[0] / n
        centred = gram[1:, 1:] - n * np.outer(mean_c, mean_c)
        values, vectors = np.linalg.eigh(centred)
        keep = values > 1e-9 * max(float(values.max(initial=0.0)), n * 1e-3)
        whiten = np.ascontiguousarray((vectors[:, keep] / np.sqrt(values[keep])).T)
        return cls(
            mean=np.concatenate([mean_c, mean_y]),
            whiten=whiten,
            cross=np.ascontiguousarray(whiten @ (cross[1:] - n * np.outer(mean_c, mean_y))),
            n_cells=int(round(n)),
        )

    def coefficients(
        self, total_c: Float64[np.ndarray, " covariates"], total_y: Float64[np.ndarray, " programs"]
    ) -> tuple[Float64[np.ndarray, " programs"], float]:
        """β and the denominator of one set of treated cells, from its sums of C and Y."""
        n, q = total_c[0], total_c.size - 1
        w = self.whiten @ (total_c[1:] - n * self.mean[:q])
        spread = n * (1 - n / self.n_cells)
        den = float(spread - w @ w)
        if not (den > DEN_MIN and den > 1e-9 * spread):
            return np.full(total_y.size, np.nan), den
        return (total_y - n * self.mean[q:] - w @ self.cross) / den, den


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObservedUnit:
    """A unit before its null distribution is computed, by whichever method.

    Attributes
    ----------
    statistic
        Observed coefficients, (programs,); NaN where `reason` is set.
    den
        Denominator of the coefficients, n − u'Au.
    u_norm
        Norm of C'x.
    n_treated
        Number of treated cells.
    n_control
        Number of control cells.
    projection
        The projection of the unit's cells.
    unit
        The cells with their treatment and propensity; None where `reason` is set.
    propensity
        The fit of the propensity; None where `reason` is set.
    reason
        Why the statistic is undefined, or "".
    """

    statistic: Float64[np.ndarray, " programs"]
    den: float
    u_norm: float
    n_treated: int
    n_control: int
    projection: Projection
    unit: Unit | None
    propensity: PropensityFit | None
    reason: str


def draws(
    treated: Int[np.ndarray, " treated"],
    inputs: CRTInputs,
    *,
    sampler: Sampler | Drawer,
    n_resamples: int,
    seed: int,
    propensity_mode: Propensity = "fit",
    logistic: LogisticSettings | None = None,
) -> NullDraws:
    """Draw the resamples of a unit and compute its statistics: the OLS coefficient of x in Y_k ~ x + C, observed and resampled.

    With n treated cells, u = C'x, S = Y'x and A = (C'C)⁻¹, β_k = (S_k − u'A C'Y_k)/(n − u'Au).

    Parameters
    ----------
    treated
        Cells that carry the unit's guides, int32, ascending.
    inputs
        Screen, from `prepare_crt_inputs`.
    sampler
        Settings of the sampler, or a sampler that is bound to `inputs`.
    n_resamples
        Number of resamples B.
    seed
        Random seed of this unit.
    propensity_mode
        "fit"; "oracle_const", the treated share for every cell; or a function of (treated, C) that returns one probability per cell.
    logistic
        Settings of the logistic regression for "fit".

    Returns
    -------
    NullDraws
        Statistics of the unit; where they are undefined they are NaN, with a `reason`.

    Raises
    ------
    InputError
        On fewer than one resample, or a propensity function that does not return probabilities.

    Notes
    -----
    The null statistics are computed from float32 sums (relative error about 1e-6 of a null SD), the observed ones from float64 sums.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> from crt import StratifiedPermutation, draws
    >>> treated = inputs.treated(inputs.gene_to_cols["GENE4"])
    >>> drawn = draws(treated, inputs, sampler=StratifiedPermutation(n_bins=5), n_resamples=99, seed=5)
    >>> (1 + (abs(drawn.null) >= abs(drawn.observed)).sum(0)) / 100  # the empirical p-values
    array([0.94, 0.86, 0.01, 0.01])
    """
    whole_number("n_resamples", n_resamples)
    drawer = sampler.bind(inputs) if hasattr(sampler, "bind") else sampler
    settings = UnitSettings(propensity_mode=propensity_mode, logistic=logistic or LogisticSettings())
    return resample(observe(treated, inputs, settings), inputs, drawer, n_resamples, seed)


def observe(
    treated: Int[np.ndarray, " treated"],
    inputs: CRTInputs,
    settings: UnitSettings,
    *,
    fit: Coefficients | None = None,
    projection: Projection | None = None,
) -> ObservedUnit:
    """Compute the observed statistics of a unit and fit its propensity.

    Parameters
    ----------
    treated
        Cells that carry the unit's guides, int32, ascending.
    inputs
        Screen.
    settings
        Settings of the test.
    fit
        Logistic regression of this unit, where several units were fitted together (complement only).
    projection
        Projection of the whole screen, where it has been computed (complement only).
    """
    cells, local, whole = unit_cells(treated, inputs)
    projection = projection or unit_projection(treated, inputs)
    p = len(inputs.covar_names)
    own = inputs.rows[treated].astype(np.float64).sum(0)
    total_c, total_y = own[:p], own[p : p + len(inputs.program_names)]
    statistic, den = projection.coefficients(total_c, total_y)
    reason, unit, fitted = _reason(treated.size, cells.size - treated.size, statistic, settings), None, None
    if reason:
        statistic = np.full_like(statistic, np.nan)
    else:
        columns = inputs.columns if whole else np.ascontiguousarray(inputs.columns[:, cells])
        fitted = propensity(columns, local, mode=settings.propensity_mode, settings=settings.logistic, fit=fit)
        unit = Unit(cells=cells, treated=local, p=fitted.p, whole=whole)
    return ObservedUnit(
        statistic=statistic,
        den=den,
        u_norm=float(np.linalg.norm(total_c)),
        n_treated=int(treated.size),
        n_control=int(cells.size - treated.size),
        projection=projection,
        unit=unit,
        propensity=fitted,
        reason=reason,
    )


def resample(seen: ObservedUnit, inputs: CRTInputs, drawer: Drawer, n_resamples: int, seed: int) -> NullDraws:
    """Draw resamples of an observed unit and compute their statistics.

    Parameters
    ----------
    seen
        The unit, from `observe`.
    inputs
        Screen.
    drawer
        Sampler bound to the screen.
    n_resamples
        Number of resamples.
    seed
        Random seed of this unit.
    """
    if seen.unit is None:
        return without_resamples(seen)
    sums, sampling = drawer.sums(seen.unit, inputs.rows, n_resamples, seed)
    null, n_undefined = null_statistics(sums, seen.projection, seen.statistic.size)
    return replace(without_resamples(seen), null=null.T, n_undefined=n_undefined, sampling=sampling)


def without_resamples(seen: ObservedUnit) -> NullDraws:
    """An observed unit for which no resamples were drawn."""
    return NullDraws(
        observed=seen.statistic,
        null=np.empty((0, seen.statistic.size), np.float32),
        n_undefined=0,
        den=seen.den,
        u_norm=seen.u_norm,
        n_treated=seen.n_treated,
        n_control=seen.n_control,
        propensity=seen.propensity,
        sampling={},
        reason=seen.reason,
    )


def null_statistics(
    sums: Float32[np.ndarray, "resamples width"], projection: Projection, n_programs: int
) -> tuple[Float32[np.ndarray, "programs resamples"], int]:
    """β of every resample from the sums of rows over its treated cells, NaN where undefined, and the number of undefined resamples."""
    null = np.empty((n_programs, len(sums)), np.float32)
    bad = _kernels.coefficients(sums, n_programs, projection.mean, projection.whiten, projection.cross, float(projection.n_cells), SINGULAR, null)
    null.flags.writeable = False
    return null, int(bad)


def unit_cells(treated: Int[np.ndarray, " treated"], inputs: CRTInputs) -> tuple[Int[np.ndarray, " cells"], Int[np.ndarray, " treated"], bool]:
    """The treated and control cells of a unit, the positions of the treated among them, and whether they are the whole screen."""
    if inputs.control_group == "complement":
        return inputs.all_cells, treated, True
    cells = np.union1d(treated, inputs.ntc_cells).astype(np.int32)
    return cells, np.searchsorted(cells, treated), False


def unit_projection(treated: Int[np.ndarray, " treated"], inputs: CRTInputs) -> Projection:
    """The projection of a unit's cells. With NTC controls, the moments of the NTC cells are shared and only the other treated cells are added."""
    if inputs.control_group == "complement":
        return Projection.of(inputs.gram, inputs.cross)
    p = len(inputs.covar_names)
    new = inputs.rows[np.setdiff1d(treated, inputs.ntc_cells, assume_unique=True)].astype(np.float64)
    C, Y = new[:, :p], new[:, p : p + len(inputs.program_names)]
    return Projection.of(inputs.ntc_gram + C.T @ C, inputs.ntc_cross + C.T @ Y)


def _reason(n_treated: int, n_control: int, statistic: np.ndarray, settings: UnitSettings) -> str:
    if n_treated == 0:
        return "no_treated"
    if n_control == 0:
        return "all_treated"
    if n_treated < settings.min_treated:
        return "few_treated"
    if n_control < settings.min_control:
        return "few_control"
    if np.isnan(statistic).all():
        return "singular"
    return "" if np.isfinite(statistic).all() else "nonfinite"
