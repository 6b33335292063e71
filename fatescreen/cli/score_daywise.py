"""score-daywise."""

import logging

from fatescreen.cli.command import Command
from fatescreen.cli.console import Console
from fatescreen.options.score_daywise import ScoreOptions
from fatescreen.runs.folder import run_folder

log = logging.getLogger(__name__)


def score(options: ScoreOptions, console: Console) -> None:
    """Read the tables, score them, and write the scores."""
    import pandas as pd

    from fatescreen.runs.tables import read_table, write_table
    from hierarchy.scoring import score_daywise

    tables = {"centred": read_table(options.table)} | ({} if options.uncentred is None else {"uncentred": read_table(options.uncentred)})
    known = read_table(options.truth)
    found = pd.concat([score_daywise(t, known, fate=options.contrast_fate, level=options.level).assign(fit=name) for name, t in tables.items()])
    log.info("%s", found.to_string(index=False, float_format=lambda x: f"{x:.4f}"))
    if options.out is not None:
        with run_folder(options.out, console.command) as folder:
            folder.publish(lambda to: write_table(found, to / "scores.csv"), console.record(options))


main = Command("score-daywise", ScoreOptions, score)
