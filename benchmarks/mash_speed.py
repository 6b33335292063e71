"""Time and memory of mash: 20,000 genes × 4 and × 10 conditions, with one V for all genes and with one for each.

python benchmarks/mash_speed.py [repeats]   least times of the repeats, without reading or writing: on the clock, and of all cores together (which other
processes on the machine change less); a process for each row, whose peak memory is shown
"""

import multiprocessing
import resource
import sys
import time
import warnings

import numpy as np

from hierarchy import fit_mash

N_GENES, SHARE = 20_000, 0.1
ROWS = [(d, covariances, per_gene) for d in (4, 10) for covariances in ("canonical", "mashr", "auto") for per_gene in (False, True)]


def made(n_days, *, per_gene, seed=0):
    """Estimates of which a tenth have an effect: equal, on one day, from a day on, or independent; errors correlate by 0.3, or by 0 to 0.6."""
    rng = np.random.default_rng(seed)
    size = rng.normal(0, 0.5, (N_GENES, 1)) * (np.arange(N_GENES) < SHARE * N_GENES)[:, None]
    day, own = np.arange(n_days), rng.integers(0, n_days, (N_GENES, 1))
    shapes = np.stack([np.ones((N_GENES, n_days)), day == own, day >= own, rng.normal(size=(N_GENES, n_days))])
    effects = size * shapes[rng.integers(0, 4, N_GENES), np.arange(N_GENES)]
    rho = rng.uniform(0, 0.6, N_GENES) if per_gene else np.full(N_GENES, 0.3)
    se = rng.uniform(0.08, 0.3, (N_GENES, n_days))
    noise = np.sqrt(rho)[:, None] * rng.normal(size=(N_GENES, 1)) + np.sqrt(1 - rho)[:, None] * rng.normal(size=(N_GENES, n_days))
    V = rho[:, None, None] + (1 - rho)[:, None, None] * np.eye(n_days)
    return effects + se * noise, se, V if per_gene else V[0]


def one(row, repeats, channel):
    """Least times in seconds, peak memory in GiB, components, and the duality gap."""
    n_days, covariances, per_gene = row
    betahat, se, V = made(n_days, per_gene=per_gene)
    times = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(repeats):
            began = time.perf_counter(), time.process_time()
            fitted = fit_mash(betahat, se, V=V, covariances=covariances)
            fitted.posterior  # noqa: B018  (computed on first use)
            times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    channel.send((np.min(times, 0), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, fitted.prior.n_components, fitted.gap))


def main(repeats):
    """Print one row for each size, set of covariances and kind of V."""
    print("| conditions | covariances | V | components | seconds | CPU seconds | peak memory, GiB | duality gap |")
    print("|---|---|---|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for row in ROWS:
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=one, args=(row, repeats, there))
        child.start()
        seconds, memory, components, gap = here.recv()
        child.join()
        print(
            f"| {row[0]} | {row[1]} | {'each gene' if row[2] else 'common'} | {components} | {seconds[0]:.2f} | {seconds[1]:.2f} | {memory:.2f} | {gap:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
