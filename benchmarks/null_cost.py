"""Run time of NTC groups, of their diagnostics, and of a QQ plot of a million points.

    python benchmarks/null_cost.py [groups=60]

CPU time with 50,000 cells, 70 programs, B = 1023 and one thread: genes, NTC groups with the ensemble functions, and NTC groups with all diagnostics.
"""

import sys
import time

import crt_common
import numpy as np

from crt import (
    UnitSettings,
    crt_pvals_for_ntc_groups_ensemble,
    crt_pvals_for_ntc_groups_ensemble_skew,
    make_ntc_groups_ensemble,
    make_sceptre_style_synth,
    prepare_crt_inputs,
    qq_plot,
    run_all_genes_union_crt,
)
from crt.null.ensemble import ntc_group_results
from crt.null.units import UnitProbe


def clocked(work):
    """CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main(n_groups: int) -> None:
    """Print one row per kind of run."""
    inputs = prepare_crt_inputs(make_sceptre_style_synth(effect_size=0.0))
    ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=2, max_groups=n_groups // 2)
    genes = inputs.genes[:n_groups]
    settings = UnitSettings(skew_normal=True)
    works = {
        "genes, raw (run_all_genes_union_crt)": lambda: run_all_genes_union_crt(inputs, genes),
        "NTC groups, raw": lambda: crt_pvals_for_ntc_groups_ensemble(inputs, ensemble),
        "genes, skew-normal": lambda: run_all_genes_union_crt(inputs, genes, calibrate_skew_normal=True),
        "NTC groups, skew-normal": lambda: crt_pvals_for_ntc_groups_ensemble_skew(inputs, ensemble),
        "NTC groups, skew-normal, with diagnostics": lambda: ntc_group_results(inputs, ensemble, settings, group_size=6, keep=UnitProbe.of(inputs, settings)),
    }
    for work in works.values():
        work()
    treated = {
        "g": np.mean([inputs.treated(inputs.gene_to_cols[g]).size for g in genes]),
        "N": np.mean([inputs.treated(c).size for m in ensemble for c in m.values()]),
    }
    rows = []
    for name, work in works.items():
        seconds = min(clocked(work) for _ in range(3))
        rows.append([name, f"{treated[name[0]]:.0f}", f"{1000 * seconds / n_groups:.1f}", f"{1e6 * seconds / n_groups / treated[name[0]]:.1f}"])
    crt_common.table(f"{n_groups} units, best of 3", ["run", "mean treated cells", "ms per unit", "µs per treated cell"], rows)
    p = np.random.default_rng(0).random(1_000_000)
    print(f"qq_plot of 1,000,000 p-values: {clocked(lambda: qq_plot({'p': p}).figure.savefig('/dev/null', format='png')):.2f} s, including saving")


if __name__ == "__main__":
    main(int((sys.argv[1:] + ["60"])[0]))
