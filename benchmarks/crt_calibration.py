"""Type-I error at 0.05, 0.01 and 0.001 under a global null, with 95 % intervals.

    python benchmarks/crt_calibration.py [screens=20]

Each screen: 5,000 cells, 10 programs, 100 genes of 4 guides, B = 1023, from `make_sceptre_style_synth` without effects. Intervals are over screens (the
standard error of their mean), as programs of one screen are correlated.
"""

import sys

import crt_common
import numpy as np
from scipy.stats import kstest

from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
from crt.burden import BURDEN_KEY

SAMPLERS = (
    ("bernoulli_index", "bernoulli_index", {}),
    ("stratified_perm", "stratified_perm", {}),
    ("stratified_perm + burden bins", "stratified_perm", {"burden_key": BURDEN_KEY}),
)
LEVELS = (0.05, 0.01, 0.001)


def main(screens: int) -> None:
    """One row for each confounding, sampler and kind of p."""
    rows = []
    for strength in (0.0, 0.5, 1.0):
        inputs = [
            prepare_crt_inputs(
                make_sceptre_style_synth(
                    N=5000, K=10, n_target_genes=100, guides_per_gene=4, frac_causal_genes=0, ntc_frac_guides=0.1, confound_strength=strength, seed=1000 + seed
                )
            )
            for seed in range(screens)
        ]
        for label, method, options in SAMPLERS:
            results = [
                run_all_genes_union_crt(i, resampling_method=method, resampling_kwargs=options, return_raw_pvals=True, return_skew_normal=True, n_jobs=2)
                for i in inputs
            ]
            for kind, name in (("raw", "pvals_raw_df"), ("skew-normal", "pvals_skew_df")):
                p = np.array([r[name].to_numpy().ravel() for r in results])
                cells = []
                for level in LEVELS:
                    share = (p <= level).mean(1)
                    half = 1.96 * share.std(ddof=1) / np.sqrt(screens)
                    cells.append(f"{share.mean():.4f} ± {half:.4f}")
                rows.append([strength, label, kind, *cells, f"{kstest(p.ravel(), 'uniform').pvalue:.2g}"])
    n = screens * 100 * 10
    crt_common.table(f"{n:,} null tests in each row", ["confounding", "sampler", "p", *(f"p ≤ {level}" for level in LEVELS), "KS p"], rows)


if __name__ == "__main__":
    main(int((sys.argv[1:] + ["20"])[0]))
