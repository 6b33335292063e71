"""Type I error with several guides in a cell, by MOI, control group, what is done with such cells, and burden covariate.

    python benchmarks/crt_moi.py [screens=10]

8,000 cells, 30 genes with 2 guides, 30 NTC guides, 15 programs. "Strong genes": a third of the genes shift four programs strongly. "Size": one property of the
cells drives both usage and the number of guides. Rates are those of null genes at p ≤ 0.05, and in brackets of active genes at p ≤ 0.001. The burden is the
number of targeting guides in the cell: without those of the tested gene ("others"), or all ("total").
"""

import sys
import warnings

import anndata as ad
import crt_common
import numpy as np
import pandas as pd
import scipy.sparse as sp

from crt import add_burden_covariate, prepare_crt_inputs, run_all_genes_union_crt

CELLS, GENES, NTC, PROGRAMS = 8_000, 30, 30, 15
METHOD = {"method": "saddlepoint", "statistic": "cauchy", "min_treated": 7, "min_control": 7}
RUNS = {  # MOI, control group → (multiple_guides, burden)
    (1.2, "ntc_cells"): [("keep", "none"), ("drop", "none"), ("keep", "others"), ("keep", "total")],
    (1.7, "ntc_cells"): [("keep", "none"), ("drop", "none"), ("keep", "others"), ("keep", "total")],
    (5.0, "complement"): [("keep", "none"), ("drop", "none"), ("keep", "others"), ("keep", "total")],
}
KINDS = {"strong genes": (True, False), "size": (False, True), "both": (True, True)}


def draw(moi: float, strong: bool, by_size: bool, seed: int) -> tuple[ad.AnnData, np.ndarray]:
    """A screen, and which genes are active."""
    rng = np.random.default_rng([seed, 5])
    n_real = 2 * GENES
    size, depth = rng.normal(size=CELLS), rng.normal(size=CELLS)
    mean = np.maximum(moi - 1, 0.0) * np.exp(0.6 * size - 0.18 if by_size else np.zeros(CELLS))
    guides = np.zeros((CELLS, n_real + NTC), bool)
    for cell, more in enumerate(rng.poisson(mean)):
        guides[cell, rng.choice(n_real + NTC, min(1 + more, n_real), replace=False)] = True
    carries = guides[:, :n_real].reshape(CELLS, GENES, 2).any(2)
    active = np.arange(GENES) < (GENES // 3 if strong else 0)
    effect = np.zeros((GENES, PROGRAMS))
    for gene in np.flatnonzero(active):
        effect[gene, rng.choice(PROGRAMS, 4, replace=False)] = rng.choice([-1.5, 1.5], 4)
    log_rate = carries @ effect + np.outer(0.4 * by_size * size, np.arange(PROGRAMS) < PROGRAMS // 2) + np.outer(depth, rng.normal(0, 0.2, PROGRAMS))
    usage = rng.gamma(2.0, np.exp(log_rate))
    adata = ad.AnnData(obs=pd.DataFrame({"depth": depth}, index=[f"c{i}" for i in range(CELLS)]))
    adata.obsm["cnmf_usage"] = pd.DataFrame(usage / usage.sum(1, keepdims=True), index=adata.obs_names, columns=[f"p{k}" for k in range(PROGRAMS)])
    adata.obsm["guide_assignment"] = sp.csr_matrix(guides.astype(np.float32))
    names = [f"g{i}" for i in range(n_real + NTC)]
    genes = [f"G{g:02d}" for g in np.repeat(np.arange(GENES), 2)] + ["non-targeting"] * NTC
    adata.uns["guide_names"], adata.uns["guide2gene"] = np.array(names, dtype=object), dict(zip(names, genes, strict=True))
    add_burden_covariate(adata, covar_key=None)
    return adata, active


def rate(p: np.ndarray, level: float) -> float:
    """The share of the defined tests with p ≤ level; NaN where none is."""
    return float((p[np.isfinite(p)] <= level).mean())


def main(screens: int) -> None:
    """Print one row per MOI and treatment of cells with several guides, with a column for each kind of screen."""
    rows = []
    for (moi, control), runs in RUNS.items():
        rates: dict[tuple[str, str], list[str]] = {run: [] for run in runs}
        for strong, by_size in KINDS.values():
            found: dict[tuple[str, str], list[tuple[float, float]]] = {run: [] for run in runs}
            for seed in range(screens):
                adata, active = draw(moi, strong, by_size, seed)
                own = [name for name in adata.obs if name != "depth"]
                for several, burden in runs:
                    covariates = ["depth", *own] if burden == "total" else ["depth"]
                    how = {"control_group": control, "multiple_guides": several, "burden": "others" if burden == "others" else "none"}
                    inputs = prepare_crt_inputs(adata, covariates=covariates, **how)
                    p = run_all_genes_union_crt(inputs, **METHOD).pvals_df.to_numpy()
                    found[several, burden].append((rate(p[~active], 0.05), rate(p[active], 1e-3) if strong else np.nan))
            for run in runs:
                rates[run].append("{:.3f} ({:.2f})".format(*np.nanmean(found[run], axis=0)).replace(" (nan)", ""))
        rows += [[moi, control, *run, *rates[run]] for run in runs]
    crt_common.table(
        f"{screens} screens each: null tests with p ≤ 0.05 (active tests with p ≤ 0.001)", ["MOI", "controls", "several guides", "burden", *KINDS], rows
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int((sys.argv[1:] + ["10"])[0]))
