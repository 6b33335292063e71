"""Likelihood-type estimates: what the data alone say about θ and β, without the priors of θ.

The likelihood of a gene's coordinates, all else integrated over, is exp(r'x − x'Hx/2). With the prior of the guides' deviations δ, and none for θ,

    b̂ = [(H + P_δ)⁻¹ r]_θ,    Cov(b̂) = [(H + P_δ)⁻¹ (J + P_δ) (H + P_δ)⁻¹]_θθ,

with J the variance of the likelihood's gradient: H, or the observed variance of the sandwich. Estimates of guides have no prior for δ either. Where a gene or a
guide has no cells on a day there is no estimate: its coordinates are left out.

The model's priors have one scale for each non-reference fate, so they differ from one reference to another. Here the other genes and δ have a covariance
between fates instead, estimated as the scales are (`effect_covariances`), and the likelihood is expanded at the posterior mean under that prior: estimates are
the same, but for the number of steps, whichever fate is the reference.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hierarchy.coordinates import Coordinates, GeneGroup, GeneMatrices
from hierarchy.inference.curvature import Pass, pass_over_cells
from hierarchy.inference.gene_likelihood import GeneLikelihood
from hierarchy.inference.linear import cholesky, factor_blocks, psd_factor
from hierarchy.inference.natural import NaturalState, mean_step
from hierarchy.inference.scales import effect_covariances, half_normal_scales
from hierarchy.model import HierarchyModel
from hierarchy.problem import Problem

WEAK = 1e-6  # prior precision that keeps a matrix definite where cells carry no information, as on a day with one cell
CENTRE_STEPS = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Centre:
    """Where the likelihood is expanded: the posterior under priors that are the same whichever fate is the reference.

    Attributes
    ----------
    mean
        Means of the coordinates, (rows, F*).
    covariance
        Covariances of each group's genes given all else.
    spread
        Covariances of effects over non-reference fates, in place of the squares of the scales, (scales, F*, F*).
    """

    mean: Float[Tensor, "rows nonref"]
    covariance: GeneMatrices
    spread: Float[Tensor, "scales nonref nonref"]

    @classmethod
    def of(cls, problem: Problem, state: NaturalState, found: Pass) -> "Centre":
        """From the last state of the natural steps and a pass over the cells at it."""
        coords, mean = problem.coords, state.mean
        spread, half_normal = torch.diag_embed((2 * state.log_scale.T).exp()), half_normal_scales(problem.coords, problem.priors)
        for i in range(CENTRE_STEPS):
            spread = effect_covariances(coords, spread, half_normal, GeneLikelihood.at_pass(coords, found, mean))
            prior = problem.joint_prior(spread)
            mean = mean + mean_step(problem, mean, found, prior)
            covariance = [torch.cholesky_inverse(factor) for factor in factor_blocks(coords, found.blocks, prior)]
            if i + 1 < CENTRE_STEPS:
                found = pass_over_cells(problem.design, coords, mean, covariance, lambda _: state.weight)
        return cls(mean=mean, covariance=covariance, spread=spread)


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
    centre
        Where the likelihood is expanded.
    likelihood
        Each gene's information H and linear term r, all other genes and the nuisance columns integrated over.
    score
        Variance J of the gradient of each gene's likelihood; `likelihood.info` where the model is taken as right.
    deviations
        Prior precision of the guides' deviations over non-reference fates, (F*, F*).
    carried
        Whether any cell carries a guide on a day, (G, D).
    """

    coords: Coordinates
    centre: Centre
    likelihood: GeneLikelihood
    score: GeneMatrices
    deviations: Float[Tensor, "nonref nonref"]
    carried: Bool[Tensor, "guides days"]

    def last_pass(self, model: HierarchyModel) -> Pass:
        """A pass over the cells at the centre."""
        return pass_over_cells(model.design, self.coords, self.centre.mean, self.centre.covariance, lambda _: model.weight_table)

    @torch.no_grad()
    def estimates(self) -> Estimates:
        """The estimates of all genes and guides."""
        coords = self.coords
        f, d, n_guides = coords.n_nonref, coords.n_days, len(self.carried)
        n_genes = sum(len(group.genes) for group in coords.groups)
        theta = self.deviations.new_full((n_genes, f, d), torch.nan)
        covariance = self.deviations.new_full((n_genes, f * d, f * d), torch.nan)
        beta, beta_covariance = theta.new_full((n_guides, f, d), torch.nan), theta.new_full((n_guides, f, f, d), torch.nan)
        for group, info, linear, score in zip(coords.groups, self.likelihood.info, self.likelihood.linear, self.score, strict=True):
            carried = self.carried[group.guides]
            mean, own = gene_estimates(group, info, linear, score, self.deviations, carried)
            theta[group.genes], covariance[group.genes] = mean, own.flatten(3, 4).flatten(1, 2)
            beta[group.guides], own = guide_estimates(group, info, linear, score, carried)
            beta_covariance[group.guides] = own.diagonal(dim1=3, dim2=5)
        return Estimates(theta=theta, theta_covariance=covariance, beta=beta, beta_covariance=beta_covariance)


