"""simulate-screen."""

import logging
from pathlib import Path

from fatescreen.cli.command import Command
from fatescreen.cli.console import Console
from fatescreen.options.simulate_screen import SimulateOptions
from fatescreen.runs.folder import run_folder

log = logging.getLogger(__name__)


def simulate_screen(options: SimulateOptions, console: Console) -> None:
    """Simulate and write the screen and its truth."""
    from data_prep.simulate.fates import write_fate_screen

    design, tables = options.design(), {}

    def write(to: Path) -> None:
        with console.step("simulating"):
            tables["guide_map"], tables["truth"] = write_fate_screen(to / "screen.h5ad", design, seed=options.seed, progress=console.progress)
        tables["guide_map"].to_csv(to / "guide_map.csv", index=False)
        tables["truth"].to_csv(to / "truth.csv", index=False, float_format="%.10g")

    with run_folder(options.out, console.command) as folder:
        folder.publish(write, console.record(options))
    log.info("%s: %s cells, %d genes, %d guides", options.out / "screen.h5ad", f"{options.cells:,}", options.genes, len(tables["guide_map"]))
    log.info("truth: %s", options.out / "truth.csv")


main = Command("simulate-screen", SimulateOptions, simulate_screen)
