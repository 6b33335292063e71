"""CPU time per target, compared with `crt_baseline.py`: alternating in one process, median of the rounds, one thread.

    python benchmarks/crt_speed.py [cells=50000] [programs=70] [targets=4] [rounds=3]

The test without resamples is compared with the baseline's empirical p-values. It is timed on all 300 targets of the screen and includes what is computed once
per screen, the ranks and residuals of the outcomes, which a column shows.

Also the time of each part, and a lower bound for it: the memory that must be read or the random numbers that must be drawn.
"""

import sys
import time

import crt_common
import numba as nb
import numpy as np
from crt_baseline import Baseline
from screen import clr, design, make_screen

from crt import BernoulliIndex, StratifiedPermutation, UnitSettings
from crt.engine import all_units
from crt.kernels import random as _random
from crt.kernels import sums as _sums
from crt.kernels.sums import _add_rows
from crt.linear.score_test import ScoreProblem, bernoulli_moments
from crt.propensity import fit_logistic, given_propensity, probability
from crt.pvalues import empirical_pvalues
from crt.sampling.base import Unit
from crt.statistic import Projection, null_statistics
from crt.tails.skew_normal import skew_normal_pvalues

B = 1023
PERMUTED = StratifiedPermutation(stratify_by_batch=False)
CASES = (
    ("bernoulli raw", UnitSettings(n_resamples=B), {}),
    ("bernoulli raw, normal scores", UnitSettings(n_resamples=B, statistic="normal_scores"), {}),
    ("bernoulli skew-normal", UnitSettings(n_resamples=B, skew_normal=True), {"skew_normal": True}),
    ("stratified raw", UnitSettings(n_resamples=B, sampler=PERMUTED), {"sampler": "stratified_perm"}),
    ("saddlepoint, mean", UnitSettings(method="saddlepoint"), {}),
    ("saddlepoint, normal scores", UnitSettings(method="saddlepoint", statistic="normal_scores"), {}),
    ("saddlepoint, Cauchy", UnitSettings(method="saddlepoint", statistic="cauchy"), {}),
    ("saddlepoint, stratified, mean", UnitSettings(method="saddlepoint", sampler=PERMUTED), {"sampler": "stratified_perm"}),
    ("saddlepoint, stratified, normal scores", UnitSettings(method="saddlepoint", statistic="normal_scores", sampler=PERMUTED), {"sampler": "stratified_perm"}),
)


@nb.njit
def repeated_sums(Z, cells, sums):
    """Sums of the same rows for every resample."""
    for b in range(sums.shape[0]):
        _add_rows(sums[b], Z, cells, cells.size, Z.shape[1])


def cpu(work) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def ratios(base, inputs, targets, rounds) -> None:
    """Time the baseline on the first targets and `crt` on 16, or on all without resamples, alternately; times are per target."""
    vectors = [np.bincount(inputs.treated(inputs.gene_to_cols[g]), minlength=inputs.all_cells.size) for g in inputs.genes[:targets]]
    rows = []
    for label, settings, options in CASES:
        names = inputs.genes[:16] if settings.method == "resample" else inputs.genes
        run = lambda names, s=settings: all_units({g: inputs.gene_to_cols[g] for g in names}, inputs, s, keep=lambda u: u.result)  # noqa: E731
        run(names[:16])
        base.test(vectors[0], 15, **options)
        plain = settings.method == "resample" and settings.statistic == "mean"
        once = 0.0 if plain else best(lambda s=settings: ScoreProblem.of(inputs.blocks(), len(inputs.rows), s.statistic), n=3)
        pairs = []
        for _ in range(rounds):
            theirs = cpu(lambda o=options: [base.test(x, B, **o) for x in vectors]) / targets
            pairs.append((theirs, cpu(lambda r=run, n=names: r(n)) / len(names)))
        theirs, ours = np.median(pairs, axis=0)
        ratio = [a / b for a, b in pairs]
        spread = f"{min(ratio):.0f}–{max(ratio):.0f}"
        rows.append([label, f"{theirs * 1e3:.0f}", len(names), f"{ours * 1e3:.2f}", f"{np.median(ratio):.0f}×", spread, f"{once:.0f}"])
    header = ["", "baseline, ms/target", "targets", "crt, ms/target", "ratio", "range", "once per screen, ms"]
    mean = np.mean([inputs.treated(c).size for c in inputs.gene_to_cols.values()])
    n, p, K = inputs.all_cells.size, len(inputs.covar_names), len(inputs.program_names)
    crt_common.table(f"{n:,} cells, {K} programs, p = {p}, {mean:.0f} treated, B = {B}", header, rows)


def best(work, n=7) -> float:
    """Milliseconds, the minimum of several calls."""
    work()
    return min(cpu(work) for _ in range(n)) * 1e3


