"""Discoveries at a 10 % false discovery rate by every statistic and method, a t-test and a Wilcoxon test, on simulated and on real screens.

    python benchmarks/crt_power.py [screens=4]

The first table has the kinds of screens of `crt_screens.py`, with 60 genes and 20 programs, a fifth of the genes with effects on three programs. Because the
CLR distributes a small part of an effect over all programs, discoveries in other programs of active genes are counted separately ("indirect"). Discoveries of
inactive genes are false; their share is that of all discoveries. "Missed" are true effects that a method misses but another finds whose false share is at most
0.12. The last table has the real screens of FATESCREEN_SHARED, or of `shared` beside the repository, with NTC cells as controls.
"""

import os
import sys
import warnings
from pathlib import Path

import crt_common
import numpy as np
import pandas as pd
from crt_screens import KINDS
from scipy.stats import false_discovery_control, mannwhitneyu, ttest_ind

from crt import (
    CRTInputs,
    centred_effects,
    crt_pvals_for_ntc_groups_ensemble,
    crt_pvals_for_ntc_groups_ensemble_skew,
    make_ntc_groups_ensemble,
    prepare_crt_inputs,
    run_all_genes_union_crt,
)

FDR, MOST_FALSE, PARTITIONS = 0.1, 0.12, 40
STRATIFIED = {"resampling_method": "stratified_perm", "resampling_kwargs": {"stratify_by_batch": False}}
METHODS = {
    "saddlepoint, mean": {"method": "saddlepoint"},
    "saddlepoint, normal scores": {"method": "saddlepoint", "statistic": "normal_scores"},
    "saddlepoint, Cauchy": {"method": "saddlepoint", "statistic": "cauchy"},
    "saddlepoint, stratified, mean": {"method": "saddlepoint", **STRATIFIED},
    "saddlepoint, stratified, normal scores": {"method": "saddlepoint", "statistic": "normal_scores", **STRATIFIED},
    "resample, mean": {},
    "resample, mean, skew-normal": {"calibrate_skew_normal": True},
    "resample, normal scores": {"statistic": "normal_scores"},
    "resample, normal scores, skew-normal": {"statistic": "normal_scores", "calibrate_skew_normal": True},
}
MARGINAL = {"t-test": lambda a, b: ttest_ind(a, b, equal_var=False).pvalue, "Wilcoxon": lambda a, b: mannwhitneyu(a, b).pvalue}
SCREENS = {
    "papalexi2021_eccite_thp1": (("IFNGR1", 2), ("IFNGR2", 2), ("JAK2", 2), ("STAT1", 2), ("SMAD4", 7)),
    "schraivogel2020_tapseq_k562": (("UBR5", 15), ("FAM83A", 11), ("GATA1_enh", 11), ("STK3", 9), ("RIPK2", 6), ("CPQ", 8)),
}
QUIET = ("CCNE2", "OXR1", "PHF20L1")
LEVELS = (0.05, 0.01, 0.001)


def marginal(name: str, inputs: CRTInputs, units: dict[str, np.ndarray]) -> np.ndarray:
    """P-values (units, programs) of a test without covariates, of the treated cells against the control cells."""
    p = []
    for columns in units.values():
        treated = inputs.treated(columns)
        control = np.setdiff1d(inputs.all_cells if inputs.control_group == "complement" else inputs.ntc_cells, treated)
        p.append(MARGINAL[name](inputs.Y[treated], inputs.Y[control]))
    return np.array(p)


def discoveries(p: np.ndarray) -> np.ndarray:
    """Whether each test is a discovery; undefined tests are none and do not count."""
    hit, known = np.zeros(p.shape, bool), np.isfinite(p)
    hit[known] = false_discovery_control(p[known]) <= FDR
    return hit


def simulated(screens: int) -> None:
    """Print one row for each kind of screen and method."""
    rows, total = [], {}
    for kind, make in KINDS.items():
        hits: dict[str, list[np.ndarray]] = {name: [] for name in (*METHODS, *MARGINAL)}
        effects = []
        for seed in range(screens):
            drawn = make(seed)
            effects.append(drawn.effect)
            for name, options in METHODS.items():
                hits[name].append(discoveries(run_all_genes_union_crt(drawn.inputs, **options).pvals_df.to_numpy()))
            for name in MARGINAL:
                hits[name].append(discoveries(marginal(name, drawn.inputs, drawn.inputs.gene_to_cols)))
        truth = np.array(effects) != 0
        active = truth.any(2, keepdims=True)
        found = {name: np.array(h) for name, h in hits.items()}
        false = {name: (h & ~active).sum() / max(1, h.sum()) for name, h in found.items()}
        findable = np.any([h for name, h in found.items() if false[name] <= MOST_FALSE] or [np.zeros_like(truth)], axis=0) & truth
        for name, h in found.items():
            row = np.array([(h & truth).sum(), (h & findable).sum(), (h & ~truth & active).sum(), (h & ~active).sum()])
            total.setdefault(name, []).append([*row, truth.sum(), findable.sum()])
            rows.append([kind, name, *line(total[name][-1])])
    header = ["method", "true", "missed", "indirect", "false", "false share"]
    crt_common.table(f"{screens} screens of each kind, {FDR:.0%} false discovery rate", ["screens", *header], rows)
    crt_common.table("All kinds together", header, [[name, *line(np.sum(counts, axis=0))] for name, counts in total.items()])


