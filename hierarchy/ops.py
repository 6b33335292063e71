"""Pure tensor functions of the model, free in their leading dimensions."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.errors import first_few


def gene_sum(values: Float[Tensor, "*batch guides"], guide_to_gene: Int[Tensor, " guides"], n_genes: int) -> Float[Tensor, "*batch genes"]:
    """Sum over the guides of each gene (a functional scatter-add)."""
    return values.new_zeros(*values.shape[:-1], n_genes).index_add(-1, guide_to_gene, values)


def center_within_gene(
    u: Float[Tensor, "*batch guides"], guide_to_gene: Int[Tensor, " guides"], n_guides_per_gene: Int[Tensor, " genes"]
) -> Float[Tensor, "*batch guides"]:
    """u_g minus the mean of u over the guides of g's gene; exactly 0 where a gene has one guide."""
    mean = gene_sum(u, guide_to_gene, n_guides_per_gene.numel()) / n_guides_per_gene.to(u.dtype)
    return u - mean.index_select(-1, guide_to_gene)


def random_walk(first: Float[Tensor, "*batch"], steps: Float[Tensor, "*batch days_less_1"]) -> Float[Tensor, "*batch days"]:
    """θ_0 = first, θ_d = θ_{d−1} + steps_{d−1}."""
    return torch.cat([first.unsqueeze(-1), first.unsqueeze(-1) + steps.cumsum(-1)], -1)


def guide_effect(
    theta: Float[Tensor, "*batch genes days"], delta: Float[Tensor, "*batch guides"], guide_to_gene: Int[Tensor, " guides"]
) -> Float[Tensor, "*batch guides days"]:
    """β_gd = θ_ℓ(g)d + δ_g."""
    return theta.index_select(-2, guide_to_gene) + delta.unsqueeze(-1)


def log_fate_prob(eta: Float[Tensor, "*batch nonref cells"]) -> Float[Tensor, "*batch fates cells"]:
    """log softmax over fates of (0, η): the reference fate comes first."""
    return torch.log_softmax(torch.cat([torch.zeros_like(eta[..., :1, :]), eta], -2), -2)


class _SparseProduct(torch.autograd.Function):
    """matrix @ dense, with the prebuilt transpose for the gradient."""

    @staticmethod
    def forward(ctx, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ grad.contiguous()


def sparse_product(
    matrix: Float[Tensor, "rows cols"], transposed: Float[Tensor, "cols rows"], dense: Float[Tensor, "cols width"]
) -> Float[Tensor, "rows width"]:
    """`matrix @ dense` for CSR `matrix`; `transposed` is its transpose, also CSR."""
    return _SparseProduct.apply(matrix, transposed, dense)


def check_mean_zero(
    delta: Float[Tensor, "*batch guides"],
    guide_to_gene: Int[Tensor, " guides"],
    n_guides_per_gene: Int[Tensor, " genes"],
    genes: tuple[str, ...],
) -> None:
    """Assert that the mean of δ over the guides of each gene is 0 within 1e-5 (1e-4 in float32); the message names the worst genes.

    Parameters
    ----------
    delta
        Guide deviations δ, (…, G).
    guide_to_gene
        Gene of each guide, (G,).
    n_guides_per_gene
        Number of guides of each gene, (L,).
    genes
        Names of the genes, (L,).
    """
    tolerance = 1e-4 if delta.dtype == torch.float32 else 1e-5
    mean = gene_sum(delta, guide_to_gene, n_guides_per_gene.numel()) / n_guides_per_gene.to(delta.dtype)
    worst = mean.abs().reshape(-1, mean.shape[-1]).amax(0)
    if bool((~(worst < tolerance)).any()):
        order = worst.nan_to_num(torch.inf).argsort(descending=True)[:10].tolist()
        named = first_few((f"{genes[i]} ({worst[i]:.2g})" for i in order), 10)
        raise AssertionError(f"the guide deviations δ are not centred within their genes (tolerance {tolerance:g}); worst: {named}")
