"""The posterior families compared with NUTS on small screens drawn from the model, and simulation-based calibration.

python benchmarks/hierarchy_families.py table [seeds]      20 genes, 3,000 cells: gene_block, mean_field, NUTS (minutes per seed)
python benchmarks/hierarchy_families.py laplace [seeds]    8,000 cells, 40 genes, effects on single days: compared with a dense Laplace approximation at the same scales and weight
python benchmarks/hierarchy_families.py sbc [screens]      ranks of the true θ among posterior draws; writes benchmarks/figures/sbc.png
"""

import sys
import time
from pathlib import Path

import numpy as np
import pyro
import torch
from common import quiet, trial
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_value
from pyro.poutine import trace
from scipy.stats import chisquare

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for tests.oracles

from data_prep import ScreenDesign
from hierarchy.model import HierarchyModel
from hierarchy.ops import random_walk

SMALL = {"n_cells": 3000, "n_genes": 20, "effects": "model", "frac_null": 0.0}


def nuts(fitted, seed, samples=500, warmup=300):
    """Draw θ, shape (draws, genes, non-reference fates, days), from the same model at the same weight, starting from a posterior draw."""
    model: HierarchyModel = fitted.model
    pyro.set_rng_seed(seed)
    sites = {k: v["value"] for k, v in trace(fitted.posterior).get_trace().nodes.items() if v["type"] == "sample" and not k.startswith("_")}
    kernel = NUTS(model, max_tree_depth=7, init_strategy=init_to_value(values=sites))
    mcmc = MCMC(kernel, num_samples=samples, warmup_steps=warmup, disable_progbar=True)
    mcmc.run()
    s = mcmc.get_samples()
    return random_walk(s["tau"] * s["z"], s["sigma_time"] * s["eps"]).transpose(1, 2).double().numpy()


def table(n_seeds=3):
    """Print RMSE, coverage and the differences from NUTS."""
    print("| seed | family | RMSE to truth | relative to NUTS | coverage of 90 % | RMS (mean − NUTS) / SD | median SD / NUTS | SE last / first day | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in range(n_seeds):
        fits = {name: trial(ScreenDesign(**SMALL), seed=seed, posterior=name) for name in ("gene_block", "mean_field")}
        truth = fits["gene_block"].theta
        start = time.perf_counter()
        draws = nuts(fits["gene_block"].fitted, seed)
        rows = {name: (t.mean, t.sd, t.fitted.seconds) for name, t in fits.items()} | {"NUTS": (draws.mean(0), draws.std(0), time.perf_counter() - start)}
        exact_mean, exact_sd, _ = rows["NUTS"]
        rmse = {name: np.sqrt(((m - truth) ** 2).mean()) for name, (m, _, _) in rows.items()}
        for name, (mean, sd, seconds) in rows.items():
            inside = (np.abs(mean - truth) < 1.6449 * sd).mean()
            away, ratio = np.sqrt((((mean - exact_mean) / exact_sd) ** 2).mean()), np.median(sd / exact_sd)
            growth = np.median(sd[..., -1] / sd[..., 0])
            print(
                f"| {seed} | {name} | {rmse[name]:.4f} | {rmse[name] / rmse['NUTS']:.3f} | {inside:.3f} | {away:.3f} | {ratio:.3f} | {growth:.2f} | {seconds:.1f} |",
                flush=True,
            )


def laplace(n_seeds=3):
    """Compare means and standard errors with a dense Newton mode and its inverse Hessian."""
    from hierarchy import Priors
    from tests.oracles import DenseLaplace

    print("| seed | w | σ_guide | RMS (mean − Laplace) / SE | median SE / Laplace | SE / Laplace, 5–95 % |\n|---|---|---|---|---|---|")
    for seed in range(n_seeds):
        t = trial(ScreenDesign(n_cells=8000, n_genes=40, n_ntc_guides=12), seed=seed)
        scales = t.fitted.posterior.integration_points(1, seed=0)[0][0].exp().numpy()
        mean, sd = DenseLaplace(t.fitted.model.data, scales, t.fitted.weight, Priors(), n_newton=8).theta()
        low, high = np.quantile(t.sd / sd, [0.05, 0.95])
        away = np.sqrt((((t.mean - mean) / sd) ** 2).mean())
        guide = ", ".join(f"{s:.3f}" for s in scales[:, -1])
        print(f"| {seed} | {t.fitted.weight:.2f} | {guide} | {away:.3f} | {np.median(t.sd / sd):.4f} | {low:.3f}–{high:.3f} |", flush=True)


def sbc(n_screens=400, n_draws=99, n_bins=20):
    """Ranks of θ for two random gene-days of each of many screens, with new scales drawn for each screen."""
    rng = np.random.default_rng(0)
    ranks = []
    for i in range(n_screens):
        scales = {"tau": abs(rng.normal(0, 0.6)) + 0.02, "sigma_time": abs(rng.normal(0, 0.3)) + 0.02, "sigma_guide": abs(rng.normal(0, 0.3)) + 0.02}
        t = trial(ScreenDesign(**(SMALL | scales | {"n_cells": 2000})), seed=1000 + i)
        draws = t.fitted.draws(n_draws).theta.numpy()
        for gene in rng.choice(t.theta.shape[0], 2, replace=False):
            f, d = rng.integers(t.theta.shape[1]), rng.integers(t.theta.shape[2])
            ranks.append((draws[:, gene, f, d] < t.theta[gene, f, d]).sum())
    counts = np.histogram(ranks, bins=n_bins, range=(-0.5, n_draws + 0.5))[0]
    test = chisquare(counts)
    print(
        f"{len(ranks)} ranks in {n_bins} bins: χ² = {test.statistic:.1f}, p = {test.pvalue:.3f}; mean rank {np.mean(ranks) / n_draws:.3f}; counts {counts.tolist()}"
    )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    expected = len(ranks) / n_bins
    axes.bar(np.arange(n_bins) + 0.5, counts, width=0.92, color="#0072B2")
    axes.axhspan(expected - 1.96 * expected**0.5, expected + 1.96 * expected**0.5, color="0.75", zorder=0, label="95 % of a bin")
    axes.set(xlabel=f"rank of the true θ among {n_draws} posterior draws (bin)", ylabel="screens × effects", title=f"χ² p = {test.pvalue:.2f}")
    axes.legend(frameon=False)
    out = Path(__file__).parent / "figures" / "sbc.png"
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    quiet()
    torch.set_default_dtype(torch.float32)
    what, rest = sys.argv[1] if len(sys.argv) > 1 else "sbc", [int(a) for a in sys.argv[2:]]
    {"table": table, "laplace": laplace, "sbc": sbc}[what](*rest)
