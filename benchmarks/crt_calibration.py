"""Type I error under a global null: of both samplers, of the test without resamples, and where guides are bound to batches.

    python benchmarks/crt_calibration.py [screens=20] [part=all]

The parts:

samplers     Empirical and skew-normal p-values at 0.05, 0.01 and 0.001; 5,000 cells, 10 programs and 100 genes with 4 guides, B = 1023. In the screens of
             `screen.py`, guide frequencies differ between batches, a measured covariate. In those of `make_sceptre_style_synth`, they depend on an
             overdispersed burden, and usage is a nonlinear function of it. "KS" is the fraction of (screen, program) pairs whose 100 p-values fail a
             Kolmogorov–Smirnov test of uniformity at 0.05; its expected value is 0.05.
saddlepoint  The test without resamples at levels to 0.00001, as multiples of the level, with 50 programs; also with sparse usage and 20–100 treated cells per
             gene. 400 screens are 2,000,000 tests in each row.
bound        All treated cells of a gene are in one of 6 or 16 batches, in which the outcomes have another SD; 8,000 cells, 50 programs, 100 genes; a
             fourth as many screens.

Intervals are 95 % intervals that count whole screens, because the programs of one screen are correlated.
"""

import sys
from dataclasses import replace

import crt_common
import numpy as np
import pandas as pd
import scipy.sparse as sp
from crt_screens import SPARSE, Plan, draw
from scipy.stats import chi2, kstest
from screen import Screen, clr, design, make_screen

from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt

BURDEN_KEY = "log1p_non_ntc_guides_per_cell"
SAMPLERS = (
    ("bernoulli_index", "bernoulli_index", {}),
    ("stratified_perm", "stratified_perm", {}),
    ("stratified_perm + burden bins", "stratified_perm", {"burden_key": BURDEN_KEY}),
)
LEVELS = (0.05, 0.01, 1e-3, 1e-4, 1e-5)
STATISTICS = {"mean": "mean", "normal scores": "normal_scores"}
BOUND = {
    "empirical, mean": {},
    "skew-normal, mean": {"calibrate_skew_normal": True},
    "empirical, normal scores": {"statistic": "normal_scores"},
    "saddlepoint, mean": {"method": "saddlepoint"},
    "saddlepoint, normal scores": {"method": "saddlepoint", "statistic": "normal_scores"},
    "saddlepoint, permuted in batches, mean": {"method": "saddlepoint", "resampling_method": "stratified_perm"},
}


def by_batch(strength, seed, programs):
    """Inputs of a null screen whose guide frequencies depend on the batch."""
    s = make_screen(n_cells=5000, n_genes=100, guides_per_gene=4, n_ntc=40, n_programs=programs, confounding=strength, seed=1000 + seed)
    return crt_common.inputs_of(s, design(s.covariates), clr(s.usage))


def by_burden(strength, seed, programs):
    """Inputs of a SCEPTRE-style null screen."""
    options = {"n_target_genes": 100, "guides_per_gene": 4, "frac_causal_genes": 0, "ntc_frac_guides": 0.1}
    return prepare_crt_inputs(make_sceptre_style_synth(N=5000, K=programs, confound_strength=strength, seed=1000 + seed, **options))


def few_treated(strength, seed, programs):
    """Inputs of a null screen with sparse usage, 20–100 treated cells per gene, and six batches."""
    return draw(Plan(usage=SPARSE, effect=0.0, genes=100, programs=programs, treated=(20, 100), confounding=strength), 1000 + seed).inputs


KINDS = (
    ("none", by_burden, 0.0),
    ("batch, 0.5", by_batch, 0.5),
    ("batch, 1", by_batch, 1.0),
    ("burden, 0.5", by_burden, 0.5),
    ("burden, 1", by_burden, 1.0),
)
FEW = (("none, few treated", few_treated, 0.0), ("batch, 1, few treated", few_treated, 1.0))


def sampler_options(make, method: str, options: dict[str, object]) -> dict[str, object]:
    """The options of a sampler for a kind of screen; those by batch have no raw batch column."""
    return options if make is by_burden or method == "bernoulli_index" else options | {"stratify_by_batch": False}


def samplers(screens: int) -> None:
    """Print one row for each kind of confounding, sampler and kind of p-value."""
    rows = []
    for confounding, make, strength in KINDS:
        inputs = [make(strength, seed, 10) for seed in range(screens)]
        for label, method, options in SAMPLERS:
            if make is by_batch and "burden_key" in options:
                continue
            kwargs = sampler_options(make, method, options)
            results = [
                run_all_genes_union_crt(i, resampling_method=method, resampling_kwargs=kwargs, return_raw_pvals=True, return_skew_normal=True, n_jobs=2)
                for i in inputs
            ]
            for kind, name in (("raw", "pvals_raw_df"), ("skew-normal", "pvals_skew_df")):
                p = np.array([r[name].to_numpy() for r in results])  # screens, genes, programs
                cells = []
                for level in LEVELS[:3]:
                    share = (p <= level).mean((1, 2))
                    half = 1.96 * share.std(ddof=1) / np.sqrt(screens)
                    cells.append(f"{share.mean():.4f} ± {half:.4f}")
                failed = np.mean([kstest(p[i, :, k], "uniform").pvalue <= 0.05 for i in range(len(p)) for k in range(p.shape[2])])
                rows.append([confounding, label, kind, *cells, f"{failed:.3f}"])
    n = screens * 100 * 10
    crt_common.table(f"{n:,} null tests in each row", ["confounding", "sampler", "p", *(f"p ≤ {level}" for level in LEVELS[:3]), "KS"], rows)


