"""The gene-block family: each gene's effects and deviations as one Gaussian given the scales; fitted by natural-gradient steps."""

import itertools
import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroParam
from scipy.stats import qmc
from torch import Tensor

from hierarchy.coordinates import Coordinates, GeneMatrices
from hierarchy.inference.base import Draws, Moments, Outcome, ScalePoints, check_draws
from hierarchy.inference.checkpoint import Checkpoint
from hierarchy.inference.curvature import pass_over_cells
from hierarchy.inference.estimates import Centre, Estimator
from hierarchy.inference.gene_likelihood import GeneLikelihood, gene_posteriors, linear_terms
from hierarchy.inference.importance import effective_fractions
from hierarchy.inference.linear import NotDefinite, cholesky, prior_blocks, psd_factor
from hierarchy.inference.marginals import marginal_covariances
from hierarchy.inference.natural import NaturalState, run_natural, start
from hierarchy.inference.progress import progress_bar
from hierarchy.inference.sandwich import score_variances
from hierarchy.inference.scales import KNOTS, AxisDensities, Gaussian, effect_covariances, half_normal_scales, log_prior, scale_posterior
from hierarchy.inference.weights import mean_weight
from hierarchy.model import HierarchyModel
from hierarchy.problem import Problem
from hierarchy.result import Fit

INTERVAL_NODES = 256  # points for intervals of the scales: many more than θ's moments need, as limits of intervals lie in the tails
ENOUGH, MOST_NODES = 100, 4096  # effective number of points of the scales, up to a number of points
_INSTANCE = itertools.count()  # Pyro keeps parameters in one store by name: two posteriors must not share theirs
_HIDDEN: Any = {"is_auxiliary": True}  # a site of the posterior that the model does not have


def fit_gene_block(problem: Problem, store: Checkpoint, *, progress: bool) -> Fit:
    """Fit the family by natural-gradient steps, from the checkpoint if there is one.

    Parameters
    ----------
    problem
        What to fit.
    store
        The checkpoint.
    progress
        Whether to show a progress bar.
    """
    first = start(problem)
    state = store.load("natural", first.restored) or first
    with progress_bar(progress, problem.settings, state.step, "natural steps") as show:

        def on_step(now: NaturalState) -> None:
            show(now.step, now.elbo[-1])
            store.save("natural", now.parts(), last=now.status == "converged")

        state = run_natural(problem, state, on_step=on_step)
    model = problem.model(state.weight)
    posterior, estimator, outcome = None, None, Outcome.of(state.status, state.step, [problem.data.genes[i] for i in state.genes])
    if not outcome.failed:
        try:
            posterior, estimator = posterior_at(problem, state, model)
        except torch.linalg.LinAlgError as error:
            genes = error.genes if isinstance(error, NotDefinite) else []
            outcome = Outcome.of("not_definite", state.step, [problem.data.genes[i] for i in genes])
    if posterior is not None:
        check_draws(model, posterior.draws(4, n_nodes=1, seed=problem.settings.seed))
    return Fit(
        model=model,
        posterior=posterior,
        estimator=estimator,
        settings=problem.settings,
        weight=float(mean_weight(state.weight, problem.design.group_cells)),
        weight_table=state.weight,
        outcome=outcome,
        elbo=tuple(state.elbo),
        moved=tuple(state.moved),
        weights=tuple(state.weights),
        steps=state.step,
    )