def breakdown(inputs) -> None:
    """Time of each part of the test of one target."""
    genes = list(inputs.genes)[:16]
    sets = [inputs.treated(inputs.gene_to_cols[g]) for g in genes]
    n, width = inputs.rows.shape
    blocks, score = inputs.blocks(), np.stack([inputs.columns[:, own].sum(1, dtype=float) for own in sets])
    fit = fit_logistic(blocks, score)
    t, p = sets[0], probability(inputs.columns, fit.beta[0])
    unit = Unit(cells=inputs.all_cells, treated=t, propensity=given_propensity(p), whole=True)
    projection = Projection.of(inputs.gram, inputs.cross)
    K = len(inputs.program_names)
    bernoulli, stratified = BernoulliIndex().bind(inputs), PERMUTED.bind(inputs)
    sums, _ = bernoulli.sums(unit, inputs.rows, B, 1)
    null, _ = null_statistics(sums, projection, K)
    own, q = inputs.rows[t].astype(float).sum(0), inputs.gram.shape[0]
    observed = projection.coefficients(own[:q], own[q : q + K])[0]
    raw = empirical_pvalues(observed, null.T)
    hazard, counts = -np.log1p(-p), np.zeros(B, np.int64)
    state = np.uint64(1)
    out, value = np.empty(_random.BLOCK), np.empty(_random.BLOCK)
    drawn = t.size * B
    n_drawn = drawn // _random.BLOCK
    floor_draw = best(lambda: [_random.fill_exponentials(out, value, state) for _ in range(n_drawn)])
    line = np.ones((16, width), np.float32)
    floor_add = best(lambda: repeated_sums(line, np.zeros(t.size, np.int32), sums.copy()))
    passes = float(fit.n_iter.mean())
    stream = best(lambda: inputs.columns.sum())
    strata = stratified.strata(unit)
    problem = ScoreProblem.of(blocks, n, "mean")
    every = [probability(inputs.columns, beta) for beta in fit.beta]
    stacked, Y = np.stack(every).astype(np.float32), np.ascontiguousarray(inputs.Y)
    one = np.ones((n, 1), np.float32)
    single = np.zeros((B, 1), np.float32)
    fitting = best(lambda: fit_logistic(blocks, score)) / 16 + best(lambda: probability(inputs.columns, fit.beta[0]))
    fused, both = best(lambda: bernoulli.sums(unit, inputs.rows, B, 1)), best(lambda: stratified.sums(unit, inputs.rows, B, 1))
    rows = [
        ["propensity", fitting, f"{stream * (passes + 1):.2f}", f"reading the design {passes:.0f} + 1 times"],
        [
            "sampling (bernoulli)",
            best(lambda: _sums.bernoulli_indices(hazard, counts, np.empty(0, np.int32), state)),
            f"{floor_draw:.2f}",
            f"{drawn:,} exponentials",
        ],
        ["sampling and sums, fused (bernoulli)", fused, f"{floor_draw + floor_add:.2f}", f"the exponentials, and {drawn:,} rows of {width} from the L1 cache"],
        ["strata", best(lambda: stratified.strata(unit)), "", ""],
        ["sampling (stratified)", best(lambda: _sums.stratified_sums(one, strata.cells.copy(), strata.offsets, strata.n_treated, single, state)), "", ""],
        ["sampling and sums, fused (stratified)", both, f"{floor_add:.2f}", "rows from the L1 cache"],
        ["statistic", best(lambda: null_statistics(sums, projection, K)), f"{best(lambda: null.copy()):.2f}", "copying the result"],
        ["raw p", best(lambda: empirical_pvalues(observed, null.T)), f"{best(lambda: null.max()):.2f}", "reading the null once"],
        ["skew-normal", best(lambda: skew_normal_pvalues(observed, null.T, raw=raw)), f"{best(lambda: np.sort(null, axis=1)):.2f}", "sorting the null"],
        [
            "moments (saddlepoint)",
            best(lambda: bernoulli_moments(problem, fit.beta)) / 16,
            f"{best(lambda: [stacked @ Y for _ in range(4)]) / 16:.2f}",
            "four products with the outcomes, by BLAS",
        ],
    ]
    crt_common.table("One target, ms of CPU", ["part", "time", "lower bound", "the lower bound is the time of"], rows)


if __name__ == "__main__":
    cells, programs, targets, rounds = (int(a) for a in (sys.argv[1:] + ["50000", "70", "4", "3"][len(sys.argv) - 1 :]))
    s = make_screen(n_cells=cells, n_programs=programs)
    C, Y = design(s.covariates), clr(s.usage)
    inputs = crt_common.inputs_of(s, C, Y)
    breakdown(inputs)
    ratios(Baseline(C, Y), inputs, targets, rounds)
