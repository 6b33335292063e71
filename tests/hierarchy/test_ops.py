import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.guide_index import index_guides
from hierarchy.ops import center_within_gene, check_mean_zero, gene_sum, guide_effect, log_fate_prob, random_walk, sparse_product
from tests.oracles import center_by_loop

assignments = st.lists(st.integers(0, 5), min_size=1, max_size=25)


@given(assignments, st.sampled_from([(), (2,), (3, 2)]), st.integers(0, 2**16))
def test_centring_equals_the_loop_over_offsets(genes, leading, seed):
    index = index_guides(np.array([f"g{i}" for i in genes]))
    u = np.random.default_rng(seed).normal(size=(*leading, len(genes)))
    got = center_within_gene(torch.tensor(u), torch.tensor(index.guide_to_gene), torch.tensor(index.n_guides_per_gene))
    np.testing.assert_allclose(got.numpy(), center_by_loop(u, index.guides_by_gene, index.gene_offsets), atol=1e-12)


@given(assignments)
def test_a_lone_guide_is_exactly_zero_and_constants_vanish(genes):
    index = index_guides(np.array([f"g{i}" for i in genes]))
    gene, count = torch.tensor(index.guide_to_gene), torch.tensor(index.n_guides_per_gene)
    u = torch.randn(2, len(genes), generator=torch.Generator().manual_seed(0))
    centred = center_within_gene(u, gene, count)
    assert (centred[:, count[gene] == 1] == 0).all()
    shift = torch.randn(len(count), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(center_within_gene(u + shift[gene], gene, count), centred, atol=1e-5, rtol=0)


def test_centring_has_the_projection_as_its_gradient():
    gene, count = torch.tensor([0, 1, 0, 1, 1, 2]), torch.tensor([2, 3, 1])
    u = torch.randn(2, 6, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: center_within_gene(x, gene, count), (u,))


def test_gene_sum_and_guide_effect():
    gene = torch.tensor([1, 0, 1])
    assert gene_sum(torch.tensor([1.0, 2.0, 3.0]), gene, 2).tolist() == [2.0, 4.0]
    beta = guide_effect(torch.tensor([[1.0, 2.0], [10.0, 20.0]]), torch.tensor([0.1, 0.2, 0.3]), gene)
    torch.testing.assert_close(beta, torch.tensor([[10.1, 20.1], [1.2, 2.2], [10.3, 20.3]]))


def test_random_walk_is_a_cumulative_sum():
    walk = random_walk(torch.tensor([1.0, -1.0]), torch.tensor([[0.5, 0.5], [1.0, -2.0]]))
    assert walk.tolist() == [[1.0, 1.5, 2.0], [-1.0, 0.0, -2.0]]
    assert random_walk(torch.tensor([3.0]), torch.zeros(1, 0)).tolist() == [[3.0]]


def test_log_fate_prob_puts_the_reference_first_and_survives_extremes():
    eta = torch.tensor([[0.0, 200.0], [1.0, -200.0]], dtype=torch.float64)
    got = log_fate_prob(eta)
    assert got.shape == (3, 2) and torch.isfinite(got).all()
    torch.testing.assert_close(got.exp().sum(0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(got[0, 0], -torch.log(torch.tensor(1 + 1 + np.e, dtype=torch.float64)))


def test_sparse_product_and_its_gradient():
    dense = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]], dtype=torch.float64)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda y: sparse_product(dense.to_sparse_csr(), dense.T.contiguous().to_sparse_csr(), y), (x,))
    torch.testing.assert_close(sparse_product(dense.to_sparse_csr(), dense.T.contiguous().to_sparse_csr(), x), dense @ x)


def test_mean_zero_check_names_the_worst_genes():
    gene, count = torch.tensor([0, 0, 1, 1]), torch.tensor([2, 2])
    check_mean_zero(torch.tensor([[1.0, -1.0, 0.5, -0.5]]), gene, count, ("A", "B"))
    with pytest.raises(AssertionError, match=r"not centred.*B \(0\.25\)"):
        check_mean_zero(torch.tensor([[1.0, -1.0, 0.5, 0.0]]), gene, count, ("A", "B"))
    with pytest.raises(AssertionError, match="A"):
        check_mean_zero(torch.tensor([torch.nan, 0.0, 0.0, 0.0]), gene, count, ("A", "B"))
