"""diagnose-null."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fatescreen.cli.command import Command
from fatescreen.cli.console import Console
from fatescreen.cli.storage import on_device, places
from fatescreen.options.diagnose_null import DiagnoseOptions
from fatescreen.runs.folder import run_folder

log = logging.getLogger(__name__)
NULL_GROUPS = 5  # number of groups whose resamples make the null curve


def diagnose_null_command(options: DiagnoseOptions, console: Console) -> None:
    """Read or simulate a screen, diagnose its null, and write the tables and the report."""
    import numpy as np

    from crt.null.diagnostics import diagnose_null
    from crt.null.ensemble import compute_ntc_group_null_pvals_parallel
    from crt.null.groups import make_ntc_groups_ensemble
    from crt.prepare import prepare_crt_inputs
    from crt.run import checked_genes
    from crt.settings import settings_of
    from fatescreen.report.null_report import null_report
    from fatescreen.runs.null_files import text_lines, write_diagnostics

    with run_folder(options.out, console.command) as folder, places(folder.path, memory=options.memory, scheduler=options.scheduler) as choose:
        with console.step("reading"):
            inputs = prepare_crt_inputs(_simulated(options) if options.simulate else options.file, place=on_device(choose, options.device), **options.reading())
        sampling, seed = options.sampling(), options.seed
        with console.step("testing"):
            found = diagnose_null(
                inputs,
                settings_of({**sampling, "base_seed": seed, "method": options.method}),
                genes=checked_genes(options.targets, inputs),
                group_size=options.group_size,
                n_ensemble=options.n_ensemble,
                max_groups=options.max_groups,
                program=options.program,
                n_jobs=options.n_jobs,
                progress=console.progress,
            )
        null = None
        if options.method == "resample":
            with console.step("null curve"):
                size = found.summary["group_size"]
                groups = make_ntc_groups_ensemble(inputs, n_ensemble=1, seed0=found.summary["seed_groups"], group_size=size, max_groups=NULL_GROUPS)[0]
                curve = compute_ntc_group_null_pvals_parallel(inputs, groups, group_size=size, n_jobs=options.n_jobs, base_seed=seed, **sampling)
            null = curve if np.isfinite(curve).any() else None
        record = console.record(options, verdict=found.summary["verdict"])

        def write(to: Path) -> None:
            write_diagnostics(to, found, null=null)

        def report(record: Mapping[str, Any]) -> str:
            return null_report(inputs=inputs, found=found, null=null, record=record)

        with console.step("writing"):
            folder.publish(write, record, report=report if options.report else None)
    log.info("%s", "\n".join(text_lines(found)))


def _simulated(options: DiagnoseOptions) -> Any:
    from data_prep.simulate.usage import make_sceptre_style_synth

    sizes = {"N": options.cells, "K": options.programs, "n_target_genes": options.genes}
    few = min(3, options.programs)  # their effects are zero, but there can't be more of them than programs
    return make_sceptre_style_synth(**sizes, n_effect_programs=few, effect_size=0.0, confound_strength=options.confounding, seed=options.seed)


main = Command("diagnose-null", DiagnoseOptions, diagnose_null_command)
