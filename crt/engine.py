"""Units in, results out: one path for genes, NTC groups and their diagnostics, with stages and worker threads."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float64, Int
from tqdm import tqdm

from crt.cells.block import CellBlock
from crt.inputs import CRTInputs
from crt.linear.score_test import ScoreResult
from crt.linear.units import ScoredUnit, ScoreTest
from crt.pvalues import empirical_pvalues, mean_and_sd
from crt.sampling.base import Drawer
from crt.settings import FEW, UnitSettings, stage_seed
from crt.statistic import Compared, NullDraws, ObservedUnit, observe, resample, without_resamples
from crt.tails.saddlepoint import cauchy_combination
from crt.tails.skew_normal import skew_normal_pvalues
from data_prep.blocks.base import CellBlocks
from data_prep.blocks.place import Workers
from data_prep.errors import whole_number

BATCH = 32  # units whose propensities and moments are computed together: each pass over the cells serves them all
STORED_BATCH = 128  # where a pass reads files
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitResult:
    """The result of one unit. Arrays are (programs,), float64, NaN where undefined.

    Attributes
    ----------
    name
        Name of the unit.
    beta
        Observed coefficients.
    z
        z scores: statistics minus the mean of their null distributions, over its SD; those of the normal scores under "cauchy".
    se
        Standard errors of the coefficients: the SD of their null distributions.
    null_mean
        Means of the coefficients' null distributions.
    p
        p-values by the method of the run: those of the saddlepoint, or the empirical ones.
    p_raw
        Empirical p-values; NaN without resamples.
    p_skew
        Skew-normal p-values; NaN without the calibration.
    log10_p
        log10 of the skew-normal p-values, or of `p` without the calibration; it is exact where p is below the range of float64.
    xi
        Location parameters of the fitted skew-normal distributions, those of the normal scores under "cauchy".
    omega
        Scale parameters of the fitted skew-normal distributions.
    alpha
        Shape parameters of the fitted skew-normal distributions.
    fallback
        Whether the skew-normal fit was rejected, so that the empirical p-value is used, bool (programs,).
    n_treated
        Number of treated cells.
    n_control
        Number of control cells.
    n_resamples
        Number of resamples in the last stage; 0 if none were drawn.
    n_stages
        Number of stages that were drawn.
    n_undefined
        Number of resamples without a statistic.
    n_resampled
        Number of programs whose p-value is empirical, as the saddlepoint equation has no solution or the approximation is not accurate.
    propensity_min
        Minimum of the propensity over cells.
    propensity_mean
        Mean of the propensity over cells.
    propensity_max
        Maximum of the propensity over cells.
    propensity_converged
        Whether the fit of the propensity reached its tolerance.
    propensity_separated
        Whether the covariates separate treated from untreated cells without error.
    reason
        Why the unit is undefined ("no_treated", "all_treated", "few_treated", "few_control", "singular", "nonfinite"), or "".

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
    beta: Float64[np.ndarray, " programs"]
    z: Float64[np.ndarray, " programs"]
    se: Float64[np.ndarray, " programs"]
    null_mean: Float64[np.ndarray, " programs"]
    p: Float64[np.ndarray, " programs"]
    p_raw: Float64[np.ndarray, " programs"]
    p_skew: Float64[np.ndarray, " programs"]
    log10_p: Float64[np.ndarray, " programs"]
    xi: Float64[np.ndarray, " programs"]
    omega: Float64[np.ndarray, " programs"]
    alpha: Float64[np.ndarray, " programs"]
    fallback: Bool[np.ndarray, " programs"]
    n_treated: int
    n_control: int
    n_resamples: int
    n_stages: int
    n_undefined: int
    n_resampled: int
    propensity_min: float
    propensity_mean: float
    propensity_max: float
    propensity_converged: bool
    propensity_separated: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TestedUnit:
    """A unit after its test.

    Attributes
    ----------
    treated
        The treated cells, int32, ascending.
    result
        The result of the test.
    draws
        The statistics that the result is computed from, those of the last stage; under "cauchy" those of the normal scores, then those of the means.
    """

    treated: Int[np.ndarray, " treated"]
    result: UnitResult
    draws: NullDraws


