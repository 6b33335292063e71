"""How well a Gaussian describes each gene's likelihood: importance sampling from the Gaussian, gene by gene."""

import torch
from jaxtyping import Float
from torch import Tensor

from hierarchy.coordinates import Coordinates, GeneGroup
from hierarchy.inference.curvature import Pass, pass_over_cells, predictor
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
    data = model.data
    found = pass_over_cells(model.design, coords, mean, None, lambda _: model.weight_table)
    generator = torch.Generator(device=mean.device).manual_seed(seed)
    change_of = _LikelihoodChange(model, predictor(model.design, coords, mean))
    log_ratio = mean.new_zeros(n_draws, data.n_genes)
    draws = [_block_draws(group, found, i, coords.prior_precision(group, log_scale), n_draws, generator) for i, group in enumerate(coords.groups)]
    for s in range(n_draws):
        beta = mean.new_zeros(data.n_guides, data.n_days, coords.n_nonref)
        for group, (x, quadratic) in zip(coords.groups, draws, strict=True):
            beta[group.guides] = torch.einsum("gdk,lkf->lgdf", group.to_beta, x[s].reshape(len(group.genes), group.n_coords, -1))
            log_ratio[s, group.genes] -= quadratic[s]
        log_ratio[s] += change_of(beta)
    weights = torch.softmax(log_ratio, 0)
    fraction = 1 / (n_draws * weights.square().sum(0))
    return torch.where(change_of.checked, fraction, torch.full_like(fraction, torch.nan))


class _LikelihoodChange:
    """The change of the weighted log-likelihood of each gene's cells where that gene's guides alone have other effects."""

    def __init__(self, model: HierarchyModel, eta: Tensor):
        """At the linear predictors `eta` (N, F*)."""
        data = model.data
        self.data, self.n_genes = data, data.n_genes
        self.cell = torch.repeat_interleave(torch.arange(data.n_cells, device=eta.device), data.cell_offsets.diff())
        gene = data.guide_to_gene[data.cell_guides]
        every = max(1, -(-len(gene) // MAX_ENTRIES))
        self.checked = torch.arange(data.n_genes, device=eta.device) % every == 0
        key, self.entry = torch.unique(self.cell * data.n_genes + gene, return_inverse=True)  # one row for each cell and gene
        row_cell, row_gene = key // data.n_genes, key % data.n_genes
        self.used = self.checked[row_gene]
        self.gene = row_gene[self.used]
        self.n_rows = len(key)
        self.weight = model.weight_table.flatten()[model.design.group[row_cell[self.used]]]
        self.prob, self.eta = model.design.prob[row_cell[self.used]], eta[row_cell[self.used]]
        self.before = _log_lik(self.prob, self.eta)

    def __call__(self, beta: Tensor) -> Tensor:
        """The change (L,), float64, for changes `beta` (G, D, F*) of the guides' effects; 0 for genes that are not checked."""
        data = self.data
        shift = self.eta.new_zeros(self.n_rows, beta.shape[-1]).index_add(0, self.entry, beta[data.cell_guides, data.day[self.cell]].to(self.eta.dtype))
        change = _log_lik(self.prob, self.eta + shift[self.used]) - self.before
        return beta.new_zeros(self.n_genes).index_add(0, self.gene, self.weight * change.double())


def _block_draws(group: GeneGroup, found: Pass, i: int, prior: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Steps x from the mean, (n, L_n, K·F*), and the quadratic expansion of their log-likelihood, (n, L_n)."""
    info = found.blocks[i]
    factor = cholesky(info + torch.diag_embed(prior.flatten()), group.genes)
    noise = torch.randn(n, *info.shape[:2], 1, generator=generator, dtype=info.dtype, device=info.device)
    x = torch.linalg.solve_triangular(factor.transpose(1, 2), noise, upper=True).squeeze(-1)
    gradient = group.split(found.gradient).flatten(1)
    return x, (x * gradient).sum(-1) - 0.5 * torch.einsum("sli,lij,slj->sl", x, info, x)


def _log_lik(prob: Tensor, eta: Tensor) -> Tensor:
    return (prob * torch.log_softmax(torch.cat([torch.zeros_like(eta[:, :1]), eta], 1), 1)).sum(1)
