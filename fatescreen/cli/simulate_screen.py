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
    from data_prep.simulate.fates import simulate_fate_screen

    design = options.design()
    with run_folder(options.out, console.command) as folder:
        with console.step("simulating"):
            screen = simulate_fate_screen(design, seed=options.seed)

        def write(to: Path) -> None:
            screen.guide_map.to_csv(to / "guide_map.csv", index=False)
            screen.truth.to_csv(to / "truth.csv", index=False, float_format="%.10g")
            screen.adata.write_h5ad(to / "screen.h5ad")

        folder.publish(write, console.record(options))
    log.info("%s: %s cells, %d genes, %d guides", options.out / "screen.h5ad", f"{options.cells:,}", options.genes, len(screen.guide_map))
    log.info("truth: %s", options.out / "truth.csv")


main = Command("simulate-screen", SimulateOptions, simulate_screen)
