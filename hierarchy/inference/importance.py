"""How well a Gaussian describes each gene's likelihood: importance sampling from the Gaussian, gene by gene."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.blocks.disk import csr_tensor
from hierarchy.cells import CellBlock
from hierarchy.coordinates import Coordinates, GeneGroup
from hierarchy.inference.curvature import Pass, columns_of, pass_over_cells
from hierarchy.inference.linear import cholesky
from hierarchy.model import HierarchyModel

MAX_ENTRIES = 1_000_000  # cells × guides carried that are evaluated; on larger screens an even sample of genes is checked


def effective_fractions(
    model: HierarchyModel,
    coords: Coordinates,
    mean: Float[Tensor, "rows nonref"],
    log_scale: Float[Tensor, "nonref scales"],
    *,
    n_draws: int,
    seed: int,
) -> Float[Tensor, " genes"]:
    """Effective sample size ratio of importance draws of each gene's coordinates, everything else fixed at its posterior mean.

    The draws come from the Gaussian with the curvature at the mean. Their log importance ratio is the change of the log-likelihood of the gene's
    cells less its quadratic expansion, and with normalised weights w the ratio is 1 / (S Σ w²) (Kong, Liu and Wong 1994).

    Parameters
    ----------
    model
        The Pyro model.
    coords
        The coordinates.
    mean
        Posterior means of the coordinates, (rows, F*).
    log_scale
        Logarithms of the scales, (F*, scales).
    n_draws
        Number S of draws for each gene.
    seed
        Of the draws.

    Returns
    -------
    torch.Tensor
        (L,), NaN for genes that were not checked.
    """
    data, design = model.data, model.design
    found = pass_over_cells(design, coords, mean, None, lambda _: model.weight_table)
    generator = torch.Generator(device=mean.device).manual_seed(seed)
    every = max(1, -(-len(data.cell_guides) // MAX_ENTRIES))
    checked = torch.arange(data.n_genes, device=mean.device) % every == 0
    guides = torch.where(checked[data.guide_to_gene])[0]
    beta = torch.zeros(n_draws, data.n_guides, data.n_days, coords.n_nonref, dtype=design.dtype, device=mean.device)
    quadratic = mean.new_zeros(n_draws, data.n_genes)
    for i, group in enumerate(coords.groups):
        x, own = _block_draws(group, found, i, coords.prior_precision(group, log_scale), n_draws, generator)
        x = x.reshape(n_draws, len(group.genes), group.n_coords, -1)
        for s in range(n_draws):
            beta[s, group.guides] = torch.einsum("gdk,lkf->lgdf", group.to_beta, x[s]).to(design.dtype)
        quadratic[:, group.genes] = own
    around = _Around(
        columns=columns_of(design, coords, mean),
        beta=beta[:, guides],
        guides=guides,
        gene=data.guide_to_gene[guides],
        weight=model.weight_table,
        n_genes=data.n_genes,
    )
    log_ratio = design.cells.map_reduce(_changes, around) - quadratic
    weights = torch.softmax(log_ratio, 0)
    fraction = 1 / (n_draws * weights.square().sum(0))
    return torch.where(checked, fraction, torch.full_like(fraction, torch.nan))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Around:
    """Other effects of guides around the mean.

    Attributes
    ----------
    columns
        Effects of the columns of the design at the mean, (G·D + M, F*).
    beta
        Changes of the effects of some guides in each draw, (S, guides, D, F*).
    guides
        Which guides, in order, (guides,).
    gene
        Their genes, (guides,).
    weight
        The weights by day and replicate, (D, R).
    n_genes
        Number of genes.
    """

    columns: Tensor
    beta: Tensor
    guides: Tensor
    gene: Tensor
    weight: Tensor
    n_genes: int


def _changes(block: CellBlock, around: _Around) -> Tensor:
    """The change of the weighted log-likelihood of each gene's cells where its guides alone have other effects, (S, L), float64; 0 for other genes."""
    cell, column = block.carried()
    n_draws, _, n_days, _ = around.beta.shape
    guide = torch.searchsorted(around.guides, column // n_days).clamp_max(len(around.guides) - 1)
    own = around.guides[guide] == column // n_days
    cell, guide, day = cell[own], guide[own], column[own] % n_days
    key, entry = torch.unique(cell * around.n_genes + around.gene[guide], return_inverse=True)  # one row for each cell and gene
    cell, gene = key // around.n_genes, key % around.n_genes
    weight = around.weight.flatten()[block.group[cell]]
    prob, eta = block.prob[cell], (block.rows @ around.columns)[cell]
    before = _log_lik(prob, eta)
    order = torch.argsort(entry, stable=True)
    start = torch.cat([entry.new_zeros(1), torch.bincount(entry, minlength=len(key)).cumsum(0)])
    column, ones = (guide * n_days + day)[order].int(), torch.ones_like(order, dtype=eta.dtype)
    carried = csr_tensor(start.int(), column, ones, (len(key), len(around.guides) * n_days))
    out = weight.new_zeros(n_draws, around.n_genes)
    for s in range(n_draws):
        changed = _log_lik(prob, eta + carried @ around.beta[s].flatten(0, 1))
        out[s].index_add_(0, gene, weight * (changed - before).double())
    return out


def _block_draws(group: GeneGroup, found: Pass, i: int, prior: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Steps x from the mean, (n, L_n, K·F*), and the quadratic expansion of their log-likelihood, (n, L_n)."""
    info = found.blocks[i]
    factor = cholesky(info + torch.diag_embed(prior.flatten()), group.genes)
    noise = torch.randn(n, *info.shape[:2], generator=generator, dtype=info.dtype, device=info.device)
    x = torch.linalg.solve_triangular(factor.transpose(1, 2), noise.permute(1, 2, 0), upper=True).permute(2, 0, 1)
    gradient = group.split(found.gradient).flatten(1)
    return x, (x * gradient).sum(-1) - 0.5 * torch.einsum("sli,lij,slj->sl", x, info, x)


def _log_lik(prob: Tensor, eta: Tensor) -> Tensor:
    return (prob * torch.log_softmax(torch.cat([torch.zeros_like(eta[:, :1]), eta], 1), 1)).sum(1)
