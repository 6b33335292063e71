"""Sandwich and posterior standard errors: if the model is correct, and if cells form clones that share fate noise.

python benchmarks/hierarchy_sandwich.py [seeds]
"""

import sys
import warnings

import numpy as np
from common import quiet, trial

from data_prep import ScreenDesign, ScreenKeys, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import FitSettings, fit


def clones(seed, n_founders=4000, copies=5):
    """Coverage of 90 % intervals with both kinds of standard errors; cells have the guides and fate of their founder, with additional noise."""
    screen = simulate_fate_screen(ScreenDesign(n_cells=n_founders, n_genes=40, effects="model"), seed=seed)
    ids = np.repeat(np.arange(n_founders), copies)
    adata = screen.adata[ids].copy()
    adata.obs_names_make_unique()
    draw = np.random.default_rng(seed).standard_gamma(np.maximum(screen.adata.obsm["lineages_fwd"].to_numpy()[ids], 1e-6) * 50)
    adata.obsm["lineages_fwd"].iloc[:, :] = draw / draw.sum(1, keepdims=True)
    adata.obs["clone"] = ids.astype(str)
    data = build_fate_data(read_screen(adata, keys=ScreenKeys(cluster="clone")), ref_fate="EC")
    out = []
    for se in ("posterior", "sandwich"):
        m = fit(data, settings=FitSettings(se=se)).moments()
        out.append(float((np.abs((m.theta_mean.numpy() - screen.theta) / m.theta_sd.numpy()) < 1.6449).mean()))
    return out


def main(n_seeds):
    """Print two tables."""
    print("| screen, one seed a row | coverage, posterior | coverage, sandwich | median SE ratio | 5–95 % |\n|---|---|---|---|---|")
    for name, options in (("precision 50", {}), ("precision 500", {"concentration": 500.0}), ("one-hot", {"concentration": None})):
        for seed in range(n_seeds):
            own, robust = (trial(ScreenDesign(**options), seed=seed, se=se) for se in ("posterior", "sandwich"))
            low, middle, high = np.quantile(robust.sd / own.sd, [0.05, 0.5, 0.95])
            print(f"| {name} | {own.coverage():.3f} | {robust.coverage():.3f} | {middle:.3f} | {low:.2f}–{high:.2f} |", flush=True)
    for seed in range(n_seeds):
        own, robust = clones(seed)
        print(f"| clones of five | {own:.3f} | {robust:.3f} | | |", flush=True)


if __name__ == "__main__":
    quiet()
    warnings.filterwarnings("ignore")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
