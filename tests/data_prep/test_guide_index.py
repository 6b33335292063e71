"""The guide → gene index against a slow oracle."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.guide_index import index_guides


@given(st.lists(st.sampled_from(["A", "B", "b", "C1", "C10", "C2"]), min_size=1, max_size=30))
def test_index_against_a_slow_oracle(gene_of_guide):
    index = index_guides(np.array(gene_of_guide, dtype=object))
    genes = sorted(set(gene_of_guide))
    assert index.genes.tolist() == genes
    assert index.guide_to_gene.tolist() == [genes.index(g) for g in gene_of_guide]
    assert index.n_guides_per_gene.tolist() == [gene_of_guide.count(g) for g in genes]
    assert index.gene_offsets.tolist() == [sum(gene_of_guide.count(g) for g in genes[:i]) for i in range(len(genes) + 1)]
    for i, gene in enumerate(genes):
        own = index.guides_by_gene[index.gene_offsets[i] : index.gene_offsets[i + 1]]
        assert own.tolist() == [g for g, name in enumerate(gene_of_guide) if name == gene]
    for name in ("guide_to_gene", "n_guides_per_gene", "gene_offsets", "guides_by_gene"):
        assert getattr(index, name).dtype == np.int64
