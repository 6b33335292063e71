"""Hits by mash on simulated screens: false calls at lfsr < 0.05, power and RMSE against z-scores and posterior means, and what temporal covariances add.

OMP_NUM_THREADS=1 python benchmarks/hits_calibration.py [seeds] [first]   20,000 cells, 6 guides a gene, 4 days, MOI 5.5; totals and means over the seeds,
from 100 on: those below were used in development
"""

import sys
import warnings

import numpy as np
from common import quiet

from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import call_hits, fit, fit_mash, hit_estimates, summarise
from hierarchy.inference import gene_block
from hierarchy.mash.hits import call_hits_jointly, errors_of

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
    """Number of calls at lfsr < 0.05, and of those with the right sign."""
    called = found.lfsr < 0.05
    return called.sum(), rightly(found.mean, theta)[called].sum()


def by_z(screens, share):
    """Right calls by |z|, and all calls, at the limit that gives the most right ones in the other screens with at most this share of wrong ones."""
    found = []
    for i, (z, theta) in enumerate(screens):
        others = [pair for j, pair in enumerate(screens) if j != i]
        size, right = np.abs(np.concatenate([z for z, _ in others])), np.concatenate([rightly(z, theta) for z, theta in others])
        order = np.argsort(-size)
        n, right = np.arange(1, size.size + 1), right[order].cumsum()
        allowed = np.flatnonzero(n - right <= share * n)
        limit = size[order[allowed[-1]]] if allowed.size else np.inf
        called = np.abs(z) >= limit
        found.append((rightly(z, theta)[called].sum(), called.sum()))
    return np.sum(found, 0)


def rightly(estimate, theta):
    """Where the sign is that of the true effect."""
    return (theta != 0) & (np.sign(estimate) == np.sign(theta))


def one(design, seed):
    """What one screen gives."""
    screen = simulate_fate_screen(ScreenDesign(**design), seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = fit(build_fate_data(read_screen(screen.adata, max_guides_per_cell=40), ref_fate="EC"))
        effects = summarise(fitted)
        estimates = hit_estimates(fitted, "MES")
        hits, plain = call_hits(estimates), call_hits(estimates, covariances="mashr")
        both = fitted.estimates().theta_covariance.cpu().numpy()  # over the fates MES and NEU, as the contrasts
        jointly = call_hits_jointly([estimates, hit_estimates(fitted, "NEU")], both)[0]
        free = {name: F @ F.T for name, F in zip(hits.genes.prior.names, hits.genes.prior.factors, strict=True)}
        se, V = errors_of(estimates.covariance)
        free_fit = fit_mash(estimates.betahat, se, V=V, covariances=free)  # as `plain`, without a penalty but on the null
        posterior = effects.of_genes("MES")
        twice = fit_mash(posterior.mean, posterior.sd, covariances="mashr")
    own = hits.estimates
    theta = screen.theta[[list(dict.fromkeys(screen.truth["gene"])).index(g) for g in own.genes], 0]
    errors = [np.square(x - theta)[np.isfinite(own.betahat)].mean() ** 0.5 for x in (hits.genes.mean, posterior.mean, own.betahat)]
    table = hits.table[hits.called]
    alone = table[table["lfsr_leave_one_guide_out"] < 0.05]
    active = dict(zip(own.genes, (theta != 0).any(1), strict=True))
    return {
        "active": (theta != 0).sum(),
        "mash": calls(hits.genes, theta),
        "plain": calls(plain.genes, theta),
        "jointly": calls(jointly.genes, theta),
        "expected": hits.genes.lfsr[hits.genes.lfsr < 0.05].sum(),
        "twice": calls(twice, theta)[1],
        "z": (np.nan_to_num(own.betahat / se).ravel(), theta.ravel()),
        "errors": errors,
        "gain": free_fit.log_likelihood - plain.genes.log_likelihood,
        "alone": (len(alone), sum(active[g] for g in alone["gene"]), len(table), sum(active[g] for g in table["gene"])),
    }


def wrong(right, total):
    """Share of calls that are wrong."""
    return f"{100 * (1 - right / total) if total else 0:.1f} %"


def row(name, found):
    """One line of the table; calls are means over the seeds."""
    n = len(found)
    total, right = np.sum([f["mash"] for f in found], 0)
    share = (total - right) / max(total, 1)
    z, z_total = by_z([f["z"] for f in found], share)
    plain_total, plain = np.sum([f["plain"] for f in found], 0)
    errors = np.mean([f["errors"] for f in found], 0)
    gain = np.array([f["gain"] for f in found])
    twice, active = np.mean([f["twice"] for f in found]), np.mean([f["active"] for f in found])
    alone, alone_right, hits, hits_right = np.sum([f["alone"] for f in found], 0)
    expected = sum(f["expected"] for f in found) / max(total, 1)
    calls_text = (
        f"{active:.0f} | {total / n:.1f} | {100 * share:.1f} % ({100 * expected:.1f} %) | {right / n:.1f} | {z / n:.1f} ({wrong(z, z_total)}) | {twice:.1f}"
    )
    joint_total, joint = np.sum([f["jointly"] for f in found], 0)
    plain_text = f"{plain / n:.1f} ({wrong(plain, plain_total)}) | {joint / n:.1f} ({wrong(joint, joint_total)})"
    errors_text = " | ".join(f"{e:.4f}" for e in errors)
    guides_text = f"{hits / n:.1f} ({wrong(hits_right, hits)}) | {alone / n:.1f} ({wrong(alone_right, alone)})"
    return f"| {name} | {calls_text} | {plain_text} | {errors_text} | {gain.mean():+.1f} ({gain.min():+.1f}) | {guides_text} |"


def main(n_seeds, first):
    """Print one row for each kind of screen."""
    quiet()
    gene_block.MOST_NODES = 128  # points of the scales, for posterior means alone: more take most of the time with one-hot fates
    print(
        "| screen | active gene-days | calls | null or wrong sign (expected by their lfsr) | right calls | by abs(z) at that share (wrong) | mash of posterior "
        "means | covariances of mashr (wrong) | jointly with NEU (wrong) | RMSE mash | RMSE posterior means | RMSE betahat | log-likelihood gained by temporal "
        "covariances, mean (least) | gene hits (null) | with every guide left out (null) |"
    )
    print("|" + "---|" * 15)
    for name, design in KINDS.items():
        print(row(name, [one(design, seed) for seed in range(first, first + n_seeds)]), flush=True)


if __name__ == "__main__":
    main(*(int(given) for given in (sys.argv[1:] + ["20", "100"][len(sys.argv) - 1 :])))
