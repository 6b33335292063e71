"""Simulated high-MOI screens with program usage, for the conditional randomization test."""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from data_prep.errors import InputError
from data_prep.memory import require_memory

NTC = "non-targeting"


def make_sceptre_style_synth(
    N: int = 50_000,
    K: int = 70,
    n_target_genes: int = 300,
    guides_per_gene: int = 6,
    ntc_frac_guides: float = 0.15,
    moi_mean: float = 5.5,
    frac_causal_genes: float = 0.10,
    n_effect_programs: int = 3,
    effect_size: float = 0.6,
    confound_strength: float = 0.0,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate a high-MOI screen with program usage and known effects, for the conditional randomization test.

    The usage of a cell is softmax(C̃Γ + x'E + noise), with C̃ its covariates, x its targeted genes and E the effects. A seventh of the entries are close to
    zero, as in consensus NMF.

    With `confound_strength` s > 0, treatment and usage have common causes. The expected number of guides of a cell is multiplied by exp(0.8·s·a), with a
    standard normal trait a that the covariates show only through depth and the number of guides. The frequency of each guide differs between batches by
    exp(±s·normal). Usage depends on the number of guides by a curve, for which a linear term does not adjust.

    Parameters
    ----------
    N
        Number of cells.
    K
        Number of programs, at least 2.
    n_target_genes
        Number of target genes.
    guides_per_gene
        Number of guides of each gene.
    ntc_frac_guides
        Share of NTC guides among all guides.
    moi_mean
        Mean number of guides in a cell (a guide that is drawn twice is present once).
    frac_causal_genes
        Share of genes with effects.
    n_effect_programs
        Number of programs that such a gene affects.
    effect_size
        Size of the effects on the logit scale; their signs are random.
    confound_strength
        Strength s of confounding; 0 for none.
    seed
        Random seed.

    Returns
    -------
    anndata.AnnData
        `obsm["cnmf_usage"]`, `obsm["guide_assignment"]` (CSR), `obsm["covar"]` (DataFrame: batch, log_depth, pct_mito, s_score,
        log1p_non_ntc_guides_per_cell), `uns["guide2gene"]`, `uns["guide_names"]`, `uns["program_names"]`, and `uns["true_effects"]` (gene, program, effect).

    Raises
    ------
    InputError
        If a size or a share is out of range.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth
    >>> adata = make_sceptre_style_synth(N=500, K=4, n_target_genes=10, guides_per_gene=2, seed=1)
    >>> adata.obsm["cnmf_usage"].shape, adata.obsm["guide_assignment"].shape
    ((500, 4), (500, 24))
    >>> adata.uns["true_effects"]
        gene    program  effect
    0  GENE6  program_0     0.6
    1  GENE6  program_1    -0.6
    2  GENE6  program_2     0.6
    """
    _check(N, K, n_target_genes, guides_per_gene, ntc_frac_guides, moi_mean, n_effect_programs)
    rng = np.random.default_rng(seed)
    n_targeting = n_target_genes * guides_per_gene
    n_ntc = round(n_targeting * ntc_frac_guides / (1 - ntc_frac_guides))
    gene = np.concatenate([np.repeat(np.arange(n_target_genes), guides_per_gene), np.full(n_ntc, n_target_genes)])
    batch = rng.integers(0, 2, N)
    trait = rng.normal(size=N)
    guides = _guides(rng, N, gene.size, moi_mean, batch, trait, confound_strength)
    targeting = guides[:, :n_targeting]
    burden = np.log1p(np.diff(targeting.tocsr().indptr).astype(np.float64))
    depth = rng.normal(10.0, 0.35, N) + 0.15 * confound_strength * trait
    covariates = np.column_stack([batch, (depth - 10) / 0.35, rng.normal(size=(N, 2))])

    member = sp.csr_matrix((np.ones(n_targeting, np.float32), (np.arange(n_targeting), gene[:n_targeting])), shape=(n_targeting, n_target_genes))
    effects = np.zeros((n_target_genes, K))
    for g in rng.choice(n_target_genes, round(frac_causal_genes * n_target_genes), replace=False):
        effects[g, rng.choice(K, n_effect_programs, replace=False)] = effect_size * rng.choice([-1.0, 1.0], n_effect_programs)
    logits = covariates @ rng.normal(0, 0.25, (4, K)) + rng.normal(0, 0.3, (N, K))
    logits += (targeting @ member).minimum(1) @ effects
    centred = burden - burden.mean()
    logits += confound_strength * np.outer(centred * centred, rng.normal(0, 0.6, K))
    usage = _usage(logits, rng)

    width = len(str(max(1, n_target_genes - 1)))
    genes = [f"GENE{g:0{width}d}" for g in range(n_target_genes)]
    names = [f"{genes[g]}_g{i % guides_per_gene + 1}" for i, g in enumerate(gene[:n_targeting])] + [f"NTC_{i + 1}" for i in range(n_ntc)]
    programs = [f"program_{k}" for k in range(K)]
    cells = pd.Index([f"cell{i}" for i in range(N)])
    adata = ad.AnnData(obs=pd.DataFrame(index=cells))
    adata.obsm["cnmf_usage"] = usage
    adata.obsm["guide_assignment"] = guides
    adata.obsm["covar"] = pd.DataFrame(
        {
            "batch": pd.Categorical(np.array(["batch1", "batch2"])[batch]),
            "log_depth": depth,
            "pct_mito": covariates[:, 2],
            "s_score": covariates[:, 3],
            "log1p_non_ntc_guides_per_cell": burden,
        },
        index=cells,
    )
    adata.uns["guide_names"] = np.array(names)
    adata.uns["guide2gene"] = {name: (genes[g] if g < n_target_genes else NTC) for name, g in zip(names, gene, strict=True)}
    adata.uns["program_names"] = np.array(programs)
    where = np.nonzero(effects)
    adata.uns["true_effects"] = pd.DataFrame({"gene": np.array(genes)[where[0]], "program": np.array(programs)[where[1]], "effect": effects[where]})
    return adata


def _check(N: int, K: int, n_genes: int, guides_per_gene: int, ntc_frac: float, moi: float, n_effect_programs: int) -> None:
    if min(N, n_genes, guides_per_gene) < 1 or K < 2:
        given = f"N={N}, K={K}, n_target_genes={n_genes}, guides_per_gene={guides_per_gene}"
        raise InputError(f"{given}: all must be at least 1, and K at least 2.", "N", "K", "n_target_genes", "guides_per_gene")
    require_memory(8.0 * N * K, f"the usage of {N:,} cells × {K:,} programs", "N", "K")
    require_memory(100.0 * n_genes * guides_per_gene, f"{n_genes * guides_per_gene:,} guides", "n_target_genes", "guides_per_gene")
    if not 0 <= ntc_frac < 1 or not moi > 0:
        raise InputError(f"ntc_frac_guides is {ntc_frac} and moi_mean {moi}; they must be in [0, 1) and positive.", "ntc_frac_guides", "moi_mean")
    if not 0 <= n_effect_programs <= K:
        raise InputError(f"n_effect_programs is {n_effect_programs}; there are {K} programs.", "n_effect_programs")


def _guides(rng: np.random.Generator, n: int, n_guides: int, moi: float, batch: np.ndarray, trait: np.ndarray, strength: float) -> sp.csr_matrix:
    """Guide presence (N, G): a Poisson number of guides in each cell, with log-normal frequencies."""
    rate = np.exp(0.8 * strength * trait)
    number = rng.poisson(moi * rate / rate.mean())
    rows = np.repeat(np.arange(n), number)
    weight, tilt = rng.lognormal(0.0, 0.5, n_guides), strength * rng.normal(size=n_guides)
    columns = np.empty(rows.size, np.int64)
    for b in (0, 1):
        w = weight * np.exp((2 * b - 1) * tilt)
        here = batch[rows] == b
        columns[here] = rng.choice(n_guides, int(here.sum()), p=w / w.sum())
    guides = sp.csr_matrix((np.ones(rows.size, np.float32), (rows, columns)), shape=(n, n_guides))
    guides.sum_duplicates()
    guides.data[:] = 1.0
    return guides


def _usage(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Softmax of each row, with a seventh of the entries close to zero, float32."""
    usage = np.exp(logits - logits.max(1, keepdims=True))
    usage[rng.random(usage.shape) < 1 / 7] *= 1e-4
    usage /= usage.sum(1, keepdims=True)
    return usage.astype(np.float32)
