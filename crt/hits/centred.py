"""Effects relative to the median effect of a gene: a strong effect on some programs shifts the centred log-ratios of all others."""

from typing import Unpack

import numpy as np
import pandas as pd

from crt.engine import all_units
from crt.hits.guides import FDR
from crt.inputs import CRTInputs
from crt.results import CRTResult
from crt.run import run_all_genes_union_crt
from crt.settings import MethodOptions, settings_of
from crt.signatures import shared_options


@shared_options(MethodOptions, run_all_genes_union_crt)
def centred_effects(inputs: CRTInputs, result: CRTResult, *, fdr: float = FDR, n_jobs: int = 1, **options: Unpack[MethodOptions]) -> pd.DataFrame:
    """Effects minus the median effect of their gene over programs, and their tests for hits.

    Centred log-ratios sum to zero, so that an effect on one of K programs shifts all others by −1/(K − 1) of it. If most programs of a gene have no effect of
    their own, the gene's median effect is that shift (Zhou et al. 2022, "LinDA: linear models for differential abundance analysis of microbiome compositional
    data", Genome Biology). The test is that of the run, after the median is subtracted from the outcomes of the treated cells: its null hypothesis is that the
    program's effect equals the median.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    result
        Result of `run_all_genes_union_crt` with the same options, on genes.
    fdr
        False discovery rate at which a test is a hit.
    n_jobs
        Number of worker threads. Results do not depend on it.
    **options
        Those of `run_all_genes_union_crt`.

    Returns
    -------
    pandas.DataFrame
        One row per test, in the order of `result.table`: target, program, beta_centred, p_centred; p_centred is NaN where the test is no hit.

    Raises
    ------
    InputError
        On unknown options.

    Examples
    --------
    >>> from crt import centred_effects, make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> result = run_all_genes_union_crt(inputs, method="saddlepoint")
    >>> centred_effects(inputs, result, method="saddlepoint").dropna().round(4)
       target    program  beta_centred  p_centred
    18  GENE4  program_2       -0.5693     0.0029
    19  GENE4  program_3        0.7389     0.0001
    """
    table, K = result.table, len(inputs.program_names)
    effect = ((table["ci_low"] + table["ci_high"]) / 2).to_numpy().reshape(-1, K)
    defined = np.isfinite(effect).any(1)
    median = np.full(len(effect), np.nan)
    median[defined] = np.nanmedian(effect[defined], axis=1)
    p = np.full(effect.shape, np.nan)
    hit = (table["p_adj"] < fdr).to_numpy().reshape(-1, K)
    settings = settings_of(options)
    for row in np.flatnonzero(hit.any(1)):
        gene, programs = str(table["target"].iloc[row * K]), np.flatnonzero(hit[row])
        shifted = inputs.with_shift(inputs.treated(inputs.gene_to_cols[gene]), -median[row], programs)
        p[row, programs] = all_units({gene: inputs.gene_to_cols[gene]}, shifted, settings, keep=lambda unit: unit.result.p, n_jobs=n_jobs)[0]
    centred = table["beta"].to_numpy().reshape(-1, K) - median[:, None]
    return table[["target", "program"]].assign(beta_centred=centred.ravel(), p_centred=p.ravel())