def gene_estimates(
    group: GeneGroup,
    info: Float[Tensor, "genes size size"],
    linear: Float[Tensor, "genes size"],
    score: Float[Tensor, "genes size size"],
    deviations: Float[Tensor, "nonref nonref"],
    carried: Bool[Tensor, "genes per_gene days"],
) -> tuple[Float[Tensor, "genes nonref days"], Float[Tensor, "genes nonref days nonref days"]]:
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
    deviations
        Prior precision of the guides' deviations over non-reference fates.
    carried
        Whether any cell carries each of the gene's guides on a day.
    """
    d, k, f = group.n_days, group.n_coords, len(deviations)
    seen = carried.any(1)
    to_theta = info.new_zeros(1, d, k)
    to_theta[0, :, :d] = info.new_ones(d, d).tril()
    basis = torch.eye(k, dtype=info.dtype, device=info.device).repeat(len(info), 1, 1)
    basis[:, :d, :d] = torch.linalg.inv(to_theta[0, :, :d]) * seen.unsqueeze(1)  # ξ from θ
    used = torch.cat([seen, seen.new_ones(len(seen), k - d)], 1)
    prior = torch.block_diag(info.new_zeros(d * f, d * f), torch.kron(torch.eye(k - d).to(info), deviations.contiguous()))
    mean, cov = _solve(to_theta, basis, used, (info, linear, score), prior, seen.unsqueeze(1))
    return mean[:, 0], cov[:, 0]


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
    t = group.to_beta
    values, vectors = torch.linalg.eigh(torch.einsum("gdk,lgd,gdm->lkm", t, carried.to(t), t))
    used = values > 1e-9  # squared singular values of a matrix of whole numbers and an orthonormal basis: 0, or far from it
    return _solve(t, vectors * used.unsqueeze(1), used, (info, linear, score), torch.zeros_like(info[0]), carried)


def _solve(to: Tensor, basis: Tensor, used: Tensor, likelihood: tuple[Tensor, Tensor, Tensor], prior: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates of u = to · basis · y for each fate, (L_n, units, F*, D), and their covariances over fates and days; NaN where not `seen`.

    Parameters
    ----------
    to
        Linear functions of a gene's coordinates x = basis · y, (units, D, K).
    basis
        (L_n, K, K), with columns of zeros where not used.
    used
        Which columns are used, (L_n, K).
    likelihood
        Information H about x, (L_n, K·F*, K·F*), linear term r, (L_n, K·F*), and variance of the gradient J, as H.
    prior
        Prior precision of y where all columns are used, (K·F*, K·F*).
    seen
        Whether a unit has cells on a day, (L_n, units, D).
    """
    info, linear, score = likelihood
    n, k = used.shape
    f = info.shape[1] // k
    whole = torch.einsum("lij,fg->lifjg", basis, torch.eye(f, dtype=basis.dtype, device=basis.device)).reshape(n, k * f, k * f)
    kept = used.to(basis).repeat_interleave(f, 1)
    own = prior * kept.unsqueeze(1) * kept.unsqueeze(2)
    factor = cholesky(whole.transpose(1, 2) @ info @ whole + own + torch.diag_embed(1 - kept + WEAK))
    found = torch.cholesky_solve(whole.transpose(1, 2) @ linear.unsqueeze(-1), factor).reshape(n, k, f)
    half = torch.cholesky_solve(psd_factor(whole.transpose(1, 2) @ score @ whole + own), factor).reshape(n, k, f, -1)
    to_units = torch.einsum("udk,lkm->ludm", to, basis)
    mean, half = torch.einsum("ludm,lmf->lufd", to_units, found), torch.einsum("ludm,lmfs->lufds", to_units, half)
    missing = ~seen.unsqueeze(2).expand_as(mean)
    cov = torch.einsum("lufds,luhes->lufdhe", half, half)
    either = missing[..., None, None] | missing[:, :, None, None]
    return mean.masked_fill(missing, torch.nan), cov.masked_fill(either, torch.nan)
