"""fit-hierarchy."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import Problems, first_few, warn
from data_prep.memory import require_memory
from fatescreen.cli.command import Command, NoResult
from fatescreen.cli.console import Console
from fatescreen.cli.storage import places
from fatescreen.options.fit_hierarchy import FitOptions
from fatescreen.runs.folder import RunFolder, run_folder

if TYPE_CHECKING:
    from data_prep.blocks.place import Place
    from data_prep.screen import Screen
    from data_prep.tensors import FateData
    from hierarchy.result import Fit
    from hierarchy.self_check import Controls

log = logging.getLogger(__name__)


def fit_hierarchy(options: FitOptions, console: Console) -> None:
    """Read, fit, check, and write the effects, the checks and the report."""
    from fatescreen.runs.fit_files import require_arviz
    from hierarchy.effects import contrast_names
    from hierarchy.fitting import choose_device
    from hierarchy.problem import memory_needs

    if options.save_posterior:
        require_arviz()
    device = choose_device(options.device)
    with run_folder(options.out, console.command) as folder, places(folder.path, memory=options.memory, scheduler=options.scheduler) as choose:
        with console.step("reading"):
            screen, data = _read(options)
        contrasts = contrast_names(options.contrast_fate, data.fates)
        place = choose(memory_needs(data))
        on_device = data if options.device == "auto" and place.folder is not None else data.to(device)
        fitted = _fit(folder, screen, on_device, contrasts, place, options, console)
    end = "converged" if fitted.converged else "NOT converged"
    log.info("%s in %d steps, %.1f s; likelihood weight %.3g", end, fitted.steps, fitted.seconds, fitted.weight)
    log.info("results: %s", options.out / "gene_daywise_for_mash.csv")


def _fit(folder: RunFolder, screen: Screen, data: FateData, contrasts: list[str], place: Place, options: FitOptions, console: Console) -> Fit:
    """Fit, check and write.

    Parameters
    ----------
    folder
        The output folder.
    screen
        The screen.
    data
        Its tensors.
    contrasts
        The contrasts of fates to export.
    place
        Where the cells' matrices are.
    options
        The options.
    console
        For messages and the record.
    """
    from fatescreen.report.fit_report import fit_report
    from fatescreen.runs.fit_files import controls_record, fit_record, write_checks, write_effects, write_guide_estimates, write_posterior
    from hierarchy.effects import check_centred, summarise
    from hierarchy.fitting import fit
    from hierarchy.left_out import summarise_guides
    from hierarchy.predictive_checks import check_fit

    checkpoint, time_scale = folder.path / "checkpoint.pt", options.time_scale(data.days)
    settings, progress = options.settings(), console.progress
    with console.step("fitting"):
        fitted = fit(data, settings=settings, time_scale=time_scale, checkpoint=checkpoint, resume=options.resume, progress=progress, place=place)
    with _numerical_failures(checkpoint):
        effects = summarise(fitted, n_draws=options.draws)
        guides = summarise_guides(fitted, contrasts)
        check_centred(effects, simulated=screen.simulated, centred=options.center_guides)
        with console.step("checking"):
            checks = check_fit(fitted)
            controls = _controls(fitted, screen, options)
    if options.calibrate_on_ntc and controls.ntc is not None:
        effects, guides = effects.with_errors_times(controls.ntc.factor), guides.with_errors_times(controls.ntc.factor)
    if checks.badly_fitted:
        genes = f"{len(checks.badly_fitted)} genes ({first_few(checks.badly_fitted)})"
        warn(f"too few cells or fates for a Gaussian posterior in {genes}: interpret them with caution; see check_family_by_gene.csv.")
    record = console.record(options, **fit_record(fitted, contrast_fate=contrasts, dropped=screen.dropped), **controls_record(controls))

    def write(to: Path) -> None:
        write_effects(effects, to, contrast_fate=contrasts)
        write_guide_estimates(guides, effects, to)
        write_checks(fitted, checks, to)
        if options.save_posterior:
            write_posterior(fitted, to / "posterior.nc", n_draws=options.draws)

    def report(record: Mapping[str, Any]) -> str:
        return fit_report(screen=screen, fit=fitted, effects=effects, checks=checks, controls=controls, contrast_fate=contrasts, record=record)

    with console.step("writing"):
        folder.publish(write, record, report=report if options.report else None)
    checkpoint.unlink(missing_ok=True)
    return fitted


def _controls(fitted: Fit, screen: Screen, options: FitOptions) -> Controls:
    """The checks on the screen's own controls, with their warnings."""
    from hierarchy.self_check import Controls, check_ntc, check_permuted

    ntc = check_ntc(fitted, screen, seed=options.seed)
    if ntc is not None:
        ntc.warn()
    elif options.calibrate_on_ntc:
        warn("too few NTC guides are in cells for NTC pseudo-genes, or the posterior is not 'gene_block': errors are not calibrated.", "calibrate_on_ntc")
    permuted = check_permuted(fitted, seed=options.seed) if options.check == "permutation" else None
    if permuted is not None:
        permuted.warn()
    return Controls(ntc=ntc, permuted=permuted, calibrated=options.calibrate_on_ntc and ntc is not None)


@contextmanager
def _numerical_failures(checkpoint: Path) -> Iterator[None]:
    """A fit without a posterior ends the run with its advice; the checkpoint goes, as resuming from it would only fail again."""
    from hierarchy.inference.base import FitFailed

    try:
        yield
    except FitFailed as error:
        checkpoint.unlink(missing_ok=True)
        raise NoResult(str(error), *error.outcome.arguments) from error


def _read(options: FitOptions) -> tuple[Screen, FateData]:
    from data_prep.read.screen import read_screen
    from data_prep.tensor_cache import cached_fate_data
    from data_prep.tensors import build_fate_data
    from hierarchy.effects import contrast_names

    screen = read_screen(
        options.screen,
        keys=options.keys(),
        guides=options.guides,
        guide_map=options.guide_map,
        ntc_labels=options.ntc_labels,
        min_umi=options.min_umi,
        max_guides_per_cell=options.max_guides_per_cell,
    )
    problems, others = Problems(), (fate for fate in screen.fate_names if fate != options.ref_fate)
    with problems:
        contrast_names(options.contrast_fate, (options.ref_fate, *others))
    with problems:
        if options.cache is None:
            data = build_fate_data(screen, ref_fate=options.ref_fate)
        else:
            data = cached_fate_data(screen, ref_fate=options.ref_fate, path=options.cache)
    problems.report()
    numbers = (data.n_genes * data.n_days + data.n_guides) * (len(data.fates) - 1)
    require_memory(8 * options.draws * numbers, f"{options.draws:,} posterior draws", "draws")
    log.info("%s", f"{data.n_cells:,} cells, {data.n_guides:,} targeting guides of {data.n_genes:,} genes, {data.n_days} days; MOI {screen.moi:.2f}")
    log.info("fates %s; the first is the reference", ", ".join(data.fates))
    if other := [f"_d{i} is day {label}" for i, label in enumerate(data.days) if (number := re.search(r"\d+", label)) and int(number[0]) != i]:
        warn(f"columns are numbered in the order of the days, not by their labels: {first_few(other)}.")
    return screen, data


main = Command("fit-hierarchy", FitOptions, fit_hierarchy)