def spread(screens: int) -> None:
    """Print, for each kind of screen, how many discoveries remain where the effect is tested against the gene's median effect (`p_centred`)."""
    rows, options = [], METHODS["saddlepoint, Cauchy"]
    for kind, make in KINDS.items():
        counts = np.zeros(4, int)
        for seed in range(screens):
            drawn = make(seed)
            truth = np.array(drawn.effect) != 0
            result = run_all_genes_union_crt(drawn.inputs, **options)
            centred = centred_effects(drawn.inputs, result, **options)
            hit = (result.table["p_adj"] < FDR).to_numpy().reshape(truth.shape)
            kept = hit & (centred["p_centred"] <= result.table["p"][result.table["p_adj"] < FDR].max()).to_numpy().reshape(truth.shape)
            indirect = ~truth & truth.any(1)[:, None]
            counts += (hit & truth).sum(), (kept & truth).sum(), (hit & indirect).sum(), (kept & indirect).sum()
        rows.append([kind, *map(int, counts)])
    rows.append(["all", *(int(c) for c in np.sum([row[1:] for row in rows], axis=0))])
    crt_common.table("Spread of the CLR", ["screens", "true", "of them with small p_centred", "indirect", "of them with small p_centred"], rows)


def line(counts) -> list[str]:
    """The cells of a row: true, missed, indirect, false and the false share."""
    true, shared, indirect, false, effects, findable = (int(c) for c in counts)
    return [f"{true} of {effects}", findable - shared, indirect, false, f"{false / max(1, true + indirect + false):.3f}"]


def group_pvalues(inputs: CRTInputs, options: dict[str, object], ensemble, size: int) -> pd.DataFrame:
    """P-values of NTC groups by the method of the genes."""
    given = dict(options)
    run = crt_pvals_for_ntc_groups_ensemble_skew if given.pop("calibrate_skew_normal", False) else crt_pvals_for_ntc_groups_ensemble
    return run(inputs, ensemble, group_size=size, **given)


def real(folder: Path) -> None:
    """Print one row for each real screen and method, or why there is none."""
    rows = []
    for screen, positives in SCREENS.items():
        path = folder / "data" / f"{screen}.h5ad"
        if not path.exists():
            print(f"\n{screen} is skipped: there is no {path} (set FATESCREEN_SHARED).")
            continue
        inputs = prepare_crt_inputs(path, control_group="ntc_cells")
        size = round(np.median([columns.size for columns in inputs.gene_to_cols.values()]))
        ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=PARTITIONS, group_size=size)
        groups = {name: columns for partition in ensemble for name, columns in partition.items()}
        index = pd.Index(inputs.genes)
        for name in (*METHODS, *MARGINAL):
            if name in MARGINAL:
                p, ntc = marginal(name, inputs, inputs.gene_to_cols), marginal(name, inputs, groups)
                order = p
            else:
                result = run_all_genes_union_crt(inputs, **METHODS[name])
                p, order = result.pvals_df.to_numpy(), result.table["log10_p"].to_numpy().reshape(result.pvals_df.shape)
                ntc = group_pvalues(inputs, METHODS[name], ensemble, size).to_numpy()
            hit = discoveries(p)
            ranks = [
                1 + int((order < order[index.get_loc(gene), program]).sum())
                for gene, program in ((g, inputs.program_names.index(f"program_{k}")) for g, k in positives)
            ]
            quiet = int(hit[index.isin(QUIET)].sum()) if index.isin(QUIET).any() else ""
            rates = [f"{np.nanmean(ntc <= level):.4f}" for level in LEVELS]
            rows.append(
                [screen.split("_")[0], name, int(np.isfinite(p).sum()), int(hit.sum()), quiet, ", ".join(map(str, ranks)), int(np.isfinite(ntc).sum()), *rates]
            )
    header = ["screen", "method", "tests", "discoveries", "of quiet genes", "ranks of known effects", "NTC tests", *(f"NTC p ≤ {level}" for level in LEVELS)]
    if rows:
        crt_common.table(
            f"Real screens, {FDR:.0%} false discovery rate; {PARTITIONS} partitions of the NTC guides into groups of the genes' size", header, rows
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    simulated(int((sys.argv[1:] + ["4"])[0]))
    spread(int((sys.argv[1:] + ["4"])[0]))
    real(Path(os.environ.get("FATESCREEN_SHARED") or Path(__file__).resolve().parents[2] / "shared"))
