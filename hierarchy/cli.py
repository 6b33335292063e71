"""fit-hierarchy and score-daywise."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.console import Console, run
from data_prep.errors import InputError, first_few, warn
from data_prep.read import read_screen
from data_prep.run_folder import run_folder
from data_prep.screen import Screen
from data_prep.tensors import FateData, build_fate_data, cached_fate_data
from hierarchy.checks import check_fit
from hierarchy.fit import choose_device, fit
from hierarchy.options import FitOptions, ScoreOptions
from hierarchy.output import fit_record, require_arviz, write_checks, write_effects, write_posterior, write_table
from hierarchy.report import fit_report
from hierarchy.scoring import score_daywise
from hierarchy.summary import check_centred, summarise

log = logging.getLogger(__name__)


def fit_hierarchy(options: FitOptions, console: Console) -> None:
    """Fit the guide → gene hierarchy of a screen and write gene_daywise_for_mash.csv."""
    if options.save_posterior:
        require_arviz()
    device = choose_device(options.device)
    with run_folder(options.out, console.command) as folder:
        checkpoint = folder.path / "checkpoint.pt"
        with console.step("reading"):
            screen, data = _read(options)
        if not options.resume:  # only now: a wrong input leaves it
            checkpoint.unlink(missing_ok=True)
        with console.step("fitting"):
            fitted = fit(data.to(device), settings=options.settings(), checkpoint=checkpoint, progress=console.progress)
        effects = summarise(fitted, n_draws=options.draws)
        check_centred(effects, simulated=screen.simulated, centred=options.center_guides)
        with console.step("checking"):
            checks = check_fit(fitted)
        if checks.badly_fitted:
            bad = first_few(checks.badly_fitted)
            warn(f"too few cells or fates for a Gaussian posterior in {len(checks.badly_fitted)} genes ({bad}): mistrust them; see check_family_by_gene.csv")
        record = console.record(options, **fit_record(fitted, contrast_fate=options.contrast_fate, dropped=screen.dropped))

        def write(to: Path) -> None:
            write_effects(effects, to, contrast_fate=options.contrast_fate)
            write_checks(fitted, checks, to)
            if options.save_posterior:
                write_posterior(fitted, to / "posterior.nc", n_draws=options.draws)

        def report(said: Mapping[str, Any]) -> str:
            return fit_report(screen=screen, fit=fitted, effects=effects, checks=checks, contrast_fate=options.contrast_fate, record=said)

        with console.step("writing"):
            folder.publish(write, record, report=report if options.report else None)
        checkpoint.unlink(missing_ok=True)
    said = "converged" if fitted.converged else "NOT converged"
    log.info("%s in %d steps, %.1f s; likelihood weight %.3g", said, fitted.steps, fitted.seconds, fitted.weight)
    log.info("results: %s", options.out / "gene_daywise_for_mash.csv")


def _read(options: FitOptions) -> tuple[Screen, FateData]:
    screen = read_screen(
        options.screen,
        keys=options.keys(),
        guides=options.guides,
        guide_map=options.guide_map,
        ntc_labels=options.ntc_labels,
        max_guides_per_cell=options.max_guides_per_cell,
    )
    others = [fate for fate in screen.fate_names if fate != options.ref_fate]
    if options.contrast_fate not in others:
        raise InputError(f"--contrast-fate {options.contrast_fate!r} must be one of {', '.join(others)}.")
    if options.cache is None:
        data = build_fate_data(screen, ref_fate=options.ref_fate)
    else:
        data = cached_fate_data(screen, ref_fate=options.ref_fate, path=options.cache)
    log.info("%s", f"{data.n_cells:,} cells, {data.n_guides:,} targeting guides of {data.n_genes:,} genes, {data.n_days} days; MOI {screen.moi:.2f}")
    log.info("fates %s; the first is the reference", ", ".join(data.fates))
    if other := [f"_d{i} is day {label}" for i, label in enumerate(data.days) if (number := re.search(r"\d+", label)) and int(number[0]) != i]:
        warn(f"columns are numbered in the order of the days, not by their labels: {first_few(other)}.")
    return screen, data


def score(options: ScoreOptions, console: Console) -> None:
    """Score daywise effects against a simulation's truth: per day TP, FP, FN, TN, RMSE, correlation, interval coverage."""
    tables = {"centred": _table(options.table)} | ({} if options.uncentred is None else {"uncentred": _table(options.uncentred)})
    known = _table(options.truth)
    found = pd.concat([score_daywise(t, known, fate=options.contrast_fate, level=options.level).assign(fit=name) for name, t in tables.items()])
    log.info("%s", found.to_string(index=False, float_format=lambda x: f"{x:.4f}"))
    if options.out is not None:
        with run_folder(options.out, console.command) as folder:
            folder.publish(lambda to: write_table(found, to / "scores.csv"), console.record(options))


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path} is not a file. Give the path of a CSV.")
    try:
        return pd.read_csv(path)
    except MemoryError:
        raise
    except Exception as error:  # pandas reads zip, xz, ... by the ending, and each raises its own
        raise InputError(f"{path} can't be read as a CSV: {error}. Save it as UTF-8 CSV.") from error


def main_fit() -> None:
    """fit-hierarchy."""
    run("fit-hierarchy", FitOptions, fit_hierarchy)


def main_score() -> None:
    """score-daywise."""
    run("score-daywise", ScoreOptions, score)
