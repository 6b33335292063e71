"""`Fit` → `GuideEstimates`: the estimate of each guide with the covariance of its errors over days, and that of its gene without it.

Without a guide's cells the likelihood of a gene's coordinates, expanded at the posterior mean x̄, loses the guide's terms: with H_c and g the
information and the gradient of the gene's cells about the day means, and H_c,j and g_j the same without the guide's terms,

    H_j = M H_c,j M',   r_j = H_j x̄ + g_j,

where M takes H_c to the gene's information H beside all other parameters (as for sandwich errors). Nothing is fitted again. A cell that carries
another guide of the gene as well keeps that guide's terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import helmert
from torch import Tensor

from hierarchy.coordinates import GeneGroup, gene_information
from hierarchy.effects import resolve_contrast
from hierarchy.inference.curvature import Pass
from hierarchy.inference.estimates import Estimator, gene_estimates, guide_estimates
from hierarchy.inference.linear import centred_information
from hierarchy.inference.sandwich import root
from hierarchy.mash.hits import HitEstimates, contrast_covariance, contrast_weights
from hierarchy.result import Fit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuideEstimates:
    """Likelihood-type estimates by guide in contrasts of fates, for `call_hits`; NaN without cells. `summarise_guides` makes it.

    Attributes
    ----------
    contrasts
        Names of the contrasts, "A:B".
    beta
        Estimates of the guide effects β, (C, G, D).
    beta_covariance
        Covariances of their errors over days, (C, G, D, D).
    left_out
        Estimates of the effect of the guide's gene without the guide's cells, (C, G, D); NaN where the gene has no other guide.
    left_out_covariance
        Covariances of their errors over days, (C, G, D, D).

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit, summarise_guides
    >>> fitted = fit(build_fate_data(read_screen(adata), ref_fate="EC"))
    >>> summarise_guides(fitted, ["MES", "NEU:MES"]).beta.shape
    (2, 48, 2)
    """

    contrasts: tuple[str, ...]
    beta: Float[np.ndarray, "contrasts guides days"]
    beta_covariance: Float[np.ndarray, "contrasts guides days days"]
    left_out: Float[np.ndarray, "contrasts guides days"]
    left_out_covariance: Float[np.ndarray, "contrasts guides days days"]

    def with_errors_times(self, factor: float) -> "GuideEstimates":
        """The same estimates with all standard errors multiplied by a factor."""
        scaled = {name: getattr(self, name) * factor**2 for name in ("beta_covariance", "left_out_covariance")}
        return replace(self, **scaled)


@torch.no_grad()
def summarise_guides(fit: Fit, contrasts: Sequence[str]) -> GuideEstimates:
    """Estimates of each guide over days, and of its gene without it, with the covariances of their errors; `FitFailed` without a posterior.

    Parameters
    ----------
    fit
        A fit, from `hierarchy.fit`.
    contrasts
        Contrasts of fates, "A" (against the reference) or "A:B".

    Returns
    -------
    GuideEstimates

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit, summarise_guides
    >>> guides = summarise_guides(fit(build_fate_data(read_screen(adata), ref_fate="EC")), ["MES"])
    >>> guides.contrasts, guides.left_out.shape, guides.left_out_covariance.shape
    (('MES:EC',), (1, 48, 2), (1, 48, 2, 2))
    """
    with fit.usable():
        estimator = fit.estimator
        assert estimator is not None  # there is one where there is a posterior
        fates = fit.model.data.fates
        named = [resolve_contrast(contrast, fates) for contrast in contrasts]
        weights = torch.tensor(np.stack([contrast_weights(*pair, fates) for pair in named]), device=estimator.deviations.device)
        shape = (len(weights), len(estimator.carried), estimator.coords.n_days)
        means = [weights.new_full(shape, torch.nan) for _ in range(2)]
        covariances = [weights.new_full((*shape, shape[-1]), torch.nan) for _ in range(2)]
        found = estimator.last_pass(fit.model)
        for i, group in enumerate(estimator.coords.groups):
            carried = estimator.carried[group.guides]
            given = estimator.likelihood.info[i], estimator.likelihood.linear[i], estimator.score[i]
            for part, (mean, cov) in enumerate((guide_estimates(group, *given, carried), _left_out(fit, estimator, i, found))):
                means[part][:, group.guides] = torch.einsum("lgfd,cf->clgd", mean, weights)
                covariances[part][:, group.guides] = torch.einsum("lgfdhe,cf,ch->clgde", cov, weights, weights)
    return GuideEstimates(
        contrasts=tuple(map(":".join, named)),
        beta=means[0].cpu().numpy(),
        beta_covariance=covariances[0].cpu().numpy(),
        left_out=means[1].cpu().numpy(),
        left_out_covariance=covariances[1].cpu().numpy(),
    )


def _left_out(fit: Fit, estimator: Estimator, i: int, found: Pass) -> tuple[Tensor, Tensor]:
    """Estimates of θ of the genes of group `i` without each of their guides, (L_n, n, F*, D), and their covariances, (L_n, n, F*, D, F*, D)."""
    design, group = fit.model.design, estimator.coords.groups[i]
    n_genes, n = group.guides.shape
    f, d = estimator.coords.n_nonref, group.n_days
    centre = estimator.centre.mean
    mean = centre.new_full((n_genes, n, f, d), torch.nan)
    cov = centre.new_full((n_genes, n, f, d, f, d), torch.nan)
    if n == 1:
        return mean, cov
    info, score = estimator.likelihood.info[i], estimator.score[i]
    whole = root(_centred(fit, estimator, group, found), inverse=True)
    beside, robust = root(info) @ whole, root(score) @ whole
    gradient = found.sums.residual[: estimator.carried.numel()].reshape(*estimator.carried.shape, f)[group.guides]
    total, at = group.split(found.gradient), group.split(centre).flatten(1)
    for j in range(n):
        to_beta = group.to_beta.clone()
        to_beta[j] = 0
        rest = _centred(fit, estimator, replace(group, to_beta=to_beta), found)
        shift = torch.einsum("gdk,lgd->lkd", to_beta, design.carried[group.guides])
        lost = torch.einsum("dk,ldf->lkf", group.to_beta[j], gradient[:, j]) - torch.einsum("lkd,ldf->lkf", shift, gradient[:, j])
        own_info, own_score = beside @ rest @ beside.transpose(1, 2), robust @ rest @ robust.transpose(1, 2)
        linear = torch.einsum("lij,lj->li", own_info, at) + (total - lost).flatten(1)
        others, to_own = _without(group, j)
        whole_map = torch.kron(to_own, torch.eye(f, dtype=to_own.dtype, device=to_own.device))
        reduced = [whole_map.T @ matrix @ whole_map for matrix in (own_info, own_score)]
        carried = estimator.carried[others.guides]
        found_mean, found_cov = gene_estimates(others, reduced[0], linear @ whole_map, reduced[1], estimator.deviations, carried)
        mean[:, j], cov[:, j] = found_mean, found_cov
    return mean, cov


def _without(group: GeneGroup, j: int) -> tuple[GeneGroup, Tensor]:
    """The group without guide `j` of each gene, and the map (K, K − 1) from its coordinates to the group's: θ is then the mean over the other guides."""
    n, d = group.guides.shape[1], group.n_days
    keep = [guide for guide in range(n) if guide != j]
    centred = group.basis.shape[1] == n - 1
    basis = (torch.from_numpy(helmert(n - 1).T) if centred else torch.eye(n - 1, dtype=torch.float64)).to(group.to_beta)
    to_own = torch.block_diag(torch.eye(d, dtype=basis.dtype, device=basis.device), group.basis[keep].T @ basis)
    to_beta = group.to_beta[keep] @ to_own
    return replace(group, guides=group.guides[:, keep], to_beta=to_beta, scale_of=group.scale_of[:-1], multiplier=group.multiplier[:-1]), to_own


