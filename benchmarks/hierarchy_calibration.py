"""Calibration of the standard errors: coverage, false calls and RMSE of the daywise effects on many kinds of simulated screens.

python benchmarks/hierarchy_calibration.py [seeds [first seed]]   means over the seeds; by default 20,000 cells, 100 genes × 6 guides, 4 days, 3 fates, MOI 5.5

Coverage is that of nominal 90 % intervals, for gene-days without (nulls) and with an effect (active) apart; calls are those with |z| > 1.96.
"""

import sys
import warnings

import numpy as np
from common import covered, quiet, trial

from data_prep import ScreenDesign


def redrawn(precision):
    """Dirichlet noise about the simulated probabilities, whose own precision should be large; `precision(adata)` is that of each cell."""

    def change(adata, rng):
        draw = rng.standard_gamma(np.maximum(adata.obsm["lineages_fwd"].to_numpy(), 1e-9) * precision(adata)[:, None])
        draw = np.maximum(draw, 1e-300)
        adata.obsm["lineages_fwd"].iloc[:, :] = draw / draw.sum(1, keepdims=True)
        return adata

    return change


def clones(adata, rng, copies=5):
    """Every cell five times, with its guides and with noise about its fate probabilities."""
    ids = np.repeat(np.arange(adata.n_obs), copies)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = adata[ids].copy()
    adata.obs_names_make_unique()
    adata.obs["clone"] = ids.astype(str)
    return redrawn(lambda a: np.full(a.n_obs, 50.0))(adata, rng)


def empty(adata, rng):
    """Each gene loses its cells on one day with probability 1/4."""
    guides, day = adata.obsm["guide"].tolil(), adata.obs["day"].cat.codes.to_numpy()
    gene_of = adata.uns["guide_map"]["gene_name"].to_numpy()
    for gene in sorted(set(gene_of) - {"non-targeting"}):
        if rng.random() < 0.25:
            guides[np.ix_(np.flatnonzero(day == rng.integers(day.max() + 1)), np.flatnonzero(gene_of == gene))] = 0
    adata.obsm["guide"] = guides.tocsr()
    adata.obsm["guide"].eliminate_zeros()
    return adata


def bound_to_batches(adata, rng, n_batches=6):
    """Batches that shift the fates and are not known to the fit: half of the cells are in the batch of one of their guides, the others in any."""
    guides = adata.obsm["guide"].tocsr()
    count, batch = np.diff(guides.indptr), rng.integers(n_batches, size=adata.n_obs)
    bound = (count > 0) & (rng.random(adata.n_obs) < 0.5)
    one = guides.indices[guides.indptr[:-1][bound] + (rng.random(bound.sum()) * count[bound]).astype(int)]
    batch[bound] = rng.integers(n_batches, size=guides.shape[1])[one]
    prob = adata.obsm["lineages_fwd"]
    shifted = prob.to_numpy() * np.exp(0.7 * rng.normal(size=(n_batches, prob.shape[1])))[batch]
    prob.iloc[:, :] = shifted / shifted.sum(1, keepdims=True)
    return adata


BY_DAY = redrawn(lambda a: np.array([200.0, 50.0, 10.0, 3.0])[a.obs["day"].cat.codes])
BY_REP = redrawn(lambda a: np.array([100.0, 5.0])[a.obsm["covar"]["rep"].cat.codes])
SMALL = {"n_cells": 1200, "n_genes": 100, "guides_per_gene": 2, "moi": 1.0, "n_ntc_guides": 20}  # 2.5 cells a gene-day
KINDS = {  # options of the design, and of the trial
    "drawn from the model": ({"effects": "model"}, {}),
    "drawn from the model, one-hot": ({"effects": "model", "concentration": None}, {}),
    "day-local, precision 5": ({"concentration": 5.0}, {}),
    "day-local, precision 50": ({}, {}),
    "day-local, precision 500": ({"concentration": 500.0}, {}),
    "day-local, one-hot": ({"concentration": None}, {}),
    "1–12 guides per gene": ({"guides_per_gene": (1, 12)}, {}),
    "few cells (2 %) on the last day": ({"day_weights": (1.0, 1.0, 1.0, 0.06)}, {}),
    "MOI 1": ({"moi": 1.0}, {}),
    "MOI 10": ({"moi": 10.0}, {}),
    "2 fates": ({"fates": ("EC", "MES")}, {}),
    "5 fates": ({"fates": ("EC", "MES", "NEU", "MUS", "SKIN")}, {}),
    "1 day": ({"n_days": 1}, {}),
    "2 days": ({"n_days": 2}, {}),
    "8 days": ({"n_days": 8}, {}),
    "precision 200, 50, 10, 3 by day": ({"concentration": 1e6}, {"change": BY_DAY}),
    "the same, one weight": ({"concentration": 1e6}, {"change": BY_DAY, "likelihood_weight": "common"}),
    "precision 100, 5 by replicate": ({"concentration": 1e6}, {"change": BY_REP}),
    "clones of five": ({"n_cells": 4000, "n_genes": 40, "n_ntc_guides": 60}, {"change": clones}),
    "clones of five, sandwich by clone": ({"n_cells": 4000, "n_genes": 40, "n_ntc_guides": 60}, {"change": clones, "cluster": "clone", "se": "sandwich"}),
    "hidden batches": ({"n_cells": 4000, "n_genes": 10, "guides_per_gene": 3, "n_days": 2, "moi": 1.0, "n_ntc_guides": 120}, {"change": bound_to_batches}),
    "empty gene-days": ({}, {"change": empty}),
    "3 cells a gene-day": (SMALL, {}),
    "3 cells a gene-day, one-hot": (SMALL | {"concentration": None}, {}),
}


def row(design, options, seed):
    """The figures of one screen: of likelihood-type estimates, then of posterior means."""
    t = trial(ScreenDesign(**design), seed=seed, **options)
    null, found = t.null, t.z_estimate
    calls = [100 * (1 - covered(z[null], 1.96)) for z in (t.estimate / t.se, t.mean / t.sd)]
    seen = np.isfinite(t.estimate)
    rmse = [np.sqrt(((values - t.theta)[seen] ** 2).mean()) for values in (t.estimate, t.mean)]
    own = [covered(found[null]), covered(found[~null]), calls[0], rmse[0], t.se_ratio(t.se)]
    posterior = [t.coverage(null & seen), t.coverage(~null & seen), calls[1], rmse[1]]
    return [*own, *posterior, t.fitted.weight, t.ntc_sd, t.ntc_warns, t.fitted.seconds], null.sum(), (~null).sum()


def main(n_seeds=5, first=0):
    """Print one row for each kind of screen."""
    quiet()
    print("| screen | null gene-days × fates | active | b̂: coverage, nulls | active | null calls, % | RMSE | SE last / first day |", end="")
    print(" posterior: coverage, nulls | active | null calls, % | RMSE | w | SD of NTC z | screens with a warning, % | seconds |\n|" + "---|" * 16)
    for name, (design, options) in KINDS.items():
        rows, nulls, active = zip(*(row(design, options, seed) for seed in range(first, first + n_seeds)), strict=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a = np.nanmean(rows, 0)
        own = f"{a[0]:.3f} | {a[1]:.3f} | {a[2]:.1f} | {a[3]:.4f} | {a[4]:.2f}"
        print(f"| {name} | {sum(nulls):,} | {sum(active):,} | {own} | {a[5]:.3f} | {a[6]:.3f} | {a[7]:.1f} | {a[8]:.4f} | ", end="")
        print(f"{a[9]:.4g} | {a[10]:.2f} | {100 * a[11]:.0f} | {a[12]:.2f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
