"""score-daywise."""

import logging
from pathlib import Path

import pandas as pd

from data_prep.errors import InputError
from fatescreen.cli.console import Console, run
from fatescreen.options.score_daywise import ScoreOptions
from fatescreen.runs.fit_files import write_table
from fatescreen.runs.folder import run_folder
from hierarchy.scoring import score_daywise

log = logging.getLogger(__name__)


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


def main() -> None:
    """score-daywise."""
    run("score-daywise", ScoreOptions, score)
