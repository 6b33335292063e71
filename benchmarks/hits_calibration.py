"""Hits by mash on simulated screens: false calls at lfsr < 0.05, power and RMSE against z-scores and posterior means, and what temporal covariances add.

python benchmarks/hits_calibration.py [seeds]   20,000 cells, 6 guides a gene, 4 days, MOI 5.5; totals and means over the seeds
"""

import sys
import warnings

import numpy as np
from common import quiet

from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import call_hits, fit, fit_mash, hit_estimates, summarise
from hierarchy.inference import gene_block

KINDS = {
    "day-local, precision 5": {"n_genes": 300, "concentration": 5.0},
    "day-local, precision 50": {"n_genes": 300},
    "day-local, one-hot": {"n_genes": 300, "concentration": None},
    "day-local, one-hot, 100 genes": {"concentration": None},
    "constant, precision 5": {"n_genes": 300, "effects": "constant", "concentration": 5.0},
    "early, precision 5": {"n_genes": 300, "effects": "early", "concentration": 5.0},
    "late, precision 5": {"n_genes": 300, "effects": "late", "concentration": 5.0},
    "constant, one-hot": {"n_genes": 300, "effects": "constant", "concentration": None},
}


def calls(found, theta):
    """Number of calls at lfsr < 0.05, and of right ones."""
    called = found.lfsr < 0.05
    return called.sum(), (called & (theta != 0) & (np.sign(found.mean) == np.sign(theta))).sum()


def by_z(z, theta, share):
    """The most right calls by |z|, wherever the limit, whose share of wrong ones is at most this."""
    order = np.argsort(-np.abs(z))
    right = ((theta != 0) & (np.sign(z) == np.sign(theta)))[order].cumsum()
    n = np.arange(1, z.size + 1)
    allowed = (n - right) <= share * n
    return right[allowed].max(initial=0)


def one(design, seed):
    """What one screen gives."""
    screen = simulate_fate_screen(ScreenDesign(**design), seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = fit(build_fate_data(read_screen(screen.adata, max_guides_per_cell=40), ref_fate="EC"))
        effects = summarise(fitted)
        estimates = hit_estimates(fitted, "MES")
        hits, plain = call_hits(estimates), call_hits(estimates, covariances="mashr")
        posterior = effects.of_genes("MES")
        twice = fit_mash(posterior.mean, posterior.sd, covariances="mashr")
    own = hits.estimates
    theta = screen.theta[[list(dict.fromkeys(screen.truth["gene"])).index(g) for g in own.genes], 0]
    se = np.sqrt(own.covariance.diagonal(axis1=1, axis2=2))
    errors = [np.square(x - theta)[np.isfinite(own.betahat)].mean() ** 0.5 for x in (hits.genes.mean, posterior.mean, own.betahat)]
    table = hits.table[hits.called]
    alone = table[table["lfsr_leave_one_guide_out"] < 0.05]
    active = dict(zip(own.genes, (theta != 0).any(1), strict=True))
    return {
        "active": (theta != 0).sum(),
        "mash": calls(hits.genes, theta),
        "plain": calls(plain.genes, theta),
        "twice": calls(twice, theta)[1],
        "z": np.nan_to_num(own.betahat / se).ravel(),
        "theta": theta.ravel(),
        "errors": errors,
        "gain": hits.genes.log_likelihood - plain.genes.log_likelihood,
        "alone": (len(alone), sum(active[g] for g in alone["gene"]), len(table), sum(active[g] for g in table["gene"])),
    }


def row(name, found):
    """One line of the table; calls are means over the seeds."""
    n = len(found)
    total, right = np.sum([f["mash"] for f in found], 0)
    share = (total - right) / max(total, 1)
    z = by_z(np.concatenate([f["z"] for f in found]), np.concatenate([f["theta"] for f in found]), share) / n
    plain_total, plain = np.sum([f["plain"] for f in found], 0)
    errors = np.mean([f["errors"] for f in found], 0)
    gain = np.array([f["gain"] for f in found])
    twice, active = np.mean([f["twice"] for f in found]), np.mean([f["active"] for f in found])
    alone, alone_right, hits, hits_right = np.sum([f["alone"] for f in found], 0)
    calls_text = f"{active:.0f} | {total / n:.1f} | {100 * share:.1f} % | {right / n:.1f} | {z:.1f} | {twice:.1f}"
    plain_text = f"{plain / n:.1f} ({100 * (plain_total - plain) / max(plain_total, 1):.1f} %)"
    errors_text = " | ".join(f"{e:.4f}" for e in errors)
    guides_text = f"{hits / n:.1f} ({100 * (1 - hits_right / max(hits, 1)):.1f} %) | {alone / n:.1f} ({100 * (1 - alone_right / max(alone, 1)):.1f} %)"
    return f"| {name} | {calls_text} | {plain_text} | {errors_text} | {gain.mean():+.1f} ({gain.min():+.1f}) | {guides_text} |"


def main(n_seeds):
    """Print one row for each kind of screen."""
    quiet()
    gene_block.MOST_NODES = 128  # points of the scales, for posterior means alone: more take most of the time with one-hot fates
    print(
        "| screen | active gene-days | calls | null or wrong sign | right calls | by abs(z) at that share | mash of posterior means | without temporal covariances "
        "(wrong) | RMSE mash | RMSE posterior means | RMSE betahat | log-likelihood gained by temporal covariances, mean (least) | gene hits (null) "
        "| with every guide left out (null) |"
    )
    print("|" + "---|" * 14)
    for name, design in KINDS.items():
        print(row(name, [one(design, seed) for seed in range(n_seeds)]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