def run_batch(
    names: Sequence[str], seen: Sequence[ObservedUnit], score: ScoreTest | None, inputs: CRTInputs, settings: UnitSettings, drawer: Drawer
) -> list[tuple[UnitResult, NullDraws]]:
    """Test units together.

    Parameters
    ----------
    names
        Names of the units, which determine their random streams.
    seen
        The units.
    score
        The test of outcome scores; None for resamples of β itself.
    inputs
        Screen.
    settings
        Settings of the test.
    drawer
        Sampler bound to the screen.
    """
    scored: list[ScoredUnit | None] = [None] * len(names) if score is None else score.scored(seen)
    solved: dict[str, ScoreResult] = {}
    if score is not None and settings.method == "saddlepoint":
        units = {name: unit for name, unit in zip(names, scored, strict=True) if unit is not None}
        solved = dict(zip(units, score.without_resamples(list(units), list(units.values())), strict=True))
    out = []
    for name, one, unit in zip(names, seen, scored, strict=True):
        if one.reason:
            drawn, nan = without_resamples(one), np.full(one.statistic.size, np.nan)
            out.append((_result(name, drawn, 0, beta=one.statistic, z=nan, null_mean=nan, se=nan, p=nan, p_raw=nan, log10_p=nan), drawn))
        elif score is None or unit is None:
            out.append(_by_resamples(name, one, settings, partial(resample, one, inputs, drawer), None))
        elif name in solved:
            out.append(_by_saddlepoint(name, unit, solved[name]))
        else:
            out.append(_by_resamples(name, one, settings, partial(score.draws, unit), unit))
    return out


def _by_resamples(
    name: str, seen: ObservedUnit, settings: UnitSettings, draw: Callable[[int, int], NullDraws], unit: ScoredUnit | None
) -> tuple[UnitResult, NullDraws]:
    """Test one unit by resampling, in stages; `draw` takes a number of resamples and a seed, and the unit is None where β itself is drawn."""
    K = seen.statistic.size
    for stage, n_resamples in enumerate(settings.with_stages(settings.stages), start=1):
        drawn = draw(n_resamples, stage_seed(settings.seed, name, stage))
        raw = empirical_pvalues(drawn.observed, drawn.null, side=settings.side)
        if not np.isfinite(raw).any() or np.nanmin(raw) * (n_resamples + 1) > FEW:
            break
    p_raw, log10_p = _of_programs(raw, np.log10(raw), K)
    numbers: dict[str, Any] = {"p": p_raw, "p_raw": p_raw, "log10_p": log10_p, "n_stages": stage}
    mean, sd = mean_and_sd(drawn.null)
    if settings.skew_normal:
        skew = skew_normal_pvalues(drawn.observed, drawn.null, side=settings.side, raw=raw)
        p_skew, log10_p = _of_programs(skew.p, skew.log10_p, K)
        numbers |= {"p_skew": p_skew, "log10_p": log10_p, "fallback": skew.fallback.reshape(-1, K).any(0)}
        numbers |= {"xi": skew.fit.xi[:K], "omega": skew.fit.omega[:K], "alpha": skew.fit.alpha[:K]}
        mean, sd = skew.fit.mean, skew.fit.sd
    z = ((drawn.observed - mean) / np.where(sd > 0, sd, np.nan))[:K]
    null_mean, se = (mean, sd) if unit is None else unit.effect
    return _result(name, drawn, len(drawn.null), beta=seen.statistic, z=z, null_mean=null_mean, se=se, **numbers), drawn


