"""Each gene's likelihood as a Gaussian in its coordinates, and the gene's posterior given the scales."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hierarchy.coordinates import Coordinates, GeneMatrices, GeneVectors
from hierarchy.inference.curvature import Pass
from hierarchy.inference.linear import cholesky


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneLikelihood:
    """Gaussian summaries L(x) ∝ exp(r'x − x'Hx/2) of the likelihood of each gene's coordinates x, one entry for each `GeneGroup`.

    Attributes
    ----------
    info
        Information H, (L_n, K·F*, K·F*) each.
    linear
        Linear terms r, (L_n, K·F*) each. Where H is invertible, H⁻¹r is the estimate by maximum likelihood and H⁻¹ its covariance.
    """

    info: GeneMatrices
    linear: GeneVectors

    @classmethod
    def at_pass(cls, coords: Coordinates, found: Pass, mean: Float[Tensor, "rows nonref"]) -> "GeneLikelihood":
        """The second-order expansion of the weighted log-likelihood at a pass over the cells: H = information, r = H · mean + gradient.

        Parameters
        ----------
        coords
            The coordinates.
        found
            The pass.
        mean
            Means of the coordinates at the pass, (rows, F*).
        """
        return cls(info=found.blocks, linear=linear_terms(coords, found.blocks, found, mean))


def linear_terms(coords: Coordinates, info: GeneMatrices, found: Pass, mean: Float[Tensor, "rows nonref"]) -> GeneVectors:
    """r = H · mean + gradient of each gene.

    With the gradient in place of the prior precision times the mean, which are equal at the optimum, r is accurate where the prior outweighs the data.

    Parameters
    ----------
    coords
        The coordinates.
    info
        Information H of each gene.
    found
        A pass over the cells at `mean`.
    mean
        Means of the coordinates, (rows, F*).
    """
    at = [(group.split(mean).flatten(1), group.split(found.gradient).flatten(1)) for group in coords.groups]
    return [torch.einsum("lij,lj->li", h, own) + gradient for h, (own, gradient) in zip(info, at, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenePosteriors:
    """Gaussian posteriors of the genes' coordinates given the scales, one entry for each `GeneGroup`.

    Attributes
    ----------
    mean
        Posterior means Q⁻¹r, (L_n, K·F*) each.
    factor
        Cholesky factors of the posterior precisions Q, (L_n, K·F*, K·F*) each.
    evidence
        Log evidence of the scales, summed over genes.
    """

    mean: GeneVectors
    factor: GeneMatrices
    evidence: Float[Tensor, ""]

    @property
    def covariance(self) -> GeneMatrices:
        """Posterior covariances Q⁻¹, (L_n, K·F*, K·F*) each."""
        return [torch.cholesky_inverse(factor) for factor in self.factor]


def gene_posteriors(coords: Coordinates, log_scale: Float[Tensor, "nonref scales"], likelihood: GeneLikelihood) -> GenePosteriors:
    """Combine each gene's likelihood with its prior at given log scales.

    With prior precision P, x has precision Q = P + H and mean Q⁻¹r, and the gene's evidence is Z = |P|^½ |Q|^−½ exp(r'Q⁻¹r/2)
    (Gaussian conjugacy; Bishop 2006, equations 2.113 to 2.117).
    """
    means, factors, evidence = [], [], log_scale.new_zeros(())
    for group, h, r in zip(coords.groups, likelihood.info, likelihood.linear, strict=True):
        prior = coords.prior_precision(group, log_scale).flatten().unsqueeze(0)  # (1, K·F*)
        factor = cholesky(h + torch.diag_embed(prior), group.genes)
        mean = torch.cholesky_solve(r.unsqueeze(-1), factor).squeeze(-1)
        means.append(mean)
        factors.append(factor)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        evidence = evidence + (0.5 * prior.log().sum(-1) - log_det + 0.5 * (r * mean).sum(-1)).sum(-1)
    return GenePosteriors(mean=means, factor=factors, evidence=evidence)
