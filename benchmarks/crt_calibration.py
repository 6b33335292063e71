"""Type-I error at 0.05, 0.01 and 0.001 under a global null, with 95 % intervals.

    python benchmarks/crt_calibration.py [screens=20]

Each screen has 5,000 cells, 10 programs and 100 genes with 4 guides, and no effects; B = 1023. In the screens of `screen.py`, guide frequencies differ
between batches, a measured covariate. In those of `make_sceptre_style_synth`, they depend on an overdispersed burden, and usage is a nonlinear function of it.
Intervals are 1.96 standard errors of the mean over screens, because the programs of one screen are correlated. "KS" is the fraction of (screen, program)
pairs whose 100 p-values fail a Kolmogorov–Smirnov test of uniformity at 0.05; its expected value is 0.05.
"""

import sys

import crt_common
import numpy as np
from scipy.stats import kstest
from screen import clr, design, make_screen

from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt

BURDEN_KEY = "log1p_non_ntc_guides_per_cell"
SAMPLERS = (
    ("bernoulli_index", "bernoulli_index", {}),
    ("stratified_perm", "stratified_perm", {}),
    ("stratified_perm + burden bins", "stratified_perm", {"burden_key": BURDEN_KEY}),
)
LEVELS = (0.05, 0.01, 0.001)


def by_batch(strength, seed):
    """Inputs of a null screen whose guide frequencies depend on the batch."""
    s = make_screen(n_cells=5000, n_genes=100, guides_per_gene=4, n_ntc=40, n_programs=10, confounding=strength, seed=1000 + seed)
    return crt_common.inputs_of(s, design(s.covariates), clr(s.usage))


def by_burden(strength, seed):
    """Inputs of a SCEPTRE-style null screen."""
    options = {"n_target_genes": 100, "guides_per_gene": 4, "frac_causal_genes": 0, "ntc_frac_guides": 0.1}
    return prepare_crt_inputs(make_sceptre_style_synth(N=5000, K=10, confound_strength=strength, seed=1000 + seed, **options))


KINDS = (
    ("none", by_burden, 0.0),
    ("batch, 0.5", by_batch, 0.5),
    ("batch, 1", by_batch, 1.0),
    ("burden, 0.5", by_burden, 0.5),
    ("burden, 1", by_burden, 1.0),
)


def main(screens: int) -> None:
    """Print one row for each kind of confounding, sampler and kind of p-value."""
    rows = []
    for confounding, make, strength in KINDS:
        inputs = [make(strength, seed) for seed in range(screens)]
        for label, method, options in SAMPLERS:
            if make is by_batch:
                if "burden_key" in options:
                    continue
                options = options | ({"stratify_by_batch": False} if method == "stratified_perm" else {})
            results = [
                run_all_genes_union_crt(i, resampling_method=method, resampling_kwargs=options, return_raw_pvals=True, return_skew_normal=True, n_jobs=2)
                for i in inputs
            ]
            for kind, name in (("raw", "pvals_raw_df"), ("skew-normal", "pvals_skew_df")):
                p = np.array([r[name].to_numpy() for r in results])  # screens, genes, programs
                cells = []
                for level in LEVELS:
                    share = (p <= level).mean((1, 2))
                    half = 1.96 * share.std(ddof=1) / np.sqrt(screens)
                    cells.append(f"{share.mean():.4f} ± {half:.4f}")
                failed = np.mean([kstest(p[i, :, k], "uniform").pvalue <= 0.05 for i in range(len(p)) for k in range(p.shape[2])])
                rows.append([confounding, label, kind, *cells, f"{failed:.3f}"])
    n = screens * 100 * 10
    crt_common.table(f"{n:,} null tests in each row", ["confounding", "sampler", "p", *(f"p ≤ {level}" for level in LEVELS), "KS"], rows)


if __name__ == "__main__":
    main(int((sys.argv[1:] + ["20"])[0]))