def posterior_at(problem: Problem, state: NaturalState, model: HierarchyModel) -> "tuple[GeneBlock, Estimator]":
    """The posterior at the end of the natural steps, with marginal or robust covariances and the posterior of the scales; and the estimator beside it.

    Parameters
    ----------
    problem
        The problem.
    state
        The last state.
    model
        The Pyro model at the last weight.
    """
    coords, settings, own = problem.coords, problem.settings, state.mean
    found = pass_over_cells(problem.design, coords, own, state.covariance, lambda _: state.weight)
    centre = Centre.of(problem, state, found)
    there = pass_over_cells(problem.design, coords, centre.mean, centre.covariance, lambda _: state.weight)
    prior = problem.joint_prior(centre.spread)
    marginals = marginal_covariances(problem, there, prior, generator=torch.Generator(device=problem.data.device).manual_seed(settings.seed))
    info = []
    for group, cov in zip(coords.groups, marginals.blocks, strict=True):
        factor = psd_factor(torch.cholesky_inverse(cholesky(cov, group.genes)) - prior_blocks(group, prior))
        info.append(factor @ factor.transpose(1, 2))
    half_normal = half_normal_scales(coords, problem.priors)
    of_data = GeneLikelihood(info=info, linear=linear_terms(coords, info, there, centre.mean))
    spread = effect_covariances(coords, centre.spread, half_normal, of_data)
    score = score_variances(problem, there, info) if settings.se == "sandwich" else info
    carried = problem.design.guide_cells > 0
    estimator = Estimator(coords=coords, centre=centre, likelihood=of_data, score=score, deviations=torch.linalg.inv(spread[-1]), carried=carried)
    likelihood = GeneLikelihood(info=info, linear=linear_terms(coords, info, found, own))  # about the mean under the model's priors
    if settings.se == "sandwich":
        likelihood = _robust(coords, likelihood, score, problem.prior(state.log_scale))
    scales = scale_posterior(coords, state.log_scale, half_normal, likelihood)
    nuisance = Gaussian(mean=own[coords.nuisance], covariance=marginals.nuisance)
    return GeneBlock(model, coords, likelihood=likelihood, scales=scales, nuisance=nuisance, n_nodes=settings.n_scale_nodes), estimator


def _robust(coords: Coordinates, likelihood: GeneLikelihood, scores: GeneMatrices, prior: Tensor) -> GeneLikelihood:
    """The likelihood that gives each gene the covariance Σ (P + J) Σ, with Σ = (P + H)⁻¹, and leaves its mean as it is.

    That covariance exceeds the prior's P⁻¹ where J is larger than about twice H; no likelihood gives it then, and the prior's covariance is kept.
    """
    info, linear = [], []
    for group, h, r, score in zip(coords.groups, likelihood.info, likelihood.linear, scores, strict=True):
        own = torch.diag_embed(group.split(prior).flatten(1))
        cov = torch.cholesky_inverse(cholesky(h + own, group.genes))
        precision = torch.cholesky_inverse(cholesky(cov @ (own + score) @ cov, group.genes))
        factor = psd_factor(precision - own)
        info.append(factor @ factor.transpose(1, 2))
        linear.append(((info[-1] + own) @ cov @ r.unsqueeze(-1)).squeeze(-1))
    return GeneLikelihood(info=info, linear=linear)


