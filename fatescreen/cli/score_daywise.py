"""score-daywise."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import InputError
from fatescreen.cli.command import Command
from fatescreen.cli.console import Console
from fatescreen.options.score_daywise import ScoreOptions
from fatescreen.runs.folder import run_folder

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def score(options: ScoreOptions, console: Console) -> None:
    """Read the tables, score them, and write the scores."""
    import pandas as pd

    from fatescreen.runs.fit_files import write_table
    from hierarchy.scoring import score_daywise

    tables = {"centred": _table(options.table)} | ({} if options.uncentred is None else {"uncentred": _table(options.uncentred)})
    known = _table(options.truth)
    found = pd.concat([score_daywise(t, known, fate=options.contrast_fate, level=options.level).assign(fit=name) for name, t in tables.items()])
    log.info("%s", found.to_string(index=False, float_format=lambda x: f"{x:.4f}"))
    if options.out is not None:
        with run_folder(options.out, console.command) as folder:
            folder.publish(lambda to: write_table(found, to / "scores.csv"), console.record(options))


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise InputError(f"{path} is not a file. Give the path of a CSV.")
    try:
        return pd.read_csv(path)
    except MemoryError:
        raise
    except Exception as error:  # pandas reads zip, xz, ... by the ending, and each raises its own
        raise InputError(f"{path} can't be read as a CSV: {error}. Save it as UTF-8 CSV.") from error


main = Command("score-daywise", ScoreOptions, score)
