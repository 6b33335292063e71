"""The one engine: (a set of treated cells, inputs, a sampler) → `NullDraws`."""

from dataclasses import dataclass

import numpy as np

from crt.inputs import CRTInputs
from crt.kernels import kernels as _kernels
from crt.propensity import Coefficients, LogisticSettings, Propensity, PropensityFit, propensity
from crt.sampling.samplers import Drawer, Resamples, Sampler, Unit
from data_prep.errors import InputError

DEN_MIN = 1e-12
SINGULAR = 1e-5  # of n − n²/N: below it a denominator made of float32 sums is rounding, not spread
NO_TREATED, ALL_TREATED, NONFINITE, IS_SINGULAR = "no_treated", "all_treated", "nonfinite", "singular"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NullDraws:
    """The observed statistics of one unit and those of its resamples; every p-value is a function of this.

    Attributes
    ----------
    observed
        float64 (K,); NaN where `reason` is set.
    null
        float32 (B, K), a read-only view laid out by program; rows of undefined resamples are NaN. Empty, (0, K), where `reason` is set.
    n_undefined
        How many resamples have no statistic (nobody treated, all treated, or a denominator that vanishes).
    den
        The observed denominator n − u'Au.
    u_norm
        ‖C'x‖₂.
    n_treated
        Treated cells.
    n_control
        Cells that they are compared with.
    propensity
        Of the unit's cells, or None where nothing was fitted.
    sampling
        The sampler's diagnostics.
    reason
        Why the unit is undefined, or "".

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> from crt import BernoulliIndex, draws
    >>> drawn = draws(inputs.treated(inputs.gene_to_cols["GENE4"]), inputs, sampler=BernoulliIndex(), n_resamples=99, seed=5)
    >>> drawn.null.shape, drawn.n_treated, drawn.reason
    ((99, 4), 497, '')
    """

    observed: np.ndarray
    null: np.ndarray
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
    """What centres and whitens the sums of a unit: see `_kernels.coefficients`.

    With S̃ and ũ the sums over treated cells less n times the means over the unit's N cells, A the inverse of the centred C'C, and w = A^{1/2}ũ,
    β = (S̃ − w'A^{1/2}C'Y)/(n − n²/N − w'w), which is (S − u'A C'Y)/(n − u'A u) with the intercept taken out by hand, so that nothing is lost to cancellation.
    """

    mean: np.ndarray
    whiten: np.ndarray
    cross: np.ndarray
    n_cells: int

    @classmethod
    def of(cls, gram: np.ndarray, cross: np.ndarray) -> "Projection":
        """From C'C and C'Y, the intercept first. Directions without spread among the cells are left out."""
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

    def coefficients(self, total_c: np.ndarray, total_y: np.ndarray) -> tuple[np.ndarray, float]:
        """β (K,) and the denominator of one set of treated cells from its float64 sums of C and Y."""
        n, q = total_c[0], total_c.size - 1
        w = self.whiten @ (total_c[1:] - n * self.mean[:q])
        spread = n * (1 - n / self.n_cells)
        den = float(spread - w @ w)
        if not (den > DEN_MIN and den > 1e-9 * spread):
            return np.full(total_y.size, np.nan), den
        return (total_y - n * self.mean[q:] - w @ self.cross) / den, den