class GeneBlock(PyroModule):
    """Each gene's likelihood as a Gaussian in its coordinates, times the exact prior given the scales: the default posterior.

    With scales s, coordinates x_ℓ of gene ℓ and nuisance columns ν,

        q(s, x, ν) = q(log s) Π_ℓ N(x_ℓ; Q_ℓ⁻¹ r_ℓ, Q_ℓ⁻¹) q(ν),    Q_ℓ = P(s) + H_ℓ,

    so a gene's effects and its guides' deviations keep their full covariance, and follow the scales they are drawn with. q(log s) and q(ν) are
    Gaussian. The parameters are r_ℓ, a factor A_ℓ with H_ℓ = A_ℓ A_ℓ', and those two Gaussians; `pyro.infer.SVI` can train them, and `fit` finds
    them in a few natural-gradient steps. `likelihood` returns H and r.

    Parameters
    ----------
    model
        The Pyro model.
    coords
        The coordinates.
    likelihood
        Each gene's information H and linear term r.
    scales
        Mean (F*, scales) and covariance of log s.
    nuisance
        Mean (M, F*) and covariance of the nuisance columns.
    n_nodes
        Default least number of points at which the scales are integrated.

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

    def __init__(self, model: HierarchyModel, coords: Coordinates, *, likelihood: GeneLikelihood, scales: Gaussian, nuisance: Gaussian, n_nodes: int = 128):
        super().__init__(name=f"gene_block_{next(_INSTANCE)}")
        self.model, self.coords, self.n_nodes = model, coords, n_nodes
        self._evaluated: tuple[tuple[int, ...], AxisDensities, Tensor, Tensor] | None = None  # points of the scales, and what they depend on
        self._averaged: tuple[tuple[int, ...], Moments] | None = None  # moments, likewise
        self.log_scale_loc: Any
        self.log_scale_tril: Any
        self.nuisance_loc: Any
        self.nuisance_tril: Any
        for i, (h, r) in enumerate(zip(likelihood.info, likelihood.linear, strict=True)):
            setattr(self, f"factor_{i}", PyroParam(psd_factor(h)))
            setattr(self, f"linear_{i}", PyroParam(r.clone()))
        self.log_scale_loc = PyroParam(scales.mean.flatten().clone())
        self.log_scale_tril = PyroParam(cholesky(scales.covariance), constraint=constraints.lower_cholesky)
        self.nuisance_loc = PyroParam(nuisance.mean.flatten().clone())
        self.nuisance_tril = PyroParam(cholesky(nuisance.covariance), constraint=constraints.lower_cholesky)

    @property
    def likelihood(self) -> GeneLikelihood:
        """Each gene's information H = A A' and linear term r; `Coordinates.prior_precision` is the prior that they are combined with."""
        groups = range(len(self.coords.groups))
        factors = [getattr(self, f"factor_{i}") for i in groups]
        return GeneLikelihood(info=[a @ a.transpose(1, 2) for a in factors], linear=[getattr(self, f"linear_{i}") for i in groups])

    def forward(self) -> None:
        """Sample the model's latent sites."""
        coords, data, dtype = self.coords, self.model.data, self.model.design.dtype
        f, d = coords.n_nonref, coords.n_days
        log_scale = pyro.sample("_log_scale", dist.MultivariateNormal(self.log_scale_loc, scale_tril=self.log_scale_tril), infer=_HIDDEN).reshape(f, -1)
        nuisance = pyro.sample("_nuisance", dist.MultivariateNormal(self.nuisance_loc, scale_tril=self.nuisance_tril), infer=_HIDDEN).reshape(-1, f).T
        standard_mean = log_scale.new_zeros(f, data.n_genes)
        if self.model.center_guides:  # the mean of u over a gene's guides, which does not enter the likelihood
            standard_mean = pyro.sample("_mean_u", dist.Normal(standard_mean, 1.0).to_event(2), infer=_HIDDEN)
        z, eps, u = self._standardised(log_scale, standard_mean)
        walk_scale = coords.walk_scale(log_scale).log()
        per_guide = torch.ones_like(data.n_guides_per_gene, dtype=torch.float64)  # deviations for each guide of a gene: n − 1 of n where centred
        if self.model.center_guides:
            per_guide -= 1 / data.n_guides_per_gene.double()
        with pyro.plate("fates", f, dim=-2):
            _point("tau", log_scale[:, :1].exp(), -log_scale[:, :1], 0, dtype)
            _point("sigma_guide", log_scale[:, -1:].exp(), -log_scale[:, -1:], 0, dtype)
            _point("gamma", nuisance[:, -1:], torch.zeros_like(nuisance[:, -1:]), 0, dtype)
            _point("alpha", nuisance[:, None, :d], torch.zeros_like(nuisance[:, :1]), 1, dtype)
            _point("b", nuisance[:, None, d:-1], torch.zeros_like(nuisance[:, :1]), 1, dtype)
            if d > 1:
                steps = log_scale[:, None, 1:-1]
                _point("sigma_time", steps.exp(), -steps.sum(-1), 1, dtype)
            with pyro.plate("genes", data.n_genes, dim=-1):
                _point("z", z, walk_scale[:, :1].expand_as(z), 0, dtype)
                if d > 1:
                    _point("eps", eps, walk_scale[:, 1:].sum(-1, keepdim=True).expand_as(z), 1, dtype)
            with pyro.plate("guides", data.n_guides, dim=-1):
                _point("u", u, log_scale[:, -1:] * per_guide[data.guide_to_gene], 0, dtype)

    def _standardised(self, log_scale: Tensor, mean_u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sample every gene's coordinates; return z (F*, L), ε (F*, L, D − 1) and u (F*, G)."""
        coords, data = self.coords, self.model.data
        f, d = coords.n_nonref, coords.n_days
        of_walk, of_guide = coords.walk_scale(log_scale), log_scale[:, -1].exp()
        walk, u = log_scale.new_zeros(data.n_genes, d, f), log_scale.new_zeros(data.n_guides, f)
        likelihood = self.likelihood
        for i, (group, h, r) in enumerate(zip(coords.groups, likelihood.info, likelihood.linear, strict=True)):
            q = h + torch.diag_embed(coords.prior_precision(group, log_scale).flatten())
            mean = torch.linalg.solve(q, r.unsqueeze(-1)).squeeze(-1)
            x = pyro.sample(f"_genes_{i}", dist.MultivariateNormal(mean, precision_matrix=q).to_event(1), infer=_HIDDEN)
            x = x.reshape(len(group.genes), group.n_coords, f)
            walk = walk.index_add(0, group.genes, x[:, :d] / of_walk.T)
            n = group.guides.shape[1]
            own = torch.einsum("gj,ljf->lgf", group.basis, x[:, d:] / of_guide) + mean_u[:, group.genes].T.unsqueeze(1) / n**0.5
            u = u.index_add(0, group.guides.flatten(), own.flatten(0, 1))
        return walk[:, 0].T, walk[:, 1:].permute(2, 0, 1), u.T

    @torch.no_grad()
    def integration_points(self, least: int, *, seed: int) -> tuple[Float[Tensor, "nodes nonref scales"], Float[Tensor, " nodes"]]:
        """Points of log s, (nodes, F*, scales), and their weights: at least `least`, and as many more as an effective number 1/Σ weight² of 100 takes.

        The points are quasi-random, from a scrambled Sobol' sequence (Owen 1998) mapped to `AxisDensities` on the axes of q(log s). With the importance ratio ρ
        of the scales' marginal posterior, the weights are proportional to min(ρ, √n · mean of ρ): truncated importance weights (Ionides 2008). One point is the
        mode.
        """
        if least == 1:
            return self.log_scale_loc.detach().reshape(1, self.coords.n_nonref, -1), self.log_scale_loc.new_ones(1)
        n = least
        while True:
            nodes, log_weight = self._sequence(n, seed)
            log_weight = torch.minimum(log_weight, log_weight.logsumexp(0) - 0.5 * math.log(n))
            weights = torch.softmax(log_weight, 0)
            effective = float(1 / weights.square().sum())
            if effective >= ENOUGH or n >= MOST_NODES:
                return nodes, weights
            n = min(MOST_NODES, math.ceil(1.2 * n * ENOUGH / effective))

    def _sequence(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """The first n points of the sequence, and their log importance ratios; points that were evaluated before are not evaluated again."""
        key, mean, tril = self._state(seed), self.log_scale_loc, self.log_scale_tril
        if self._evaluated is None or self._evaluated[0] != key:
            axes = torch.eye(mean.numel()).to(mean)
            _, on_axes = self._log_posterior((mean.new_tensor(KNOTS).view(1, -1, 1) * axes.unsqueeze(1)).flatten(0, 1), mean, tril)
            proposal = AxisDensities.of(on_axes.reshape(len(axes), -1).cpu().numpy())
            self._evaluated = key, proposal, mean.new_empty(0, self.coords.n_nonref, mean.numel() // self.coords.n_nonref), mean.new_empty(0)
        key, proposal, nodes, log_weight = self._evaluated
        if len(nodes) < n:
            uniform = qmc.Sobol(mean.numel(), seed=seed).random_base2(max(1, (n - 1).bit_length()))[len(nodes) : n]
            points, log_density = (torch.from_numpy(found).to(mean) for found in proposal.points(uniform))
            more, log_posterior = self._log_posterior(points, mean, tril)
            nodes, log_weight = torch.cat([nodes, more]), torch.cat([log_weight, log_posterior - log_density])
            self._evaluated = key, proposal, nodes, log_weight
        return nodes[:n], log_weight[:n]

    def _state(self, seed: int) -> tuple[int, ...]:
        """What points depend on: the seed, and the parameters, which training changes in place."""
        return seed, *(parameter._version for parameter in self.parameters())

    def _log_posterior(self, at: Tensor, mean: Tensor, tril: Tensor) -> tuple[Tensor, Tensor]:
        """Points of log s, from their coordinates on the axes of q(log s), and their log posterior."""
        nodes, likelihood = (mean + at @ tril.T).reshape(len(at), self.coords.n_nonref, -1), self.likelihood
        evidence = torch.stack([gene_posteriors(self.coords, node, likelihood).evidence for node in nodes])
        return nodes, evidence + log_prior(nodes, half_normal_scales(self.coords, self.model.priors))

    def scale_points(self, *, seed: int) -> ScalePoints:
        """The posterior of the scales, at 256 points or more."""
        nodes, weights = self.integration_points(INTERVAL_NODES, seed=seed)
        return ScalePoints(scales=nodes.exp(), weights=weights)

    @torch.no_grad()
    def mean_nuisance(self, *, seed: int = 0) -> Float[Tensor, "nonref nuisance"]:
        """Posterior means of the nuisance columns, (F*, M); exact, so the seed plays no role."""
        return self.nuisance_loc.detach().reshape(-1, self.coords.n_nonref).T

    @torch.no_grad()
    def mean_coordinates(self) -> Float[Tensor, "rows nonref"]:
        """Posterior means of all coordinates at the scales' mode, (rows, F*)."""
        coords = self.coords
        means = gene_posteriors(coords, self.log_scale_loc.reshape(coords.n_nonref, -1), self.likelihood).mean
        parts = [m.reshape(len(g.genes), g.n_coords, -1) for g, m in zip(coords.groups, means, strict=True)]
        return coords.join(parts, self.mean_nuisance().T)

    @torch.no_grad()
    def family_fit(self, *, n_draws: int, seed: int) -> Float[Tensor, " genes"]:
        """Effective sample size ratio of importance draws of each gene, (L,): 1 where the gene's likelihood is Gaussian; NaN where not checked."""
        log_scale = self.log_scale_loc.reshape(self.coords.n_nonref, -1)
        return effective_fractions(self.model, self.coords, self.mean_coordinates(), log_scale, n_draws=n_draws, seed=seed)

    @torch.no_grad()
    def moments(self, *, n_draws: int = 0, seed: int, n_nodes: int | None = None) -> Moments:
        """Means and SDs in closed form given the scales, averaged over points of the scales.

        Parameters
        ----------
        n_draws
            Not used: there is no sampling.
        seed
            Of the points.
        n_nodes
            Least number of points of the scales, 1 for their mode alone; by default that of the constructor.
        """
        key = (n_nodes or self.n_nodes, *self._state(seed))
        if self._averaged is None or self._averaged[0] != key:
            self._averaged = key, self._moments(*self.integration_points(key[0], seed=seed))
        return self._averaged[1]

    def _moments(self, nodes: Tensor, weights: Tensor) -> Moments:
        """Moments, averaged over points of the scales."""
        coords, likelihood = self.coords, self.likelihood
        first, second = [torch.zeros_like(r) for r in likelihood.linear], [torch.zeros_like(h) for h in likelihood.info]
        for node, weight in zip(nodes, weights, strict=True):
            genes = gene_posteriors(coords, node, likelihood)
            for i, (mean, cov) in enumerate(zip(genes.mean, genes.covariance, strict=True)):
                first[i] += weight * mean
                second[i] += weight * (cov + mean.unsqueeze(-1) * mean.unsqueeze(-2))
        covariance = [square - mean.unsqueeze(-1) * mean.unsqueeze(-2) for mean, square in zip(first, second, strict=True)]
        return _moments(self.model, coords, first, covariance)

    @torch.no_grad()
    def draws(self, n: int, *, seed: int, n_nodes: int | None = None) -> Draws:
        """`n` joint draws; each takes one point of the scales by its weight.

        Parameters
        ----------
        n
            Number of draws.
        seed
            Of the points and the draws.
        n_nodes
            Least number of points of the scales, 1 for their mode alone; by default that of the constructor.
        """
        coords, data, likelihood = self.coords, self.model.data, self.likelihood
        f, d = coords.n_nonref, coords.n_days
        nodes, weights = self.integration_points(n_nodes or self.n_nodes, seed=seed)
        generator = torch.Generator(device=nodes.device).manual_seed(seed)
        of_draw = torch.multinomial(weights, n, replacement=True, generator=generator).sort().values
        theta, delta = nodes.new_zeros(n, data.n_genes, f, d), nodes.new_zeros(n, data.n_guides, f)
        for node in of_draw.unique().tolist():
            here = torch.where(of_draw == node)[0]
            genes = gene_posteriors(coords, nodes[node], likelihood)
            for group, mean, cov in zip(coords.groups, genes.mean, genes.covariance, strict=True):
                eps = torch.randn(len(here), *mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
                x = mean + torch.einsum("lij,slj->sli", cholesky(cov, group.genes), eps)
                x = x.reshape(len(here), -1, group.n_coords, f)
                theta[here.unsqueeze(1), group.genes] = x[:, :, :d].cumsum(2).transpose(2, 3)
                delta[here.view(-1, 1, 1), group.guides] = torch.einsum("gk,slkf->slgf", group.basis, x[:, :, d:])
        noise = torch.randn(n, self.nuisance_loc.numel(), generator=generator, dtype=nodes.dtype, device=nodes.device)
        nuisance = (self.nuisance_loc + noise @ self.nuisance_tril.T).reshape(n, -1, f).transpose(1, 2)
        return Draws(theta=theta, delta=delta, scales=nodes[of_draw].exp(), nuisance=nuisance)


def _moments(model: HierarchyModel, coords: Coordinates, means: list[Tensor], covariances: list[Tensor]) -> Moments:
    """Moments of θ, β and δ, which are linear in the coordinates."""
    data, f, d = model.data, coords.n_nonref, coords.n_days
    new = means[0].new_zeros
    theta, delta, beta = new(data.n_genes, f, d), new(2, data.n_guides, f), new(data.n_guides, f, d)
    theta_cov, beta_cov = new(data.n_genes, f, f, d), new(data.n_guides, f, f, d)
    cumulate = new(d, d).fill_(1).tril()
    for group, mean, square in zip(coords.groups, means, covariances, strict=True):
        k = group.n_coords
        cov = square.reshape(-1, k, f, k, f)
        mean = mean.reshape(-1, k, f)
        theta[group.genes] = torch.einsum("dk,lkf->lfd", cumulate, mean[:, :d])
        half = torch.einsum("dk,lkfmg->ldfmg", cumulate, cov[:, :d, :, :d])
        theta_cov[group.genes] = torch.einsum("ldfmg,dm->lfgd", half, cumulate)
        delta[0, group.guides] = torch.einsum("gk,lkf->lgf", group.basis, mean[:, d:])
        own = cov[:, d:, :, d:].diagonal(dim1=2, dim2=4)
        delta[1, group.guides] = torch.einsum("gk,lkmf,gm->lgf", group.basis, own, group.basis)
        beta[group.guides] = torch.einsum("gdk,lkf->lgfd", group.to_beta, mean)
        half = torch.einsum("gdk,lkfmh->lgdfmh", group.to_beta, cov)
        beta_cov[group.guides] = torch.einsum("lgdfmh,gdm->lgfhd", half, group.to_beta)
    return Moments(
        theta_mean=theta,
        theta_covariance=theta_cov,
        beta_mean=beta,
        beta_covariance=beta_cov,
        delta_mean=delta[0],
        delta_sd=delta[1].clamp_min(0).sqrt(),
    )


def _point(name: str, value: Tensor, log_density: Tensor, event_dim: int, dtype: torch.dtype) -> None:
    pyro.sample(name, dist.Delta(value.to(dtype), log_density=log_density.to(dtype), event_dim=event_dim))
