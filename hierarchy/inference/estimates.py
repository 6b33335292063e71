"""Likelihood-type estimates: what the data alone say about θ and β, without the priors of θ.

The likelihood of a gene's coordinates, all else integrated over, is exp(r'x − x'Hx/2). With the prior of the guides' deviations δ, and none for θ,

    b̂ = [(H + P_δ)⁻¹ r]_θ,    Cov(b̂) = [(H + P_δ)⁻¹ (J + P_δ) (H + P_δ)⁻¹]_θθ,

with J the variance of the likelihood's gradient: H, or the observed variance of the sandwich. Estimates of guides have no prior for δ either. Where a gene or a
guide has no cells on a day there is no estimate: its coordinates are left out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hierarchy.coordinates import Coordinates, GeneGroup, GeneMatrices
from hierarchy.inference.gene_likelihood import GeneLikelihood
from hierarchy.inference.linear import cholesky, psd_factor

WEAK = 1e-6  # prior precision that keeps a matrix definite where cells carry no information, as on a day with one cell


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimates:
    """Likelihood-type estimates in log-odds with the covariances of their errors; float64, NaN where there are no cells. `Fit.estimates` returns them.

    Attributes
    ----------
    theta
        Estimates of the gene effects θ, (L, F*, D).
    theta_covariance
        Covariance of each gene's errors over non-reference fates and days, fate by fate, (L, F*·D, F*·D).
    beta
        Estimates of the guide effects β, (G, F*, D).
    beta_covariance
        Covariance of each guide's errors over non-reference fates on each day, (G, F*, F*, D).

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit
    >>> estimates = fit(build_fate_data(read_screen(adata), ref_fate="EC")).estimates()
    >>> tuple(estimates.theta.shape), tuple(estimates.theta_covariance.shape)
    ((8, 2, 2), (8, 4, 4))
    """

    theta: Float[Tensor, "genes nonref days"]
    theta_covariance: Float[Tensor, "genes nonref*days nonref*days"]
    beta: Float[Tensor, "guides nonref days"]
    beta_covariance: Float[Tensor, "guides nonref nonref days"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimator:
    """What likelihood-type estimates are computed from.

    Attributes
    ----------
    coords
        The coordinates.
    likelihood
        Each gene's information H and linear term r, all other genes and the nuisance columns integrated over.
    score
        Variance J of the gradient of each gene's likelihood; `likelihood.info` where the model is taken as right.
    log_scale
        Logarithms of the scales at their posterior mode, (F*, D + 1).
    carried
        Whether any cell carries a guide on a day, (G, D).
    """

    coords: Coordinates
    likelihood: GeneLikelihood
    score: GeneMatrices
    log_scale: Float[Tensor, "nonref scales"]
    carried: Bool[Tensor, "guides days"]

    @torch.no_grad()
    def estimates(self) -> Estimates:
        """The estimates of all genes and guides."""
        coords = self.coords
        f, d, n_guides = coords.n_nonref, coords.n_days, len(self.carried)
        n_genes = sum(len(group.genes) for group in coords.groups)
        theta = self.log_scale.new_full((n_genes, f, d), torch.nan)
        covariance = self.log_scale.new_full((n_genes, f * d, f * d), torch.nan)
        beta, beta_covariance = theta.new_full((n_guides, f, d), torch.nan), theta.new_full((n_guides, f, f, d), torch.nan)
        for group, info, linear, score in zip(coords.groups, self.likelihood.info, self.likelihood.linear, self.score, strict=True):
            carried = self.carried[group.guides]
            theta[group.genes], covariance[group.genes] = gene_estimates(group, info, linear, score, coords.prior_precision(group, self.log_scale), carried)
            beta[group.guides], own = guide_estimates(group, info, linear, score, carried)
            beta_covariance[group.guides] = own.diagonal(dim1=3, dim2=5)
        return Estimates(theta=theta, theta_covariance=covariance, beta=beta, beta_covariance=beta_covariance)


def gene_estimates(
    group: GeneGroup,
    info: Float[Tensor, "genes size size"],
    linear: Float[Tensor, "genes size"],
    score: Float[Tensor, "genes size size"],
    prior: Float[Tensor, "coords nonref"],
    carried: Bool[Tensor, "genes per_gene days"],
) -> tuple[Float[Tensor, "genes nonref days"], Float[Tensor, "genes nonref*days nonref*days"]]:
    """Estimates of θ of a group's genes and the covariances of their errors, NaN on days without cells.

    Parameters
    ----------
    group
        The genes.
    info
        Information H of each gene.
    linear
        Linear term r of each gene.
    score
        Variance J of the gradient of each gene's likelihood.
    prior
        Prior precision of each coordinate; that of the deviations is used.
    carried
        Whether any cell carries each of the gene's guides on a day.
    """
    d, k, f = group.n_days, group.n_coords, prior.shape[1]
    seen = carried.any(1)
    to_steps = torch.linalg.inv(torch.ones(d, d, dtype=info.dtype, device=info.device).tril())  # ξ from θ
    basis = torch.eye(k, dtype=info.dtype, device=info.device).repeat(len(info), 1, 1)
    basis[:, :d, :d] = to_steps * seen.unsqueeze(1)
    used = torch.cat([seen, seen.new_ones(len(seen), k - d)], 1)
    of_deviations = prior.clone()
    of_deviations[:d] = 0
    found, cov = _solve(basis, used, info, linear, score, of_deviations)
    missing = ~seen.unsqueeze(1).expand(-1, f, -1)
    theta = found[:, :d].transpose(1, 2).masked_fill(missing, torch.nan)
    own = cov[:, :d, :, :d].permute(0, 2, 1, 4, 3).flatten(3, 4).flatten(1, 2)
    missing = missing.flatten(1)
    return theta, own.masked_fill(missing.unsqueeze(2) | missing.unsqueeze(1), torch.nan)


def guide_estimates(
    group: GeneGroup,
    info: Float[Tensor, "genes size size"],
    linear: Float[Tensor, "genes size"],
    score: Float[Tensor, "genes size size"],
    carried: Bool[Tensor, "genes per_gene days"],
) -> tuple[Float[Tensor, "genes per_gene nonref days"], Float[Tensor, "genes per_gene nonref days nonref days"]]:
    """Estimates of β of a group's guides and the covariances of their errors, in the directions that the guides' own cells determine; NaN without cells.

    Parameters
    ----------
    group
        The genes.
    info
        Information H of each gene.
    linear
        Linear term r of each gene.
    score
        Variance J of the gradient of each gene's likelihood.
    carried
        Whether any cell carries each of the gene's guides on a day.
    """
    k = group.n_coords
    f = info.shape[1] // k
    t = group.to_beta
    values, vectors = torch.linalg.eigh(torch.einsum("gdk,lgd,gdm->lkm", t, carried.to(t), t))
    used = values > 1e-9  # squared singular values of a matrix of whole numbers and an orthonormal basis: 0, or far from it
    found, cov = _solve(vectors * used.unsqueeze(1), used, info, linear, score, t.new_zeros(k, f))
    to_beta = torch.einsum("gdk,lkm->lgdm", t, vectors * used.unsqueeze(1))
    beta = torch.einsum("lgdm,lmf->lgfd", to_beta, found)
    half = torch.einsum("lgdm,lmfjh->lgdfjh", to_beta, cov)
    beta_cov = torch.einsum("lgdfjh,lgej->lgfdhe", half, to_beta)
    missing = ~carried
    either = missing[:, :, None, :, None, None] | missing[:, :, None, None, None, :]
    return beta.masked_fill(missing.unsqueeze(2), torch.nan), beta_cov.masked_fill(either, torch.nan)


def _solve(basis: Tensor, used: Tensor, info: Tensor, linear: Tensor, score: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """The estimate of y, (L_n, K, F*), and its covariance, (L_n, K, F*, K, F*), where x = basis · y for each fate; 0 in columns that are not `used`.

    Parameters
    ----------
    basis
        (L_n, K, K), with columns of zeros where not used.
    used
        Which columns are used, (L_n, K).
    info
        Information H about x, (L_n, K·F*, K·F*).
    linear
        Linear term r, (L_n, K·F*).
    score
        Variance of the gradient, (L_n, K·F*, K·F*).
    prior
        Prior precision of y, (K, F*).
    """
    n, k, f = len(basis), *prior.shape
    whole = torch.einsum("lij,fg->lifjg", basis, torch.eye(f, dtype=basis.dtype, device=basis.device)).reshape(n, k * f, k * f)
    own = torch.diag_embed((prior.unsqueeze(0) * used.unsqueeze(2)).flatten(1))
    left_out = torch.diag_embed((~used).to(basis).repeat_interleave(f, 1) + WEAK)
    factor = cholesky(whole.transpose(1, 2) @ info @ whole + own + left_out)
    found = torch.cholesky_solve(whole.transpose(1, 2) @ linear.unsqueeze(-1), factor)
    half = torch.cholesky_solve(psd_factor(whole.transpose(1, 2) @ score @ whole + own), factor)
    return found.reshape(n, k, f), (half @ half.transpose(1, 2)).reshape(n, k, f, k, f)