def _of_programs(p: np.ndarray, log10_p: np.ndarray, n_programs: int) -> tuple[np.ndarray, np.ndarray]:
    """p and log10 p of the programs from those of the tested columns: under "cauchy" two statistics of each program are combined."""
    if p.size == n_programs:
        return p, log10_p
    log10_p = cauchy_combination(log10_p.reshape(-1, n_programs) * np.log(10)) / np.log(10)
    return _power_of_ten(log10_p), log10_p


def _power_of_ten(log10_p: np.ndarray) -> np.ndarray:
    """p, at least 2.2e-308, the smallest normal double."""
    return np.where(np.isnan(log10_p), np.nan, np.maximum(10.0**log10_p, np.finfo(np.float64).tiny))


def _by_saddlepoint(name: str, unit: ScoredUnit, scored: ScoreResult) -> tuple[UnitResult, NullDraws]:
    """The result of a unit that was tested without resamples."""
    drawn = without_resamples(unit.seen)
    p = _power_of_ten(scored.log10_p)
    null_mean, se = unit.effect
    numbers: dict[str, Any] = {"z": scored.z, "null_mean": null_mean, "se": se, "p": p, "log10_p": scored.log10_p, "n_resampled": int(scored.resampled.sum())}
    return _result(name, drawn, scored.n_resamples, beta=unit.seen.statistic, **numbers), drawn


def _result(name: str, drawn: NullDraws, n_resamples: int, **numbers: Any) -> UnitResult:
    """The result of a unit from its numbers by one of the methods."""
    nan, none = np.full(numbers["p"].size, np.nan), np.zeros(numbers["p"].size, bool)
    fitted = drawn.propensity
    absent: dict[str, Any] = {"p_raw": nan, "p_skew": nan, "xi": nan, "omega": nan, "alpha": nan, "fallback": none, "n_stages": 0, "n_resampled": 0}
    return UnitResult(
        name=name,
        n_treated=drawn.n_treated,
        n_control=drawn.n_control,
        n_resamples=n_resamples,
        n_undefined=drawn.n_undefined,
        propensity_min=np.nan if fitted is None else fitted.low,
        propensity_mean=np.nan if fitted is None else fitted.mean,
        propensity_max=np.nan if fitted is None else fitted.high,
        propensity_converged=fitted is None or fitted.converged,
        propensity_separated=fitted is not None and fitted.separated,
        reason=drawn.reason,
        **(absent | numbers),
    )


