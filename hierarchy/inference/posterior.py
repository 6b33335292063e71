"""The variational families, as Pyro guides in Pyro's sense of the word; here a guide is always a gRNA, so they are called posteriors."""

import itertools
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from scipy.stats import norm, qmc
from torch import Tensor

from hierarchy.coordinates import Coordinates
from hierarchy.inference.scales import ScalePosterior, gene_posteriors, half_normal_scales, log_prior
from hierarchy.model import HierarchyModel
from hierarchy.ops import center_within_gene, random_walk

_INSTANCE = itertools.count()  # Pyro keeps parameters in one store by name: two posteriors must not share theirs
_HIDDEN: Any = {"is_auxiliary": True}  # a site of the posterior that the model does not have


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Posterior means and SDs, in log-odds; float64. `Fit.moments` gives them.

    Attributes
    ----------
    theta_mean
        Gene effects θ, (L, F*, D).
    theta_sd
        Their SDs.
    beta_mean
        Guide effects β = θ + δ, (G, F*, D).
    beta_sd
        SDs of the sum.
    delta_mean
        Guide deviations δ, (G, F*).
    delta_sd
        Their SDs.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import fit
    >>> moments = fit(data).moments()
    >>> tuple(moments.theta_mean.shape), tuple(moments.beta_mean.shape), tuple(moments.delta_mean.shape)
    ((8, 2, 2), (48, 2, 2), (48, 2))
    """

    theta_mean: Tensor
    theta_sd: Tensor
    beta_mean: Tensor
    beta_sd: Tensor
    delta_mean: Tensor
    delta_sd: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """S joint posterior draws; float64. `Fit.draws` gives them.

    Attributes
    ----------
    theta
        Gene effects θ, (S, L, F*, D).
    delta
        Guide deviations δ, (S, G, F*).
    scales
        τ, the D − 1 scales σ_time, and σ_guide, (S, F*, D + 1).
    nuisance
        Intercepts of the days, shifts of the replicates, and the burden slope, (S, F*, D + R + 1).

    Examples
    --------
    The chance that a gene's effect on the first day is positive:

    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import fit
    >>> draws = fit(data).draws(200)
    >>> gene, fate = data.genes.index("GENE6"), data.fates[1:].index("MES")
    >>> float((draws.theta[:, gene, fate, 0] > 0).double().mean())
    1.0
    """

    theta: Tensor
    delta: Tensor
    scales: Tensor
    nuisance: Tensor


class GeneBlock(PyroModule):
    """Each gene's likelihood as a Gaussian in its coordinates, times the exact prior given the scales: the default posterior.

    q(s, x, ν) = q(log s) Π_ℓ N(x_ℓ; Q_ℓ⁻¹ r_ℓ, Q_ℓ⁻¹) q(ν), with Q_ℓ = P(s) + A_ℓ A_ℓ', so a gene's effects and its guides' deviations keep
    their full covariance, and follow the scales they are drawn with. log s and the nuisance columns ν are Gaussian. Parameters are r_ℓ, A_ℓ and
    those two Gaussians; `pyro.infer.SVI` can train them, and `fit` finds them in a few natural-gradient steps.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import GeneBlock, fit
    >>> posterior = fit(data).posterior
    >>> isinstance(posterior, GeneBlock), tuple(posterior.draws(10, n_nodes=4, seed=0).theta.shape)
    (True, (10, 8, 2, 2))
    """

    def __init__(
        self,
        model: HierarchyModel,
        coords: Coordinates,
        *,
        info: list[Tensor],
        linear: list[Tensor],
        scales: ScalePosterior,
        nuisance_mean: Tensor,
        nuisance_covariance: Tensor,
    ):
        """From each group's information (L_n, K·F*, K·F*) and linear terms (L_n, K·F*), and the two Gaussians."""
        super().__init__(name=f"gene_block_{next(_INSTANCE)}")
        self.model, self.coords = model, coords
        self.log_scale_mean: Any
        self.log_scale_tril: Any
        self.nuisance_mean: Any
        self.nuisance_tril: Any
        for i, (h, r) in enumerate(zip(info, linear, strict=True)):
            setattr(self, f"factor_{i}", PyroParam(psd_factor(h)))
            setattr(self, f"linear_{i}", PyroParam(r.clone()))
        self.log_scale_mean = PyroParam(scales.mean.flatten().clone())
        self.log_scale_tril = PyroParam(torch.linalg.cholesky(scales.covariance), constraint=constraints.lower_cholesky)
        self.nuisance_mean = PyroParam(nuisance_mean.flatten().clone())
        self.nuisance_tril = PyroParam(torch.linalg.cholesky(nuisance_covariance), constraint=constraints.lower_cholesky)

    @property
    def info(self) -> list[Tensor]:
        """Each group's information A A'."""
        factors = [getattr(self, f"factor_{i}") for i in range(len(self.coords.groups))]
        return [a @ a.transpose(1, 2) for a in factors]

    @property
    def linear(self) -> list[Tensor]:
        """Each group's linear terms r."""
        return [getattr(self, f"linear_{i}") for i in range(len(self.coords.groups))]

    def forward(self) -> None:
        """Sample the model's latent sites."""
        coords, data, dtype = self.coords, self.model.data, self.model.design.prob.dtype
        f, d = coords.n_free, coords.n_days
        log_scale = pyro.sample("_log_scale", dist.MultivariateNormal(self.log_scale_mean, scale_tril=self.log_scale_tril), infer=_HIDDEN).reshape(f, d + 1)
        nuisance = pyro.sample("_nuisance", dist.MultivariateNormal(self.nuisance_mean, scale_tril=self.nuisance_tril), infer=_HIDDEN).reshape(-1, f).T
        standard_mean = log_scale.new_zeros(f, data.n_genes)
        if self.model.center_guides:  # the mean of u over a gene's guides, which no datum sees
            standard_mean = pyro.sample("_mean_u", dist.Normal(standard_mean, 1.0).to_event(2), infer=_HIDDEN)
        z, eps, u = self._standardised(log_scale, standard_mean)
        scale_jacobian = log_scale + coords.time_scale.log()
        free_guides = 1 - 1 / data.n_guides_per_gene.double() if self.model.center_guides else torch.ones_like(data.n_guides_per_gene, dtype=torch.float64)
        with pyro.plate("fates", f, dim=-2):
            _point("tau", log_scale[:, :1].exp(), -log_scale[:, :1], 0, dtype)
            _point("sigma_guide", log_scale[:, d:].exp(), -log_scale[:, d:], 0, dtype)
            _point("gamma", nuisance[:, -1:], torch.zeros_like(nuisance[:, -1:]), 0, dtype)
            _point("alpha", nuisance[:, None, :d], torch.zeros_like(nuisance[:, :1]), 1, dtype)
            _point("b", nuisance[:, None, d:-1], torch.zeros_like(nuisance[:, :1]), 1, dtype)
            if d > 1:
                steps = log_scale[:, None, 1:d]
                _point("sigma_time", steps.exp(), -steps.sum(-1), 1, dtype)
            with pyro.plate("genes", data.n_genes, dim=-1):
                _point("z", z, scale_jacobian[:, :1].expand_as(z), 0, dtype)
                if d > 1:
                    _point("eps", eps, scale_jacobian[:, 1:d].sum(-1, keepdim=True).expand_as(z), 1, dtype)
            with pyro.plate("guides", data.n_guides, dim=-1):
                _point("u", u, log_scale[:, d:] * free_guides[data.guide_to_gene], 0, dtype)

    def _standardised(self, log_scale: Tensor, mean_u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample every gene's coordinates; return z (F*, L), ε (F*, L, D − 1) and u (F*, G)."""
        coords, data = self.coords, self.model.data
        f, d = coords.n_free, coords.n_days
        scale = (log_scale + coords.time_scale.log()).exp()
        walk, u = log_scale.new_zeros(data.n_genes, d, f), log_scale.new_zeros(data.n_guides, f)
        for i, (group, h, r) in enumerate(zip(coords.groups, self.info, self.linear, strict=True)):
            q = h + torch.diag_embed(coords.prior_precision(group, log_scale).flatten())
            mean = torch.linalg.solve(q, r.unsqueeze(-1)).squeeze(-1)
            x = pyro.sample(f"_genes_{i}", dist.MultivariateNormal(mean, precision_matrix=q).to_event(1), infer=_HIDDEN)
            x = x.reshape(len(group.genes), group.n_coords, f)
            walk = walk.index_add(0, group.genes, x[:, :d] / scale[:, :d].T)
            n = group.guides.shape[1]
            own = torch.einsum("gj,ljf->lgf", group.basis, x[:, d:] / scale[:, d]) + mean_u[:, group.genes].T.unsqueeze(1) / n**0.5
            u = u.index_add(0, group.guides.flatten(), own.flatten(0, 1))
        return walk[:, 0].T, walk[:, 1:].permute(2, 0, 1), u.T

    @torch.no_grad()
    def scale_nodes(self, n: int, *, seed: int) -> tuple[Tensor, Tensor]:
        """`n` points of log s, (n, F*, D + 1), and their weights.

        Points are quasi-random from q(log s); weights are truncated importance weights (Ionides 2008) of the scales' marginal posterior.
        """
        coords, mean, tril = self.coords, self.log_scale_mean, self.log_scale_tril
        if n == 1:
            return mean.detach().reshape(1, coords.n_free, -1), mean.new_ones(1)
        uniform = qmc.Sobol(mean.numel(), seed=seed).random_base2(max(1, (n - 1).bit_length()))[:n]
        normal = torch.from_numpy(norm.ppf(uniform.clip(1e-12, 1 - 1e-12))).to(mean)
        normal = normal - normal.mean(0)
        nodes = (mean + normal @ tril.T).reshape(n, coords.n_free, -1)
        half_normal = half_normal_scales(coords, self.model.priors)
        evidence = torch.stack([gene_posteriors(coords, node, self.info, self.linear)[2] for node in nodes])
        log_weight = evidence + log_prior(nodes, half_normal) + 0.5 * normal.square().sum(1)
        log_weight = torch.minimum(log_weight, log_weight.logsumexp(0) - 0.5 * torch.log(log_weight.new_tensor(float(n))))
        return nodes, torch.softmax(log_weight, 0)

    @torch.no_grad()
    def moments(self, *, n_nodes: int, seed: int) -> Moments:
        """Means and SDs in closed form given the scales, averaged over their nodes."""
        coords, data = self.coords, self.model.data
        nodes, weights = self.scale_nodes(n_nodes, seed=seed)
        first, second = [torch.zeros_like(r) for r in self.linear], [torch.zeros_like(h) for h in self.info]
        for node, weight in zip(nodes, weights, strict=True):
            means, covariances, _ = gene_posteriors(coords, node, self.info, self.linear)
            for i, (mean, cov) in enumerate(zip(means, covariances, strict=True)):
                first[i] += weight * mean
                second[i] += weight * (cov + mean.unsqueeze(-1) * mean.unsqueeze(-2))
        f, d = coords.n_free, coords.n_days
        new = first[0].new_zeros
        theta, delta, beta = (new(2, data.n_genes, f, d), new(2, data.n_guides, f), new(2, data.n_guides, f, d))
        cumulate = new(d, d).fill_(1).tril()
        for group, mean, square in zip(coords.groups, first, second, strict=True):
            k = group.n_coords
            cov = (square - mean.unsqueeze(-1) * mean.unsqueeze(-2)).reshape(-1, k, f, k, f).diagonal(dim1=2, dim2=4)  # (L, K, K, F*)
            mean = mean.reshape(-1, k, f)
            theta[0, group.genes] = torch.einsum("dk,lkf->lfd", cumulate, mean[:, :d])
            theta[1, group.genes] = torch.einsum("dk,lkmf,dm->lfd", cumulate, cov[:, :d, :d], cumulate)
            delta[0, group.guides] = torch.einsum("gk,lkf->lgf", group.basis, mean[:, d:])
            delta[1, group.guides] = torch.einsum("gk,lkmf,gm->lgf", group.basis, cov[:, d:, d:], group.basis)
            beta[0, group.guides] = torch.einsum("gdk,lkf->lgfd", group.to_beta, mean)
            half = torch.einsum("gdk,lkmf->lgdmf", group.to_beta, cov)
            beta[1, group.guides] = torch.einsum("lgdmf,gdm->lgfd", half, group.to_beta)
        sd = [v[1].clamp_min(0).sqrt() for v in (theta, beta, delta)]
        return Moments(theta_mean=theta[0], theta_sd=sd[0], beta_mean=beta[0], beta_sd=sd[1], delta_mean=delta[0], delta_sd=sd[2])

    @torch.no_grad()
    def draws(self, n: int, *, n_nodes: int, seed: int) -> Draws:
        """`n` joint draws; each takes one of the scales' nodes by its weight."""
        coords, data = self.coords, self.model.data
        f, d = coords.n_free, coords.n_days
        nodes, weights = self.scale_nodes(n_nodes, seed=seed)
        generator = torch.Generator(device=nodes.device).manual_seed(seed)
        of_draw = torch.multinomial(weights, n, replacement=True, generator=generator).sort().values
        theta, delta = nodes.new_zeros(n, data.n_genes, f, d), nodes.new_zeros(n, data.n_guides, f)
        for node in of_draw.unique().tolist():
            here = torch.where(of_draw == node)[0]
            means, covariances, _ = gene_posteriors(coords, nodes[node], self.info, self.linear)
            for group, mean, cov in zip(coords.groups, means, covariances, strict=True):
                eps = torch.randn(len(here), *mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
                x = mean + torch.einsum("lij,slj->sli", torch.linalg.cholesky(cov), eps)
                x = x.reshape(len(here), -1, group.n_coords, f)
                theta[here.unsqueeze(1), group.genes] = x[:, :, :d].cumsum(2).transpose(2, 3)
                delta[here.view(-1, 1, 1), group.guides] = torch.einsum("gk,slkf->slgf", group.basis, x[:, :, d:])
        noise = torch.randn(n, self.nuisance_mean.numel(), generator=generator, dtype=nodes.dtype, device=nodes.device)
        nuisance = (self.nuisance_mean + noise @ self.nuisance_tril.T).reshape(n, -1, f).transpose(1, 2)
        return Draws(theta=theta, delta=delta, scales=nodes[of_draw].exp(), nuisance=nuisance)


def psd_factor(matrix: Tensor) -> Tensor:
    """A with A A' = matrix, its negative eigenvalues (round-off, or noise of the probes) set to zero."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).sqrt().unsqueeze(-2)


def _point(name: str, value: Tensor, log_density: Tensor, event_dim: int, dtype: torch.dtype) -> None:
    pyro.sample(name, dist.Delta(value.to(dtype), log_density=log_density.to(dtype), event_dim=event_dim))


class MeanField(AutoNormal):
    """Independent Gaussians on the non-centred sites z, ε, u (log-normal on the scales): Pyro's `AutoNormal`, for comparison.

    Its errors are too small; it is kept to show that.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import MeanField, hierarchy_model
    >>> posterior = MeanField(hierarchy_model(data))
    >>> posterior()["theta"].shape  # one draw: free fates, genes, days
    Traceback (most recent call last):
        ...
    KeyError: 'theta'
    """

    def __init__(self, model: HierarchyModel, **options: Any):
        """`options` are `AutoNormal`'s."""
        super().__init__(model, **options)
        self.hierarchy = model

    @torch.no_grad()
    def draws(self, n: int, *, seed: int) -> Draws:
        """`n` joint draws."""
        model = self.hierarchy
        data = model.data
        with _seeded(seed), pyro.get_param_store().scope():
            samples = [self() for _ in range(n)]
        sites = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
        first = sites["tau"] * sites["z"]
        scale = first.new_ones(()) if model.time_scale is None else model.time_scale
        theta = random_walk(first, sites["sigma_time"] * scale * sites["eps"]) if data.n_days > 1 else first.unsqueeze(-1)
        u = center_within_gene(sites["u"], data.guide_to_gene, data.n_guides_per_gene) if model.center_guides else sites["u"]
        days = [sites["sigma_time"].squeeze(-2)] if data.n_days > 1 else []
        scales = torch.cat([sites["tau"], *days, sites["sigma_guide"]], -1)
        nuisance = torch.cat([sites["alpha"].squeeze(-2), sites["b"].squeeze(-2), sites["gamma"]], -1)
        return Draws(
            theta=theta.transpose(1, 2).double(), delta=(sites["sigma_guide"] * u).transpose(1, 2).double(), scales=scales.double(), nuisance=nuisance.double()
        )


class _seeded:
    """Pyro's generators at a seed, restored afterwards."""

    def __init__(self, seed: int):
        self.seed = seed

    def __enter__(self) -> None:
        self.state = pyro.util.get_rng_state()
        pyro.set_rng_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        pyro.util.set_rng_state(self.state)


def moments_of_draws(draws: Draws, guide_to_gene: Tensor) -> Moments:
    """Means and SDs over draws; β's from the draws of the sum θ + δ."""
    beta = draws.theta[:, guide_to_gene] + draws.delta.unsqueeze(-1)
    return Moments(
        theta_mean=draws.theta.mean(0),
        theta_sd=draws.theta.std(0),
        beta_mean=beta.mean(0),
        beta_sd=beta.std(0),
        delta_mean=draws.delta.mean(0),
        delta_sd=draws.delta.std(0),
    )
