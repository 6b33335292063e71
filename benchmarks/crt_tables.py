"""Time and memory of the tables and the report of a test of many targets: `python benchmarks/crt_tables.py 20000 200`.

Results of units are drawn at random, so that only collecting, adjusting, writing and reporting are measured. Each step prints its seconds of the clock and of
the CPU, and the peak memory of the process so far.
"""

import resource
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from crt import UnitSettings, make_sceptre_style_synth, prepare_crt_inputs
from crt.engine import UnitResult
from crt.results import collect
from fatescreen.cli.run_crt import crt_record
from fatescreen.report.crt_report import crt_report
from fatescreen.runs.tables import write_table


def unit(name, k, rng):
    z = rng.normal(0, 1, k) + (rng.random(k) < 0.002) * 6
    p = 2 * ndtr(-np.abs(z))
    nan = np.full(k, np.nan)
    values = {
        "name": name,
        "beta": z / 20,
        "z": z,
        "se": np.full(k, 0.05),
        "null_mean": np.zeros(k),
        "p": p,
        "p_raw": nan,
        "p_skew": nan,
        "log10_p": np.log10(p),
    }
    values |= {"xi": nan, "omega": nan, "alpha": nan, "fallback": np.zeros(k, bool), "reason": "", "propensity_converged": True, "propensity_separated": False}
    return UnitResult(**{f.name: values.get(f.name, 0.01 if f.name.startswith("propensity") else 100) for f in fields(UnitResult)})


@contextmanager
def step(name):
    clock, cpu = time.perf_counter(), time.process_time()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {name} | {time.perf_counter() - clock:.1f} | {time.process_time() - cpu:.1f} | {peak:.2f} |", flush=True)


def main(n, k):
    rng = np.random.default_rng(1)
    inputs = prepare_crt_inputs(make_sceptre_style_synth(N=2000, K=k, n_target_genes=10, guides_per_gene=2, seed=1))
    settings = UnitSettings(method="saddlepoint", statistic="cauchy")
    units = [unit(f"GENE{i:05d}", k, rng) for i in range(n)]
    print("| step | s | CPU s | peak GiB |\n|---|---|---|---|")
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, step("all"):
        with step("collect and adjust"):
            result = collect(units, inputs.program_names, settings, calibrated=False, adjust_method="bh", with_raw=False, with_skew=False)
        with step("write crt_results.csv"):
            write_table(result.table, Path(folder) / "crt_results.csv")
        with step("write pvals.csv and betas.csv"):
            write_table(result.pvals_df, Path(folder) / "pvals.csv", index=True)
            write_table(result.betas_df, Path(folder) / "betas.csv", index=True)
        with step("record"):
            record = {"command": "run-crt", "options": {"transform": "clr"}, "versions": {}, "warnings": [], **crt_record(inputs, result)}
        with step("report"):
            page = crt_report(inputs=inputs, result=result, record=record)
        print(f"| report.html: {len(page) / 2**20:.1f} MiB; crt_results.csv: {(Path(folder) / 'crt_results.csv').stat().st_size / 2**20:.0f} MiB | | | |")
    return int(time.perf_counter() - begun > 60)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:] or (20_000, 200))))
