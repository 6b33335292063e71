"""Natural-gradient variational inference of the gene-block family.

The family is a Gaussian over each gene's coordinates and over the nuisance columns. Its natural-gradient step of length one
sets every precision to prior + w · E[information] and moves the means by Q⁻¹ E[gradient] (Khan and Rue 2023, eq. 4): Newton's method with
expectations in place of values. Expectations over a cell are low-dimensional and done by cubature, so a step has no noise; the scales
(Fisher scoring of their marginal posterior) and the weight w (Pearson dispersion) move in the same step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from data_prep.errors import InputError
from hierarchy.cells import CellDesign
from hierarchy.coordinates import Coordinates
from hierarchy.inference.curvature import Pass, pass_over_cells
from hierarchy.inference.linear import Precision, centred_preconditioner, conjugate_gradient, definite
from hierarchy.inference.scales import climb, gene_posteriors, half_normal_scales
from hierarchy.settings import FitSettings, Priors

STEP_TOLERANCE = 2e-3  # RMS change of the means in posterior SDs
SCALE_TOLERANCE = 2e-3  # largest change of a log scale
UNDAMPED_STEPS = 8
WEIGHT_TOLERANCE = 5e-4  # relative change of w


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NaturalState:
    """Where the steps are: all that a checkpoint holds.

    `mean` (rows, F*); `covariance` each group's (L_n, K·F*, K·F*) blocks, None before the first step; `log_scale` (F*, D + 1).
    """

    mean: Tensor
    log_scale: Tensor
    weight: Tensor
    covariance: list[Tensor] | None = None
    step: int = 0
    converged: bool = False
    elbo: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NaturalProblem:
    """What the steps need and never change."""

    design: CellDesign
    coords: Coordinates
    priors: Priors
    settings: FitSettings

    @property
    def nuisance_prior(self) -> Tensor:
        """1/s² of the nuisance rows, (M, F*): days, replicates, burden."""
        p, coords = self.priors, self.coords
        n_reps = coords.n_nuisance - coords.n_days - 1
        scale = torch.tensor([p.alpha] * coords.n_days + [p.rep] * n_reps + [p.gamma], dtype=torch.float64, device=coords.packed.device)
        return scale.pow(-2).unsqueeze(1).expand(-1, coords.n_free)

    def prior(self, log_scale: Tensor) -> Tensor:
        """1/s² of every coordinate, (rows, F*)."""
        parts = [self.coords.prior_precision(g, log_scale).expand(g.genes.numel(), -1, -1) for g in self.coords.groups]
        return self.coords.join(parts, self.nuisance_prior)


def start(problem: NaturalProblem) -> NaturalState:
    """No effects, each day's mean log-odds, modest scales."""
    coords, design = problem.coords, problem.design
    mean = torch.zeros(coords.n_rows, coords.n_free, dtype=torch.float64, device=design.prob.device)
    day = design.nuisance[:, : coords.n_days]
    average = ((day.T @ design.prob).double() / day.sum(0).double().unsqueeze(1)).clamp_min(1e-6)
    mean[coords.nuisance][: coords.n_days] = (average[:, 1:] / average[:, :1]).log()
    log_scale = torch.full((coords.n_free, coords.n_days + 1), -1.2, dtype=torch.float64, device=mean.device)
    fixed = problem.settings.likelihood_weight
    weight = torch.tensor(1.0 if fixed == "auto" else float(fixed), dtype=torch.float64, device=mean.device)
    return NaturalState(mean=mean, log_scale=log_scale, weight=weight)


def dispersion_weight(problem: NaturalProblem, found: Pass) -> Tensor:
    """w = 1/φ, φ the Pearson dispersion: the posterior mean of Σ (p − π)²/π over N·F*.

    Over the joint law of π and p the sum's mean is φ N F*. Averaging over the posterior is what the usual statistic at the
    fitted π with N·F* less the effective parameters approximates; it stays right where φ is near 1 (one-hot fates).
    """
    return problem.design.prob.shape[0] * problem.coords.n_free / found.pearson