def run_units(
    units: Mapping[str, Int[np.ndarray, " _"]], inputs: CRTInputs, settings: UnitSettings, *, keep: Callable[[TestedUnit], T], n_jobs: int = 1
) -> Iterator[dict[str, T]]:
    """Test units in batches, in threads that share the inputs; each batch is yielded when it is finished.

    A result depends on the unit's name and cells and on the settings, not on its batch or the number of workers.

    Parameters
    ----------
    units
        Columns of the guides of each unit, by its name.
    inputs
        Screen.
    settings
        Settings of the test.
    keep
        What to keep of a tested unit; it is called in the worker, so that draws are not held for longer than their test.
    n_jobs
        Number of worker threads.
    """
    whole_number("n_jobs", n_jobs)
    drawer = settings.sampler.bind(inputs)
    plain = settings.method == "resample" and settings.statistic == "mean"  # the resamples of β itself, not of a linear statistic
    compared = Compared.of_screen(inputs) if units and inputs.control_group == "complement" and inputs.n_guides is None else None
    score = None if plain or not units or inputs.n_guides is not None else ScoreTest.of(inputs, settings, drawer, compared=compared, n_jobs=n_jobs)
    names = list(units)
    size = max(1, min(BATCH if inputs.place.folder is None else STORED_BATCH, -(-len(names) // n_jobs)))
    batches = [names[i : i + size] for i in range(0, len(names), size)]

    if plain and compared is not None and isinstance(inputs.place, Workers):
        treated = [[inputs.treated(units[name]) for name in batch] for batch in batches]
        found = compared.blocks.spread(_on_worker, list(zip(batches, treated, strict=True)), inputs, settings)
        for batch, sets, tested in zip(batches, treated, found, strict=True):
            yield {name: keep(TestedUnit(treated=t, result=r, draws=d)) for name, t, (r, d) in zip(batch, sets, tested, strict=True)}
        return

    def alone(name: str, treated: np.ndarray) -> tuple[UnitResult, NullDraws]:
        own = inputs.without_own(units[name])
        cells, bound = Compared.of_screen(own) if own.control_group == "complement" else None, settings.sampler.bind(own)
        test = None if plain else ScoreTest.of(own, settings, bound, compared=cells)
        return run_batch([name], observe([treated], own, settings, cells), test, own, settings, bound)[0]

    def work(batch: Sequence[str]) -> dict[str, T]:
        sets = [inputs.treated(units[name]) for name in batch]
        if inputs.n_guides is None:
            found = run_batch(batch, observe(sets, inputs, settings, compared), score, inputs, settings, drawer)
        else:
            found = [alone(name, treated) for name, treated in zip(batch, sets, strict=True)]
        return {name: keep(TestedUnit(treated=t, result=r, draws=d)) for name, t, (r, d) in zip(batch, sets, found, strict=True)}

    yield from in_threads(work, batches, n_jobs)


def _on_worker(
    blocks: CellBlocks[CellBlock], batch: tuple[Sequence[str], Sequence[np.ndarray]], inputs: CRTInputs, settings: UnitSettings
) -> list[tuple[UnitResult, NullDraws]]:
    """Test a batch of units by resamples, on a worker of a cluster that reads the cells from files."""
    names, sets = batch
    compared = replace(Compared.of_screen(inputs), blocks=blocks)
    return run_batch(names, observe(sets, inputs, settings, compared), None, inputs, settings, settings.sampler.bind(inputs))


def in_threads(work: Callable[[Sequence[str]], dict[str, T]], batches: Sequence[Sequence[str]], n_jobs: int) -> Iterator[dict[str, T]]:
    """Results of the batches as they are finished, with at most two waiting batches for each thread."""
    if n_jobs == 1 or len(batches) < 2:
        yield from map(work, batches)
        return
    pool = ThreadPoolExecutor(max_workers=n_jobs)
    try:
        waiting = iter(batches)
        running: set[Future[dict[str, T]]] = {pool.submit(work, batch) for batch in islice(waiting, 2 * n_jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {pool.submit(work, batch) for batch in islice(waiting, len(done))}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def all_units(
    units: Mapping[str, Int[np.ndarray, " _"]],
    inputs: CRTInputs,
    settings: UnitSettings,
    *,
    keep: Callable[[TestedUnit], T],
    n_jobs: int = 1,
    bar: str = "",
    finished: Mapping[str, T] | None = None,
    save: Callable[[Iterable[T]], None] | None = None,
) -> list[T]:
    """What is kept of all units, in their order.

    Parameters
    ----------
    units
        As in `run_units`.
    inputs
        Screen.
    settings
        Settings of the test.
    keep
        As in `run_units`.
    n_jobs
        Number of worker threads.
    bar
        What the progress bar counts; no bar if empty. It is drawn on a terminal only.
    finished
        What was kept of units that are finished already, by name.
    save
        Called with what is kept of each batch, when it is finished.
    """
    settings.require_memory(inputs.rows.shape[1])
    found = {name: one for name, one in (finished or {}).items() if name in units}
    todo = {name: columns for name, columns in units.items() if name not in found}
    with tqdm(total=len(units), initial=len(found), disable=None if bar else True, unit=f" {bar}") as progress:
        for batch in run_units(todo, inputs, settings, keep=keep, n_jobs=n_jobs):
            if save is not None:
                save(batch.values())
            found |= batch
            progress.update(len(batch))
    return [found[name] for name in units]
