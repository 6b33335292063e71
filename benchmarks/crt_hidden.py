"""False discoveries under a hidden confounder, by Benjamini and Hochberg and relative to the screen's own NTC groups (q_ntc).

    python benchmarks/crt_hidden.py [screens=20]

5,000 cells, 60 genes with 3 guides each, 90 NTC guides, 20 programs. Usage depends on a covariate that the test is not given: a hidden state of the cells, which
shifts each program by a normal amount, and each guide, NTC or not, is more or less frequent in that state. A sixth of the genes have effects on three programs.
False discoveries are those of genes without effects.
"""

import sys
import warnings

import crt_common
import numpy as np
import pandas as pd
import scipy.sparse as sp

from crt import UnitSettings, diagnose_null, ntc_pvalues, prepare_crt_inputs, run_all_genes_union_crt

CELLS, GENES, GUIDES, NTC, PROGRAMS, FDR = 5_000, 60, 3, 90, 20, 0.1
KINDS = {  # SD over guides of the log odds in the hidden state, SD over programs of its effect on usage
    "no confounder": (0.0, 0.0),
    "mild": (0.3, 0.3),
    "strong": (0.5, 0.6),
    "very strong": (0.8, 0.8),
}
METHOD = {"method": "saddlepoint", "statistic": "cauchy"}


def draw(bound: float, shift: float, seed: int):
    """The inputs of the test, and which genes have effects on which programs."""
    import anndata as ad

    rng = np.random.default_rng([seed, 77])
    n_real = GENES * GUIDES
    hidden, depth = rng.random(CELLS) < 0.4, rng.normal(size=CELLS)
    rate = 0.008 * rng.lognormal(0, 0.3, n_real + NTC) * np.exp(np.outer(hidden - 0.4, rng.normal(0, bound, n_real + NTC)) + 0.2 * depth[:, None])
    guides = rng.random(rate.shape) < rate
    carries = guides[:, :n_real].reshape(CELLS, GENES, GUIDES).any(2)
    effect = np.zeros((GENES, PROGRAMS))
    for gene in range(GENES // 6):
        effect[gene, rng.choice(PROGRAMS, 3, replace=False)] = rng.choice([-1, 1], 3) * rng.uniform(0.4, 0.8, 3)
    log_rate = carries @ effect + np.outer(hidden, rng.normal(0, shift, PROGRAMS)) + np.outer(depth, rng.normal(0, 0.2, PROGRAMS))
    usage = rng.gamma(2.0, np.exp(log_rate))
    names = [f"g{i}" for i in range(n_real + NTC)]
    gene = [f"G{g:02d}" for g in np.repeat(np.arange(GENES), GUIDES)] + ["non-targeting"] * NTC
    adata = ad.AnnData(obs=pd.DataFrame({"depth": depth}, index=[f"c{i}" for i in range(CELLS)]))
    adata.obsm["cnmf_usage"] = pd.DataFrame(usage / usage.sum(1, keepdims=True), index=adata.obs_names, columns=[f"p{k}" for k in range(PROGRAMS)])
    adata.obsm["guide_assignment"] = sp.csr_matrix(guides.astype(np.float32))
    adata.uns["guide_names"], adata.uns["guide2gene"] = np.array(names, dtype=object), dict(zip(names, gene, strict=True))
    return prepare_crt_inputs(adata, formula="~ depth"), effect != 0


def main(screens: int) -> None:
    """Print one row per kind of screen and method."""
    rows = []
    for kind, (bound, shift) in KINDS.items():
        counts = {"BH": np.zeros(3), "q_ntc": np.zeros(3), "q_ntc_high": np.zeros(3)}
        shares = {name: [] for name in counts}
        for seed in range(screens):
            inputs, truth = draw(bound, shift, seed)
            result = run_all_genes_union_crt(inputs, **METHOD)
            found = diagnose_null(inputs, UnitSettings(**METHOD, seed=seed))
            table = result.table.join(ntc_pvalues(result, found))
            active = truth.any(1)[:, None]
            for name, column in zip(counts, ("p_adj", "q_ntc", "q_ntc_high"), strict=True):
                hit = (table[column] < FDR).to_numpy().reshape(truth.shape)
                counts[name] += (hit & truth).sum(), (hit & ~truth & active).sum(), (hit & ~active).sum()
                shares[name].append((hit & ~active).sum() / max(1, hit.sum()))
        total = screens * truth.sum()
        rows += [
            [kind, name, f"{int(true)} of {total}", int(indirect), int(false), f"{np.mean(shares[name]):.3f}"]
            for name, (true, indirect, false) in counts.items()
        ]
    header = ["hidden confounder", "adjusted by", "true", "other programs of active genes", "false", "mean false share"]
    crt_common.table(f"{screens} screens of each kind, {FDR:.0%} false discovery rate", header, rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int((sys.argv[1:] + ["20"])[0]))
