"""Power at a 10 % false discovery rate, with and without confounding: `crt`, the baseline, and a t-test and a Wilcoxon test for each program.

    python benchmarks/crt_power.py [screens=3] [cells=20000]

The screens of `screen.make_screen` have 60 genes and 20 programs; a fifth of the genes have effects. With `confounding`, guide frequencies depend on the
batch, and programs that depend on the batch shift with them. The true effects are the directly shifted programs. Because the CLR distributes a small part
of an effect over all programs, discoveries in other programs of active genes are counted separately ("indirect"). Discoveries of inactive genes are false.
"""

import sys

import crt_common
import numpy as np
from crt_baseline import Baseline
from scipy.stats import false_discovery_control, mannwhitneyu, ttest_ind
from screen import clr, design, make_screen

from crt import BernoulliIndex, StratifiedPermutation, UnitSettings
from crt.engine import all_units
from crt.settings import STAGES

B, EFFECT = 1023, 0.6


def ours(inputs, **options) -> np.ndarray:
    """P-values of all genes and programs: skew-normal ones if requested."""
    settings = UnitSettings(n_resamples=B, **options)
    units = all_units(inputs.gene_to_cols, inputs, settings, keep=lambda unit: unit.result, n_jobs=2)
    return np.array([u.p_skew if settings.skew_normal else u.p_raw for u in units])


def main(screens: int, cells: int) -> None:
    """Print the numbers of true, indirect and false discoveries over all screens."""
    found: dict[tuple[float, str], list[np.ndarray]] = {}
    direct = 0
    for confounding in (0.0, 1.0):
        for seed in range(screens):
            s = make_screen(
                n_cells=cells, n_genes=60, guides_per_gene=4, n_ntc=60, n_programs=20, frac_active=0.2, usage_effect=EFFECT, confounding=confounding, seed=seed
            )
            C, Y = design(s.covariates), clr(s.usage)
            inputs = crt_common.inputs_of(s, C, Y)
            base = Baseline(C, Y)
            x = np.array([np.bincount(inputs.treated(inputs.gene_to_cols[g]), minlength=cells) for g in inputs.genes])
            p = {
                "bernoulli raw": ours(inputs, sampler=BernoulliIndex()),
                "bernoulli skew-normal": ours(inputs, sampler=BernoulliIndex(), skew_normal=True),
                "bernoulli raw, adaptive": ours(inputs, sampler=BernoulliIndex(), stages=STAGES),
                "stratified raw": ours(inputs, sampler=StratifiedPermutation(stratify_by_batch=False)),
                "stratified skew-normal": ours(inputs, sampler=StratifiedPermutation(stratify_by_batch=False), skew_normal=True),
                "baseline raw": np.array([base.test(v, B, seed)[0] for v in x]),
                "baseline skew-normal": np.array([base.test(v, B, seed, skew_normal=True)[0] for v in x]),
                "t-test": np.array([ttest_ind(Y[v == 1], Y[v == 0], equal_var=False).pvalue for v in x]),
                "Wilcoxon": np.array([mannwhitneyu(Y[v == 1], Y[v == 0]).pvalue for v in x]),
            }
            truth = s.usage_effect != 0
            active = truth.any(1, keepdims=True)
            direct += truth.sum() if confounding == 0 else 0
            for name, values in p.items():
                hit = false_discovery_control(values.ravel()).reshape(values.shape) <= 0.1
                found.setdefault((confounding, name), []).append(np.array([(hit & truth).sum(), (hit & ~truth & active).sum(), (hit & ~active).sum()]))
    rows = []
    for (confounding, name), counts in found.items():
        true, indirect, false = np.sum(counts, axis=0)
        rows.append([confounding, name, f"{true} of {direct}", int(indirect), int(false), f"{false / max(1, true + indirect + false):.3f}"])
    header = ["confounding", "method", "true", "indirect", "false", "false discovery proportion"]
    crt_common.table(f"{screens} screens of {cells:,} cells, effect {EFFECT}, B = {B}, 10 % false discovery rate", header, rows)


if __name__ == "__main__":
    given = [int(a) for a in sys.argv[1:]]
    main(*(given + [3, 20_000][len(given) :]))
