"""Run time and memory of a converged fit.

python benchmarks/hierarchy_speed.py ratio [rounds]    compared with 5,000 steps of svi_baseline.py (a few steps are timed, alternating with the fit)
python benchmarks/hierarchy_speed.py growth            10⁴–10⁶ cells × 300–20,000 genes, each in its own process
python benchmarks/hierarchy_speed.py longer [seeds]    compared with a fit with ten times the steps, probes and integration points
"""

import resource
import subprocess
import sys
import time

import numpy as np
from common import quiet

from data_prep import FateData, ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import FitSettings, fit, summarise
from hierarchy.inference import natural as natural_module


def screen_of(n_cells, n_genes, guides_per_gene=6, seed=0) -> FateData:
    """The tensors of a screen with effects on single days."""
    design = ScreenDesign(n_cells=n_cells, n_genes=n_genes, guides_per_gene=guides_per_gene, n_ntc_guides=max(30, n_genes // 10))
    return build_fate_data(read_screen(simulate_fate_screen(design, seed=seed).adata), ref_fate="EC")


def ratio(rounds=3):
    """Time of a converged fit and its table, compared with 5,000 steps of the baseline."""
    import pyro
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoNormal
    from pyro.optim import ClippedAdam
    from screen import make_screen
    from svi_baseline import build

    data = screen_of(50_000, 300)
    model = build(make_screen(n_cells=50_000))
    pyro.set_rng_seed(0)
    svi = SVI(model, AutoNormal(model), ClippedAdam({"lr": 1e-3, "clip_norm": 5.0}), Trace_ELBO())
    svi.step()
    rows = []
    for _ in range(rounds):
        steps = []
        for _ in range(5):
            start = time.perf_counter()
            svi.step()
            steps.append(time.perf_counter() - start)
        start = time.perf_counter()
        fitted = fit(data)
        summarise(fitted)
        took = time.perf_counter() - start
        rows.append([5000 * np.median(steps), took, 5000 * np.median(steps) / took])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for base, own, times in rows:
        print(f"5,000 baseline steps {base:.0f} s; fit and table {own:.2f} s ({fitted.steps} steps); ratio {times:.0f}")
    print(f"median ratio {np.median([r[2] for r in rows]):.0f}; peak of both in one process {peak:.2f} GiB")


def one(n_cells, n_genes, guides_per_gene):
    """Print seconds of the fit and its table, peak memory, and peak memory before the fit, for one size in this process."""
    data = screen_of(n_cells, n_genes, guides_per_gene)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    fitted = fit(data)
    fitted_in = time.perf_counter() - start
    summarise(fitted)
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"| {n_cells:,} | {n_genes:,} | {data.n_guides:,} | {fitted.steps} | {fitted_in:.1f} | {took:.1f} | {peak / 2**20:.2f} | {before / 2**20:.2f} |",
        flush=True,
    )


def growth():
    """Print a table of sizes, each measured in its own process."""
    print("| cells | genes | guides | steps | fit, s | fit and table, s | peak GiB | of which reading GiB |\n|---|---|---|---|---|---|---|---|", flush=True)
    for n_cells in (10_000, 100_000, 1_000_000):
        for n_genes, guides in ((300, 6), (3_000, 6), (3_334, 6), (20_000, 1)):
            if (n_genes == 3_334) != (n_cells == 1_000_000) and n_genes == 3_334:
                continue
            subprocess.run([sys.executable, __file__, "one", str(n_cells), str(n_genes), str(guides)], check=True)


def longer(seeds=3):
    """Compare means and standard errors with a ten times longer fit."""
    print("| seed | RMS of mean differences / SE | largest | median SE ratio | SE ratio, 5–95 % |\n|---|---|---|---|---|")
    default = {name: getattr(natural_module, name) for name in ("STEP_TOLERANCE", "SCALE_TOLERANCE", "WEIGHT_TOLERANCE")}
    for seed in range(seeds):
        data = screen_of(50_000, 300, seed=seed)
        short = summarise(fit(data, settings=FitSettings(seed=seed)))
        for name, value in default.items():
            setattr(natural_module, name, value / 100)
        settings = FitSettings(seed=seed + 100, n_probes=480, n_scale_nodes=640, max_steps=600)
        long = summarise(fit(data, settings=settings))
        for name, value in default.items():
            setattr(natural_module, name, value)
        z = (short.theta_mean - long.theta_mean) / long.theta_sd
        r = short.theta_sd / long.theta_sd
        low, high = np.quantile(r, [0.05, 0.95])
        print(f"| {seed} | {np.sqrt((z**2).mean()):.4f} | {np.abs(z).max():.3f} | {np.median(r):.4f} | {low:.3f}–{high:.3f} |", flush=True)


if __name__ == "__main__":
    quiet()
    what, rest = sys.argv[1] if len(sys.argv) > 1 else "ratio", [int(a) for a in sys.argv[2:]]
    {"ratio": ratio, "growth": growth, "longer": longer, "one": one}[what](*rest)