def draws(
    treated: np.ndarray,
    inputs: CRTInputs,
    *,
    sampler: Sampler | Drawer,
    n_resamples: int,
    seed: int,
    propensity_mode: Propensity = "fit",
    logistic: LogisticSettings | None = None,
    beta: Coefficients | None = None,
    projection: Projection | None = None,
) -> NullDraws:
    """Draw a unit's resamples and compute its statistics: the OLS coefficient of x in Y_k ~ x + C, observed and resampled.

    With n treated cells, u = C'x, S = Y'x and A = (C'C)⁻¹, β_k = (S_k − u'A C'Y_k)/(n − u'Au).

    Parameters
    ----------
    treated
        The cells that carry the unit's guides, rising.
    inputs
        Of the screen.
    sampler
        Settings, or a sampler bound to `inputs` already.
    n_resamples
        B.
    seed
        Of this unit's stream.
    propensity_mode
        "fit"; "oracle_const", the share treated for every cell; or a function of (treated, C) that gives one probability a cell.
    logistic
        How the propensity is fitted.
    beta
        The unit's logistic coefficients where several units were fitted at once (complement only).
    projection
        Of the whole screen where it is at hand (complement only).

    Returns
    -------
    NullDraws
        Undefined units have a `reason` and NaN statistics, never p = 1.

    Raises
    ------
    InputError
        On fewer than one resample, or a propensity function that gives no probabilities.

    Notes
    -----
    The null statistics are made of float32 sums (relative error about 1e-6 of a null SD); the observed ones of float64 sums.

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
    if n_resamples < 1:
        raise InputError(f"the number of resamples is {n_resamples}; it must be at least 1.")
    cells, local, whole = unit_cells(treated, inputs)
    projection = projection or unit_projection(treated, inputs)
    p = len(inputs.covar_names)
    own = inputs.rows[treated].astype(np.float64).sum(0)
    total_c, total_y = own[:p], own[p : p + len(inputs.program_names)]
    observed, den = projection.coefficients(total_c, total_y)
    reason = _reason(treated.size, cells.size, observed)
    u_norm, n_treated, n_control = float(np.linalg.norm(total_c)), int(treated.size), int(cells.size - treated.size)
    if reason:
        return NullDraws(
            observed=np.full_like(observed, np.nan),
            null=np.empty((0, observed.size), np.float32),
            n_undefined=0,
            den=den,
            u_norm=u_norm,
            n_treated=n_treated,
            n_control=n_control,
            propensity=None,
            sampling={},
            reason=reason,
        )
    columns = inputs.columns if whole else np.ascontiguousarray(inputs.columns[:, cells])
    fitted = propensity(columns, local, mode=propensity_mode, settings=logistic, beta=beta)
    drawer = sampler.bind(inputs) if hasattr(sampler, "bind") else sampler
    sums, sampling = drawer.sums(Unit(cells=cells, treated=local, p=fitted.p, whole=whole), inputs.rows, n_resamples, seed)
    null, n_undefined = null_statistics(sums, projection, observed.size)
    return NullDraws(
        observed=observed,
        null=null.T,
        n_undefined=n_undefined,
        den=den,
        u_norm=u_norm,
        n_treated=n_treated,
        n_control=n_control,
        propensity=fitted,
        sampling=sampling,
    )


def null_statistics(sums: np.ndarray, projection: Projection, n_programs: int) -> tuple[np.ndarray, int]:
    """β of every resample from the sums of rows over its treated cells: float32 (K, B), NaN where undefined, and how many resamples are undefined."""
    null = np.empty((n_programs, len(sums)), np.float32)
    bad = _kernels.coefficients(sums, n_programs, projection.mean, projection.whiten, projection.cross, float(projection.n_cells), SINGULAR, null)
    null.flags.writeable = False
    return null, int(bad)


def statistics_of(resamples: Resamples, treated: np.ndarray, inputs: CRTInputs) -> np.ndarray:
    """The null statistics of resamples that are at hand as lists, float32 (B, K): for draws from elsewhere."""
    sums = np.zeros((resamples.indptr.size - 1, inputs.rows.shape[1]), np.float32)
    _kernels.gather_sums(inputs.rows, resamples.indptr, resamples.indices, sums)
    return null_statistics(sums, unit_projection(treated, inputs), len(inputs.program_names))[0].T


def unit_cells(treated: np.ndarray, inputs: CRTInputs) -> tuple[np.ndarray, np.ndarray, bool]:
    """The cells a unit lives on, the positions of its treated among them, and whether they are the whole screen."""
    if inputs.control_group == "complement":
        return inputs.all_cells, treated, True
    cells = np.union1d(treated, inputs.ntc_cells).astype(np.int32)
    return cells, np.searchsorted(cells, treated), False


def unit_projection(treated: np.ndarray, inputs: CRTInputs) -> Projection:
    """The projection of a unit's cells. With NTC controls the sums over NTC cells are shared and only the treated cells outside them are added."""
    if inputs.control_group == "complement":
        return Projection.of(inputs.gram, inputs.cross)
    p = len(inputs.covar_names)
    new = inputs.rows[np.setdiff1d(treated, inputs.ntc_cells, assume_unique=True)].astype(np.float64)
    C, Y = new[:, :p], new[:, p : p + len(inputs.program_names)]
    return Projection.of(inputs.ntc_gram + C.T @ C, inputs.ntc_cross + C.T @ Y)


def _reason(n_treated: int, n_cells: int, observed: np.ndarray) -> str:
    if n_treated == 0:
        return NO_TREATED
    if n_treated == n_cells:
        return ALL_TREATED
    if np.isnan(observed).all():
        return IS_SINGULAR
    return "" if np.isfinite(observed).all() else NONFINITE
