"""call-hits."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import first_few
from fatescreen.cli.command import Command
from fatescreen.cli.console import Console
from fatescreen.options.call_hits import HitOptions
from fatescreen.runs.folder import run_folder

if TYPE_CHECKING:
    from hierarchy.mash.hits import Hits

log = logging.getLogger(__name__)


def call_hits_command(options: HitOptions, console: Console) -> None:
    """Read the fit's files, run mash on genes and guides, and write the ranked genes and the report."""
    import pandas as pd

    from fatescreen.report.hits_report import hits_report
    from fatescreen.runs.hit_files import chosen, read_hit_estimates, read_joint_covariance, write_hits
    from fatescreen.runs.tables import read_table, write_table
    from hierarchy.mash.hits import call_hits_jointly
    from hierarchy.scoring import score_hits

    with console.step("reading"):
        estimates = chosen(read_hit_estimates(options.fit), options.contrast_fate)
        parts = [([own], own.covariance) for own in estimates]
        if options.joint:
            parts = [(estimates, read_joint_covariance(options.fit, [own.contrast for own in estimates]))]
        truth = None if options.truth is None else read_table(options.truth)
    out = options.fit / "hits" if options.out is None else options.out
    with run_folder(out, console.command) as folder:
        with console.step("mash"):
            hits = [own for part in parts for own in call_hits_jointly(*part, **options.settings())]
        scores = None if truth is None else pd.concat([score_hits(own.table, truth) for own in hits], ignore_index=True)
        record = console.record(options, contrasts={own.estimates.contrast: _facts(own) for own in hits})

        def write(to: Path) -> None:
            write_hits(hits, to)
            if scores is not None:
                write_table(scores, to / "hits_scores.csv")

        def report(record: Mapping[str, Any]) -> str:
            return hits_report(hits, record)

        with console.step("writing"):
            folder.publish(write, record, report=report if options.report else None)
    _show(hits)
    if scores is not None:
        log.info("%s", scores.to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    log.info("results: %s", out / "hits.csv")


def _facts(hits: "Hits") -> dict[str, Any]:
    """What `run.json` holds of one contrast."""
    levels = {"gene": hits.genes, "guide": hits.guides}
    return {
        "days": list(hits.estimates.days),
        "genes": len(hits.table),
        "hits": int(hits.called.sum()),
        "log_likelihood": {level: fitted.log_likelihood for level, fitted in levels.items()},
        "weights": {level: fitted.covariance_weights for level, fitted in levels.items()},
        "pseudo_genes_of_independent_days": {level: float(fitted.penalty[1:].sum()) for level, fitted in levels.items()},
        "optimality_gap": {level: fitted.gap for level, fitted in levels.items()},
    }


def _show(hits: "Sequence[Hits]") -> None:
    for own in hits:
        called = own.table[own.called]
        named = first_few((f"{row.gene} ({row.pattern}, {row.best_day})" for row in called.itertuples()), 8)
        log.info("%s", f"{own.estimates.contrast}: {len(called):,} of {len(own.table):,} genes are hits (lfsr below 0.05){': ' * bool(len(called))}{named}")


main = Command("call-hits", HitOptions, call_hits_command)