def natural_step(problem: NaturalProblem, state: NaturalState) -> NaturalState:
    """One natural-gradient step of everything."""
    coords, design = problem.coords, problem.design
    found = pass_over_cells(design, coords, state.mean, state.covariance)
    weight = state.weight
    if problem.settings.likelihood_weight == "auto":
        weight = dispersion_weight(problem, found)
    gene_mean = [group.split(state.mean).flatten(1) for group in coords.groups]
    info = [weight * h for h in found.blocks]
    linear = [
        torch.einsum("lij,lj->li", h, m) + weight * group.split(found.gradient).flatten(1) for h, m, group in zip(info, gene_mean, coords.groups, strict=True)
    ]
    half_normal = half_normal_scales(coords, problem.priors)
    log_scale = climb(coords, state.log_scale, half_normal, info, linear, 2)
    climbed = (log_scale - state.log_scale).abs().max()
    if state.step >= UNDAMPED_STEPS:  # with about as many coordinates as cells, scales and means can chase each other
        log_scale = (log_scale + state.log_scale) / 2
    covariance = gene_posteriors(coords, log_scale, info, linear)[1]
    prior = problem.prior(log_scale)
    gradient = weight * found.gradient - prior * state.mean
    precision = Precision(design=design, coords=coords, curvature=found.curvature, weight=weight, prior=prior)
    step = conjugate_gradient(precision, gradient.unsqueeze(-1), centred_preconditioner(design, coords, found, weight, prior), 6).squeeze(-1)
    step = step * (4.0 / step.abs().max().clamp_min(4.0))  # far from the optimum the quadratic is not to be trusted
    in_sd = [(group.split(step).flatten(1).square() / cov.diagonal(dim1=-2, dim2=-1)).flatten() for group, cov in zip(coords.groups, covariance, strict=True)]
    moved = torch.cat(in_sd).mean().sqrt()
    change = torch.stack([moved / STEP_TOLERANCE, climbed / SCALE_TOLERANCE, (weight / state.weight - 1).abs() / WEIGHT_TOLERANCE])
    bound = elbo(problem, state, found, covariance)
    moved_, bound_, largest, was = torch.stack([moved, bound, change.max(), state.weight]).tolist()  # the step's one word to the host
    return replace(
        state,
        mean=state.mean + step,
        log_scale=log_scale,
        weight=weight,
        covariance=covariance,
        step=state.step + 1,
        converged=largest < 1.0 and state.covariance is not None,
        elbo=[*state.elbo, bound_],
        moved=[*state.moved, moved_],
        weights=[*state.weights, was],
    )


def elbo(problem: NaturalProblem, state: NaturalState, found: Pass, covariance: list[Tensor]) -> Tensor:
    """w E[log L] − KL(posterior ‖ prior) at the state's means, scales and weight (scales at their point)."""
    coords = problem.coords
    prior = problem.prior(state.log_scale)
    total = state.weight * found.log_lik - 0.5 * (prior * state.mean.square()).sum() + 0.5 * prior.log().sum()
    for group, cov in zip(coords.groups, state.covariance or covariance, strict=True):
        own = group.split(prior).flatten(1)
        total = total + 0.5 * (torch.linalg.slogdet(cov)[1] - (own * cov.diagonal(dim1=-2, dim2=-1)).sum(1) + own.shape[1]).sum()
    q = state.weight * found.nuisance + torch.diag(prior[coords.nuisance].flatten())
    cov = torch.linalg.inv(q)
    return total + 0.5 * (torch.linalg.slogdet(cov)[1] - (prior[coords.nuisance].flatten() * cov.diagonal()).sum() + len(cov))


@definite()
def run_natural(problem: NaturalProblem, state: NaturalState, *, on_step: Callable[[NaturalState], None] = lambda _: None) -> NaturalState:
    """Steps until means, scales and weight stand still, or the limit."""
    while not state.converged and state.step < problem.settings.step_limit:
        state = natural_step(problem, state)
        if not torch.isfinite(torch.tensor(state.elbo[-1])):
            raise InputError(
                f"the ELBO is not finite after step {state.step}: the fit diverged. "
                "Try a fixed likelihood_weight (1 is the mildest), and look for fates with almost no probability."
            )
        on_step(state)
    return state
