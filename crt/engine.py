"""Units in, unit results out: one path for genes, NTC groups and diagnostic units, with workers, stages and a folder to resume from."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from crt.inputs import CRTInputs
from crt.propensity import MODES, Coefficients, LogisticSettings, Propensity, fit_logistic
from crt.pvalues import SIDES, Side, empirical_pvalues, standardised
from crt.sampling.samplers import BernoulliIndex, Drawer, Sampler
from crt.sampling.streams import checked_seed, unit_seed
from crt.statistic import NullDraws, Projection, draws
from crt.tails.skew_normal import skew_normal_pvalues
from data_prep.errors import InputError, whole_number

STAGES = (4_999, 24_999)  # what adaptive runs draw after the first B
FEW = 5  # a program with at most this many resamples as extreme as it (itself counted) sends its unit to the next stage
BATCH = 16  # units whose propensities are fitted together
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """How units (genes, and groups of NTC guides) are tested.

    Attributes
    ----------
    n_resamples
        B, of the first stage.
    sampler
        `BernoulliIndex` or `StratifiedPermutation`.
    seed
        Of the run; a unit's stream comes from it and the unit's name.
    side
        "both", "left" or "right".
    skew_normal
        Whether skew-normal p-values are computed.
    propensity_mode
        "fit"; "oracle_const", the share treated for every cell; or a function of (treated, C) that gives one probability a cell.
    logistic
        How the propensity is fitted.
    stages
        Further numbers of resamples for units with a small p, drawn anew; () for none, (4999, 24999) for what `adaptive=True` does.

    Raises
    ------
    InputError
        On a number, side, mode or seed that can't be.

    Examples
    --------
    >>> from crt import StratifiedPermutation, UnitSettings
    >>> settings = UnitSettings(n_resamples=4999, sampler=StratifiedPermutation(n_bins=10), seed=7)
    >>> settings.sampler.n_bins, settings.side
    (10, 'both')
    """

    n_resamples: int = 1023
    sampler: Sampler = BernoulliIndex()
    seed: int = 123
    side: Side = "both"
    skew_normal: bool = False
    propensity_mode: Propensity = "fit"
    logistic: LogisticSettings = LogisticSettings()
    stages: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        whole_number("the number of resamples", self.n_resamples)
        if self.side not in SIDES:
            raise InputError(f"side is {self.side!r}; choose {', '.join(map(repr, SIDES))}.")
        if not callable(self.propensity_mode) and self.propensity_mode not in MODES:
            raise InputError(f"propensity_mode is {self.propensity_mode!r}; choose {' or '.join(map(repr, MODES))}, or give a function.")
        checked_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitResult:
    """What is known of one unit after its test. Arrays are (K,), float64, NaN where undefined.

    Attributes
    ----------
    name
        Of the unit.
    beta
        The observed coefficients.
    z
        They, less the null's mean, over its SD.
    p_raw
        Empirical p-values.
    p_skew
        Skew-normal p-values (NaN without the calibration).
    log10_p
        log10 of the skew-normal p, of the empirical p without it.
    xi
        Location of the skew-normal laws.
    omega
        Their scale.
    alpha
        Their shape.
    fallback
        Where the law was not trusted and the empirical p stands, bool (K,).
    n_treated
        Treated cells.
    n_control
        Cells that they are compared with.
    n_resamples
        Resamples of the last stage.
    n_stages
        How many stages were drawn.
    n_undefined
        Resamples without a statistic.
    propensity_min
        The smallest propensity of a cell.
    propensity_mean
        The mean.
    propensity_max
        The largest.
    propensity_converged
        Whether the propensity's solver reached its tolerance.
    propensity_separated
        Whether the covariates tell treated from untreated cells without error.
    reason
        Why the unit is undefined ("no_treated", "all_treated", "singular", "nonfinite"), or "".

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> from crt import run_one_gene_union_crt
    >>> result = run_one_gene_union_crt("GENE0", inputs, B=255)
    >>> result.n_treated + result.n_control, result.reason
    (1000, '')
    """

    name: str
    beta: np.ndarray
    z: np.ndarray
    p_raw: np.ndarray
    p_skew: np.ndarray
    log10_p: np.ndarray
    xi: np.ndarray
    omega: np.ndarray
    alpha: np.ndarray
    fallback: np.ndarray
    n_treated: int
    n_control: int
    n_resamples: int
    n_stages: int
    n_undefined: int
    propensity_min: float
    propensity_mean: float
    propensity_max: float
    propensity_converged: bool
    propensity_separated: bool
    reason: str


def run_unit(
    name: str,
    treated: np.ndarray,
    inputs: CRTInputs,
    settings: UnitSettings,
    *,
    drawer: Drawer | None = None,
    beta: Coefficients | None = None,
    projection: Projection | None = None,
    look: Callable[[NullDraws], None] | None = None,
) -> UnitResult:
    """Test one unit; `drawer`, `beta` and `projection` are what a run has made for all its units, `look` is shown the draws it rests on."""
    drawer = drawer or settings.sampler.bind(inputs)
    stages = (settings.n_resamples, *(b for b in settings.stages if b > settings.n_resamples))
    for stage, n_resamples in enumerate(stages):
        purpose = "resamples" if stage == 0 else f"resamples, stage {stage + 1}"
        drawn = draws(
            treated,
            inputs,
            sampler=drawer,
            n_resamples=n_resamples,
            seed=unit_seed(settings.seed, name, purpose=purpose),
            propensity_mode=settings.propensity_mode,
            logistic=settings.logistic,
            beta=beta,
            projection=projection,
        )
        if drawn.reason:
            break
        p_raw = empirical_pvalues(drawn.observed, drawn.null, side=settings.side)
        if not np.isfinite(p_raw).any() or np.nanmin(p_raw) * (n_resamples + 1) > FEW:
            break
    if look is not None:
        look(drawn)
    return _undefined(name, drawn, settings) if drawn.reason else _result(name, drawn, p_raw, stage + 1, settings)


def _undefined(name: str, drawn: NullDraws, settings: UnitSettings) -> UnitResult:
    nan = np.full(drawn.observed.size, np.nan)
    arrays = dict.fromkeys(("beta", "z", "p_raw", "p_skew", "log10_p", "xi", "omega", "alpha"), nan)
    return UnitResult(
        name=name,
        **arrays,
        fallback=np.zeros(nan.size, bool),
        n_treated=drawn.n_treated,
        n_control=drawn.n_control,
        n_resamples=0,
        n_stages=0,
        n_undefined=0,
        propensity_min=np.nan,
        propensity_mean=np.nan,
        propensity_max=np.nan,
        propensity_converged=True,
        propensity_separated=False,
        reason=drawn.reason,
    )


def _result(name: str, drawn: NullDraws, p_raw: np.ndarray, n_stages: int, settings: UnitSettings) -> UnitResult:
    nan = np.full(p_raw.size, np.nan)
    p_skew, log10_p, fallback = nan, np.log10(p_raw), np.zeros(p_raw.size, bool)
    xi = omega = alpha = nan
    if settings.skew_normal:
        skew = skew_normal_pvalues(drawn.observed, drawn.null, side=settings.side, raw=p_raw)
        p_skew, log10_p, fallback = skew.p, skew.log10_p, skew.fallback
        xi, omega, alpha = skew.fit.xi, skew.fit.omega, skew.fit.alpha
        z = (drawn.observed - skew.fit.mean) / np.where(skew.fit.sd > 0, skew.fit.sd, np.nan)
    else:
        z = standardised(drawn.observed, drawn.null)
    fitted = drawn.propensity
    assert fitted is not None
    return UnitResult(
        name=name,
        beta=drawn.observed,
        z=z,
        p_raw=p_raw,
        p_skew=p_skew,
        log10_p=log10_p,
        xi=xi,
        omega=omega,
        alpha=alpha,
        fallback=fallback,
        n_treated=drawn.n_treated,
        n_control=drawn.n_control,
        n_resamples=len(drawn.null),
        n_stages=n_stages,
        n_undefined=drawn.n_undefined,
        propensity_min=float(fitted.p.min()),
        propensity_mean=float(fitted.p.mean()),
        propensity_max=float(fitted.p.max()),
        propensity_converged=fitted.converged,
        propensity_separated=fitted.separated,
        reason="" if np.isfinite(p_raw).all() else "nonfinite",
    )


def run_units(
    names: Sequence[str], treated_of: Callable[[str], np.ndarray], inputs: CRTInputs, settings: UnitSettings, *, n_jobs: int = 1
) -> Iterator[list[UnitResult]]:
    """Test units, a batch at a time, in threads that share the inputs; batches come as they are finished.

    A unit's result depends on its name, its cells and the settings only: not on its batch, nor on the number of workers.
    """
    return each_unit(run_unit, names, treated_of, inputs, settings, n_jobs=n_jobs)


def each_unit(
    test: Callable[..., T],
    names: Sequence[str],
    treated_of: Callable[[str], np.ndarray],
    inputs: CRTInputs,
    settings: UnitSettings,
    *,
    n_jobs: int = 1,
) -> Iterator[list[T]]:
    """`run_units` for any `test` that takes what `run_unit` takes."""
    whole_number("n_jobs", n_jobs)
    drawer = settings.sampler.bind(inputs)
    whole = inputs.control_group == "complement"
    projection = Projection.of(inputs.gram, inputs.cross) if whole else None
    size = max(1, min(BATCH, -(-len(names) // n_jobs)))
    batches = [names[i : i + size] for i in range(0, len(names), size)]

    def work(batch: Sequence[str]) -> list[T]:
        sets = [treated_of(name) for name in batch]
        betas = _fit_batch(sets, inputs, settings) if whole else [None] * len(batch)
        return [test(n, t, inputs, settings, drawer=drawer, beta=b, projection=projection) for n, t, b in zip(batch, sets, betas, strict=True)]

    if n_jobs == 1 or len(batches) < 2:
        yield from map(work, batches)
        return
    pool = ThreadPoolExecutor(max_workers=n_jobs)
    try:
        waiting = iter(batches)
        running: set[Future[list[T]]] = {pool.submit(work, batch) for _, batch in zip(range(2 * n_jobs), waiting, strict=False)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {pool.submit(work, batch) for _, batch in zip(range(len(done)), waiting, strict=False)}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def all_units(
    test: Callable[..., T],
    names: Sequence[str],
    treated_of: Callable[[str], np.ndarray],
    inputs: CRTInputs,
    settings: UnitSettings,
    *,
    n_jobs: int = 1,
    bar: str = "",
) -> list[T]:
    """`each_unit` to its end, in the order of the names; `bar` names the units of a progress bar, drawn on a terminal."""
    found: dict[str, T] = {}
    with tqdm(total=len(names), disable=None if bar else True, unit=f" {bar}") as shown:
        for batch in each_unit(test, names, treated_of, inputs, settings, n_jobs=n_jobs):
            found.update({one.name: one for one in batch})  # type: ignore[attr-defined]
            shown.update(len(batch))
    return [found[name] for name in names]


def _fit_batch(sets: Sequence[np.ndarray], inputs: CRTInputs, settings: UnitSettings) -> list[Coefficients | None]:
    """The logistic fits of a batch; None where there is nothing to fit."""
    n = inputs.all_cells.size
    can = [i for i, treated in enumerate(sets) if 0 < treated.size < n]
    out: list[Coefficients | None] = [None] * len(sets)
    if settings.propensity_mode != "fit" or not can:
        return out
    fit = fit_logistic(inputs.columns, [sets[i] for i in can], settings=settings.logistic)
    for row, i in enumerate(can):
        one = slice(row, row + 1)
        out[i] = Coefficients(beta=fit.beta[one], converged=fit.converged[one], n_iter=fit.n_iter[one])
    return out
