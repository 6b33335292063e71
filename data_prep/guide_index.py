"""The guide → gene index."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64, Shaped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuideIndex:
    """The genes of G guides: L genes, and the guides of each gene as slices of one array (CSR).

    Attributes
    ----------
    genes
        Names of the genes in sorted order, (L,).
    guide_to_gene
        Gene of each guide, (G,).
    n_guides_per_gene
        Number of guides of each gene, at least 1, (L,).
    gene_offsets
        Cumulative sum of `n_guides_per_gene`, starting at 0, (L + 1,).
    guides_by_gene
        Guides sorted by gene (stable), (G,); `guides_by_gene[gene_offsets[l]:gene_offsets[l + 1]]` are the guides of gene l.
    """

    genes: Shaped[np.ndarray, " genes"]
    guide_to_gene: Int64[np.ndarray, " guides"]
    n_guides_per_gene: Int64[np.ndarray, " genes"]
    gene_offsets: Int64[np.ndarray, " gene_offsets"]
    guides_by_gene: Int64[np.ndarray, " guides"]


def index_guides(gene_of_guide: Shaped[np.ndarray, " guides"]) -> GuideIndex:
    """Index guides by the names of their genes.

    >>> index_guides(np.array(["B", "A", "B"])).guides_by_gene
    array([1, 0, 2])
    """
    guide_to_gene, genes = pd.factorize(np.asarray(gene_of_guide, dtype=object), sort=True)
    guide_to_gene = guide_to_gene.astype(np.int64)
    count = np.bincount(guide_to_gene, minlength=len(genes)).astype(np.int64)
    return GuideIndex(
        genes=np.asarray(genes, dtype=object),
        guide_to_gene=guide_to_gene,
        n_guides_per_gene=count,
        gene_offsets=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        guides_by_gene=np.argsort(guide_to_gene, kind="stable").astype(np.int64),
    )