def multiple(hits: np.ndarray, expected: float) -> str:
    """Hits over their expectation with a 95 % interval: that of a Poisson number, wider by the overdispersion of the screens' numbers."""
    total, spread = hits.sum(), max(1.0, hits.var(ddof=1) / max(hits.mean(), 1e-300))
    low, high = chi2.ppf(0.025, 2 * total / spread) / 2 if total else 0.0, chi2.ppf(0.975, 2 * total / spread + 2) / 2
    return f"{total / expected:.3f} ({low * spread / expected:.2f}–{high * spread / expected:.2f})"


def saddlepoint(screens: int) -> None:
    """Print one row for each kind of confounding, sampler and statistic: how often p-values come, over their level."""
    rows = []
    for confounding, make, strength in (*KINDS, *FEW):
        hits: dict[tuple[str, str], list[list[int]]] = {(method, name): [] for _, method, _ in SAMPLERS[:2] for name in STATISTICS}
        tests = dict.fromkeys(hits, 0)
        for seed in range(screens):
            inputs = make(strength, seed, 50)
            for method, name in hits:
                kwargs = sampler_options(make, method, {})
                result = run_all_genes_union_crt(inputs, method="saddlepoint", statistic=STATISTICS[name], resampling_method=method, resampling_kwargs=kwargs)
                p = result.pvals_df.to_numpy()
                hits[method, name].append([int((p <= level).sum()) for level in LEVELS])
                tests[method, name] += int(np.isfinite(p).sum())
        for (method, name), counts in hits.items():
            n = tests[method, name]
            cells = [multiple(np.array(counts)[:, i], n * level) for i, level in enumerate(LEVELS)]
            rows.append([confounding, method, name, f"{n:,}", *cells])
    header = ["confounding", "sampler", "statistic", "tests", *(f"p ≤ {level:g}" for level in LEVELS)]
    crt_common.table("Null p-values of the test without resamples, over the level (95 % interval)", header, rows)


def bound_to_batch(seed: int, n_batches: int, n_treated: int, ratio: float):
    """Inputs of a null screen in which all treated cells are in one batch, the reference level in every other screen."""
    rng = np.random.default_rng([seed, n_batches, n_treated, int(10 * ratio)])
    n, genes, programs = 8000, 100, 50
    batch, own = np.arange(n) % n_batches, seed % 2
    Y = rng.normal(size=(n, programs)) * np.where(batch == own, ratio, 1.0)[:, None] + rng.normal(size=(n_batches, programs))[batch]
    C = np.column_stack([np.ones(n), *(batch == b for b in range(1, n_batches))])
    x = sp.lil_matrix((n, genes), dtype=np.float32)
    for gene in range(genes):
        x[rng.choice(np.flatnonzero(batch == own), n_treated, replace=False), gene] = 1
    inputs = crt_common.inputs_of(Screen(x.tocsr(), np.arange(genes), *(np.empty(0),) * 7), C, Y)
    raw = pd.DataFrame({"batch": [f"b{b:02d}" for b in batch]})
    return replace(inputs, covar_df_raw=raw, batch_raw=raw["batch"])


def bound(screens: int) -> None:
    """Print one row for each design: the shares of p ≤ 0.05 and of p ≤ 0.001 by every method."""
    screens, rows = max(1, screens // 4), []
    for n_batches in (6, 16):
        for n_treated in (25, 100):
            for ratio in (0.6, 1.0, 1.3, 3.0):
                p: dict[str, list[np.ndarray]] = {name: [] for name in BOUND}
                for seed in range(screens):
                    inputs = bound_to_batch(seed, n_batches, n_treated, ratio)
                    for name, options in BOUND.items():
                        p[name].append(run_all_genes_union_crt(inputs, **options).pvals_df.to_numpy())
                rows.append([n_batches, n_treated, ratio, *(f"{np.mean(np.array(v) <= 0.05):.4f}, {np.mean(np.array(v) <= 0.001):.4f}" for v in p.values())])
    title = f"Guides bound to a batch: shares of p ≤ 0.05 and of p ≤ 0.001; {screens * 5000:,} null tests in each cell"
    crt_common.table(title, ["batches", "treated", "SD ratio", *BOUND], rows)


PARTS = {"samplers": samplers, "saddlepoint": saddlepoint, "bound": bound}

if __name__ == "__main__":
    screens, part = (sys.argv[1:] + ["20", "all"][len(sys.argv) - 1 :])[:2]
    for run in PARTS.values() if part == "all" else [PARTS[part]]:
        run(int(screens))
