"""Whether effects of the size `mde80` are found with probability 0.8.

    python benchmarks/crt_detectable.py [tests=1000]

On the kinds of screens of `crt_screens.py`. For each test, a gene without effects and a program are chosen at random, as many treated cells as it has are drawn
anew by its fitted propensity, their outcomes are shifted by plus or minus mde80, and the test is made at the threshold of the run. The standard error of a power over 1,000
tests is 0.013.
"""

import sys
import warnings
from dataclasses import replace

import crt_common
import numpy as np
import scipy.sparse as sp
from crt_screens import KINDS

from crt import UnitSettings, detectable_effects, run_all_genes_union_crt
from crt.engine import all_units
from crt.hits.power import discovery_threshold
from crt.propensity import propensity

STATISTICS = ("mean", "normal_scores", "cauchy")


def powers(kind: str, statistic: str, tests: int) -> tuple[float, float, float]:
    """The power over both signs, of positive and of negative shifts."""
    drawn = KINDS[kind](0)
    inputs, rng = drawn.inputs, np.random.default_rng(1)
    result = run_all_genes_union_crt(inputs, method="saddlepoint", statistic=statistic)
    mde = detectable_effects(inputs, result).reshape(drawn.effect.shape)
    threshold, settings = discovery_threshold(result), UnitSettings(method="saddlepoint", statistic=statistic)
    quiet = np.flatnonzero(~drawn.effect.any(1))
    probabilities = {}
    found: dict[int, list[bool]] = {1: [], -1: []}
    for test in range(tests):
        gene, program, sign = rng.choice(quiet), rng.integers(mde.shape[1]), 1 - 2 * (test % 2)
        if gene not in probabilities:
            treated = inputs.treated(inputs.gene_to_cols[inputs.genes[gene]])
            probabilities[gene] = propensity(inputs.columns, treated).p
        odds = probabilities[gene] / (1 - probabilities[gene])
        n = inputs.treated(inputs.gene_to_cols[inputs.genes[gene]]).size
        treated = np.sort(rng.choice(inputs.all_cells.size, n, replace=False, p=odds / odds.sum())).astype(np.int32)
        guides = sp.csc_matrix((np.ones(treated.size), treated, [0, treated.size]), shape=(inputs.all_cells.size, 1))
        shifted = replace(inputs, guides=guides).with_shift(treated, sign * mde[gene, program], np.array([program]))
        found[sign].append(bool(all_units({"g": np.zeros(1, np.int64)}, shifted, settings, keep=lambda unit: unit.result.p)[0][0] <= threshold))
    return float(np.mean(found[1] + found[-1])), float(np.mean(found[1])), float(np.mean(found[-1]))


def main(tests: int) -> None:
    """Print one row per kind of screen and statistic."""
    rows = [[kind, statistic, *(f"{p:.3f}" for p in powers(kind, statistic, tests))] for kind in KINDS for statistic in STATISTICS]
    crt_common.table(f"Power at mde80, {tests} tests each", ["screens", "statistic", "power", "positive", "negative"], rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int((sys.argv[1:] + ["1000"])[0]))
