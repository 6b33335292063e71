"""Run time of the test as a function of cells, programs, resamples, targets and workers, and for a million cells.

python benchmarks/crt_growth.py             CPU milliseconds per target
python benchmarks/crt_growth.py million     1,000,000 cells × 60 programs × 200 targets, two workers: wall time and memory, with 4,000 and 25,000 treated cells
"""

import resource
import sys
import threading
import time

import crt_common
import numpy as np
from scipy.sparse import csc_matrix
from screen import clr, design, make_screen

from crt import BernoulliIndex, StratifiedPermutation, UnitSettings
from crt.engine import all_units
from crt.inputs import make_inputs
from data_prep import GuideMap

PERMUTED = StratifiedPermutation(stratify_by_batch=False)
EXACT = {
    "saddlepoint, mean": {"method": "saddlepoint"},
    "saddlepoint, normal scores": {"method": "saddlepoint", "statistic": "normal_scores"},
}


def per_target(inputs, n_targets, settings) -> float:
    """CPU milliseconds per target, the minimum of three runs."""
    genes = {gene: inputs.gene_to_cols[gene] for gene in inputs.genes[:n_targets]}
    took = []
    for _ in range(3):
        start = time.process_time()
        all_units(genes, inputs, settings, keep=lambda unit: unit.result)
        took.append((time.process_time() - start) / n_targets * 1e3)
    return min(took)


def growth() -> None:
    """Vary one parameter at a time around 50,000 cells × 70 programs, B = 1023, 16 targets."""
    rows = []
    at = {"cells": 50_000, "programs": 70, "B": 1023, "targets": 16}
    for name, values in (("cells", (12_500, 50_000, 200_000)), ("programs", (16, 70, 140)), ("B", (255, 1023, 4092)), ("targets", (4, 16, 64))):
        for value in values:
            now = {**at, name: value}
            s = make_screen(n_cells=now["cells"], n_programs=now["programs"])
            inputs = crt_common.inputs_of(s, design(s.covariates), clr(s.usage))
            treated = float(np.mean([inputs.treated(inputs.gene_to_cols[g]).size for g in list(inputs.genes)[: now["targets"]]]))
            cases = [{"sampler": BernoulliIndex()}, {"sampler": PERMUTED}, *EXACT.values()]
            times = [per_target(inputs, now["targets"], UnitSettings(n_resamples=now["B"], **case)) for case in cases]
            rows.append([name, f"{value:,}", f"{treated:.0f}", *(f"{t:.2f}" for t in times)])
    crt_common.table("CPU ms per target, one thread", ["varied", "value", "treated", "bernoulli", "stratified", *EXACT], rows)


def workers() -> None:
    """Wall time of 64 targets with one and two workers, alternating."""
    s = make_screen(n_cells=50_000, n_programs=70)
    inputs = crt_common.inputs_of(s, design(s.covariates), clr(s.usage))
    genes = {gene: inputs.gene_to_cols[gene] for gene in inputs.genes[:64]}
    rows = []
    for label, skew in (("raw", False), ("skew-normal", True)):
        settings = UnitSettings(skew_normal=skew)
        times = {1: [], 2: []}
        for _ in range(5):
            for n_jobs in (1, 2):
                start = time.perf_counter()
                all_units(genes, inputs, settings, keep=lambda unit: unit.result, n_jobs=n_jobs)
                times[n_jobs].append(time.perf_counter() - start)
        one, two = min(times[1]), min(times[2])
        rows.append([label, f"{one:.3f}", f"{two:.3f}", f"{one / two:.2f}×"])
    crt_common.table("64 targets, wall seconds (minimum of 5)", ["", "1 worker", "2 workers", "gain"], rows)


def resident() -> float:
    """Current resident memory, GiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**30


def million_cells(n, K, n_genes, treated_each):
    """Inputs with random float32 outcomes; the guide of each gene is in `treated_each` cells."""
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((n, K), dtype=np.float32)
    C = np.column_stack([np.ones(n, np.float32), rng.standard_normal((n, 8), dtype=np.float32)])
    indices = np.concatenate([np.sort(rng.choice(n, treated_each, replace=False)) for _ in range(n_genes)]).astype(np.int32)
    guides = csc_matrix((np.ones(indices.size, np.float32), indices, np.arange(n_genes + 1) * treated_each), shape=(n, n_genes))
    names = np.array([f"G{g:03d}" for g in range(n_genes)], dtype=object)
    return make_inputs(
        crt_common.rows_of(C, Y),
        guides=guides,
        guide_map=GuideMap(guide=names, gene=names, is_ntc=np.zeros(n_genes, bool)),
        program_names=[f"program_{k}" for k in range(K)],
        covar_names=[f"covariate_{j}" for j in range(9)],
        cells=np.arange(n),
    )


def measured(inputs, settings) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and additional memory (MiB) of a run with two workers."""
    most, stop = [resident()], threading.Event()

    def watch():
        while not stop.wait(0.02):
            most[0] = max(most[0], resident())

    before, watcher = resident(), threading.Thread(target=watch)
    watcher.start()
    start, cpu = time.perf_counter(), time.process_time()
    all_units(inputs.gene_to_cols, inputs, settings, keep=lambda unit: unit.result, n_jobs=2)
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    stop.set()
    watcher.join()
    return wall, used, (most[0] - before) * 1024


def million(n=1_000_000, K=60, n_genes=200) -> None:
    """Time and memory of every method; resamples only with 4,000 treated cells."""
    resampled = {"bernoulli, skew-normal": {"skew_normal": True}, "stratified, skew-normal": {"skew_normal": True, "sampler": PERMUTED}}
    rows = []
    for treated in (4_000, 25_000):
        inputs = million_cells(n, K, n_genes, treated)
        held = (inputs.rows.nbytes + inputs.columns.nbytes) / 2**30
        for label, options in (EXACT | resampled if treated == 4_000 else EXACT).items():
            wall, used, memory = measured(inputs, UnitSettings(**options))
            rows.append([label, f"{treated:,}", f"{wall:.1f}", f"{used:.1f}", f"{held:.2f}", f"{memory:.0f}"])
        del inputs
    crt_common.table(
        f"{n:,} cells × {K} programs × {n_genes} targets, B = 1023 where there are resamples, 2 workers",
        ["method", "treated", "wall s", "CPU s", "inputs in float32, GiB", "additional memory of the run, MiB"],
        rows,
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["million"]:
        million()
    else:
        growth()
        workers()