def _centred(fit: Fit, estimator: Estimator, group: GeneGroup, found: Pass) -> Tensor:
    """Information about the day means of one group's genes."""
    coords = estimator.coords
    one = replace(coords, groups=(group,))
    blocks = [gene_information(group, coords.packed, found.by_guide, found.sums.by_pair)]
    shift = torch.zeros(coords.n_rows, coords.n_days, dtype=torch.float64, device=coords.packed.device)
    shift[group.rows] = torch.einsum("gdk,lgd->lkd", group.to_beta, fit.model.design.carried[group.guides]).flatten(0, 1)
    return centred_information(one, shift, blocks, found.by_guide, found.by_day)[0]


def hit_estimates(fit: Fit, contrast: str) -> HitEstimates:
    """What `call_hits` needs of a fit, in one contrast of fates.

    Parameters
    ----------
    fit
        A fit, from `hierarchy.fit`.
    contrast
        Contrast of fates, "A" (against the reference) or "A:B".

    Returns
    -------
    HitEstimates

    Raises
    ------
    FitFailed
        If the fit has no posterior; its text is the advice of `Fit.outcome`.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit, hit_estimates
    >>> hit_estimates(fit(build_fate_data(read_screen(adata), ref_fate="EC")), "NEU:MES").contrast
    'NEU:MES'
    """
    data, genes, guides = fit.model.data, fit.estimates(), summarise_guides(fit, [contrast])
    weights = contrast_weights(*resolve_contrast(contrast, data.fates), data.fates)
    return HitEstimates(
        contrast=guides.contrasts[0],
        days=data.days,
        genes=np.array(data.genes, dtype=object),
        betahat=np.einsum("lfd,f->ld", genes.theta.cpu().numpy(), weights),
        covariance=contrast_covariance(genes.theta_covariance.cpu().numpy(), weights),
        cells=fit.model.design.gene_cells.cpu().numpy(),
        guides=np.array(data.guides, dtype=object),
        gene_of_guide=data.guide_to_gene.cpu().numpy(),
        guide_betahat=guides.beta[0],
        guide_covariance=guides.beta_covariance[0],
        left_out=guides.left_out[0],
        left_out_covariance=guides.left_out_covariance[0],
    )
