"""Guides one by one beside their genes: do they agree, and does a hit depend on one of them?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd

from crt.engine import all_units
from crt.inputs import CRTInputs
from crt.results import CRTResult
from crt.run import run_all_genes_union_crt
from crt.settings import MethodOptions, settings_of
from crt.signatures import shared_options

FDR = 0.1  # false discovery rate of a hit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuideTests:
    """Tests of the guides of the tested genes.

    Attributes
    ----------
    guides
        One row per guide and program: target, guide, program, beta, se, ci_low, ci_high, p, n_treated, reason, and p_without, the p-value of the gene without
        this guide, for hits of genes with several guides.
    hits
        One row per hit, strongest first: target, program, beta, se, p, p_adj, n_guides, guides_agree, the number of guides whose effect has the sign of the
        gene's, p_leave_one_out, the largest p-value of the gene without one of its guides, and robust, whether that is still a discovery. NaN for genes with
        one guide. With beta_centred and p_centred if the table of the result has them.

    Examples
    --------
    >>> from crt import guide_tests, make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> tests = guide_tests(inputs, run_all_genes_union_crt(inputs, method="saddlepoint"), method="saddlepoint")
    >>> len(tests.guides), len(tests.hits)
    (48, 2)
    """

    guides: pd.DataFrame
    hits: pd.DataFrame


@shared_options(MethodOptions, run_all_genes_union_crt)
def guide_tests(inputs: CRTInputs, result: CRTResult, *, fdr: float = FDR, n_jobs: int = 1, **options: Unpack[MethodOptions]) -> GuideTests:
    """Test the guides of each gene by themselves, and the hits of a run without one guide each.

    The p-values are those of the method, not skew-normal ones. With the complement as control group, cells that carry only the guide that is left out are
    control cells.

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
    GuideTests
        Tables of guides and of hits.

    Raises
    ------
    InputError
        On unknown options.

    Examples
    --------
    >>> from crt import guide_tests, make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> result = run_all_genes_union_crt(inputs, method="saddlepoint")
    >>> found = guide_tests(inputs, result, method="saddlepoint")
    >>> found.hits[["target", "program", "guides_agree", "robust"]]
      target    program  guides_agree robust
    0  GENE4  program_3             2  False
    1  GENE4  program_2             2  False
    """
    genes = list(result.pvals_df.index)
    alone = run_all_genes_union_crt(inputs, genes, unit="guide", n_jobs=n_jobs, **options).table.rename(columns={"target": "guide"})
    alone.insert(0, "target", [inputs.guide2gene[guide] for guide in alone["guide"]])
    hits = result.table[result.table["p_adj"] < fdr].sort_values("log10_p", kind="stable")
    without = _without_one(inputs, list(dict.fromkeys(hits["target"])), n_jobs, options)
    guides = alone[["target", "guide", "program", "beta", "se", "ci_low", "ci_high", "p", "n_treated", "reason"]].merge(
        without, how="left", on=["guide", "program"]
    )
    of_hit = pd.MultiIndex.from_frame(guides[["target", "program"]]).isin(pd.MultiIndex.from_frame(hits[["target", "program"]]))
    guides.loc[~of_hit, "p_without"] = np.nan
    return GuideTests(guides=guides, hits=_agreement(hits, guides))


def _without_one(inputs: CRTInputs, genes: Sequence[str], n_jobs: int, options: MethodOptions) -> pd.DataFrame:
    """p of each gene without each of its guides, for genes with several: guide, program, p_without."""
    units, left_out = {}, []
    for gene in genes:
        columns = inputs.gene_to_cols[gene]
        for c in columns if columns.size > 1 else ():
            guide = str(inputs.guide_names[c])
            units[f"{gene} without {guide}"] = columns[columns != c]
            left_out.append(guide)
    found = all_units(units, inputs, settings_of(options), keep=lambda unit: unit.result.p, n_jobs=n_jobs)
    n = len(inputs.program_names)
    programs = np.tile(np.array(inputs.program_names, dtype=object), len(left_out))
    return pd.DataFrame({"guide": np.repeat(np.array(left_out, dtype=object), n), "program": programs, "p_without": np.concatenate([np.empty(0), *found])})


def _agreement(hits: pd.DataFrame, guides: pd.DataFrame) -> pd.DataFrame:
    """How the guides of each hit agree."""
    keys = ["target", "program"]
    centre = (hits["ci_low"] + hits["ci_high"]) / 2
    merged = hits[keys].assign(sign=np.sign(centre)).merge(guides, on=keys, how="left")
    merged["agrees"] = np.sign((merged["ci_low"] + merged["ci_high"]) / 2) == merged["sign"]
    tested = merged[merged["p"].notna()].groupby(keys, sort=False).agg(n_guides=("guide", "size"), guides_agree=("agrees", "sum"))
    worst = merged.groupby(keys, sort=False)["p_without"].max().rename("p_leave_one_out")
    centred = [name for name in ("beta_centred", "p_centred") if name in hits]
    out = hits[[*keys, "beta", "se", "p", "p_adj", *centred]].merge(tested, on=keys, how="left").merge(worst, on=keys, how="left")
    counts = ["n_guides", "guides_agree"]
    out[counts] = out[counts].fillna(0).astype(np.int64)
    robust = (out["p_leave_one_out"] <= out["p"].max()).astype(object)
    return out.assign(robust=robust.where(out["p_leave_one_out"].notna(), None))
