"""Natural-gradient variational inference of the gene-block family.

The family is a Gaussian over each gene's coordinates and over the nuisance columns. A natural-gradient step of length one is

    Q ← prior precision + E[information],    mean ← mean + Q⁻¹ E[gradient of the log joint]

(Khan and Lin 2017; Khan and Rue 2023, equation 4): Newton's method with expectations in place of values. Expectations over a cell are
low-dimensional and done by cubature, so a step has no Monte Carlo noise. The scales (Fisher scoring of their marginal posterior) and the
weights w (Pearson dispersion; `weights.py`) move in the same step.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hierarchy.cells import CellBlock
from hierarchy.coordinates import GeneMatrices
from hierarchy.inference.base import Status
from hierarchy.inference.curvature import Pass, pass_over_cells
from hierarchy.inference.gene_likelihood import GeneLikelihood, gene_posteriors
from hierarchy.inference.linear import NotDefinite, Precision, centred_preconditioner, conjugate_gradient
from hierarchy.inference.scales import climb, half_normal_scales
from hierarchy.inference.weights import mean_weight
from hierarchy.problem import Problem

STEP_TOLERANCE = 2e-3  # RMS change of the means in posterior SDs
SCALE_TOLERANCE = 2e-3  # largest change of a log scale
UNDAMPED_STEPS, WHOLE_STEPS = 8, 16  # of the scales, and of the means
WEIGHT_TOLERANCE = 5e-4  # relative change of w
LONGEST_STEP = 4.0  # of a coordinate's mean, in log-odds: far from the optimum the quadratic expansion does not hold
SOLVE_ITERATIONS = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NaturalState:
    """The state after a number of steps: everything that a checkpoint holds.

    Attributes
    ----------
    mean
        Posterior means of the coordinates, (rows, F*).
    log_scale
        Logarithms of the scales, (F*, scales).
    weight
        The likelihood weights w by day and replicate, (D, R).
    covariance
        Posterior covariances of each group's genes; None before the first step.
    step
        Number of steps taken.
    status
        How the fit ends if no further step is taken.
    genes
        Positions of the genes where a step failed.
    elbo
        The ELBO before each step, at that step's weight.
    moved
        RMS change of the means in each step, in posterior SDs.
    weights
        Mean w in each step.
    """

    mean: Float[Tensor, "rows nonref"]
    log_scale: Float[Tensor, "nonref scales"]
    weight: Float[Tensor, "days reps"]
    covariance: GeneMatrices | None = None
    step: int = 0
    status: Status = "step_limit"
    genes: list[int] = field(default_factory=list)
    elbo: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def parts(self) -> dict[str, Any]:
        """The state by name, for a checkpoint."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def restored(self, parts: Any) -> "NaturalState | None":
        """The state of a checkpoint's `parts`, on the device of this first state; None where their types or shapes differ from its own."""
        if not isinstance(parts, dict) or parts.keys() != self.parts().keys():
            return None
        for name in ("mean", "log_scale", "weight"):
            value, like = parts[name], getattr(self, name)
            if not isinstance(value, Tensor) or value.shape != like.shape or value.dtype != like.dtype or not bool(value.isfinite().all()):
                return None
        covariance = parts["covariance"]
        if covariance is not None and not (
            isinstance(covariance, list) and all(isinstance(c, Tensor) and c.dtype == self.mean.dtype and c.ndim == 3 for c in covariance)
        ):
            return None
        traces = [parts[name] for name in ("elbo", "moved", "weights")]
        if not all(isinstance(values, list) and all(isinstance(v, float) for v in values) for values in traces):
            return None
        if type(parts["step"]) is not int or parts["status"] not in ("converged", "step_limit") or parts["genes"] != []:
            return None
        device = self.mean.device
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in parts.items()}
        return NaturalState(**moved | {"covariance": None if covariance is None else [c.to(device) for c in covariance]})


def start(problem: Problem) -> NaturalState:
    """The state before the first step: no effects, each day's mean log-odds, and scales of e^−1.2."""
    coords, design = problem.coords, problem.design
    mean = torch.zeros(coords.n_rows, coords.n_nonref, dtype=torch.float64, device=coords.packed.device)
    average = (design.cells.map_reduce(_by_day, coords.n_days) / design.group_cells.sum(1, keepdim=True)).clamp_min(1e-6)
    mean[coords.nuisance][: coords.n_days] = (average[:, 1:] / average[:, :1]).log()
    log_scale = torch.full((coords.n_nonref, coords.n_scales), -1.2, dtype=torch.float64, device=mean.device)
    fixed = problem.settings.likelihood_weight  # where it is no number, each pass over the cells has its own
    weight = torch.full_like(design.group_cells, fixed if isinstance(fixed, float) else 1.0)
    return NaturalState(mean=mean, log_scale=log_scale, weight=weight)


def _by_day(block: CellBlock, n_days: int) -> Tensor:
    """Sums of the fate probabilities by day, float64."""
    return (block.nuisance[:, :n_days].T @ block.prob).double()


def run_natural(problem: Problem, state: NaturalState, *, on_step: Callable[[NaturalState], None] = lambda _: None) -> NaturalState:
    """Take steps until means, scales and weight no longer change, the maximum number of steps is reached, or a step fails."""
    while state.status == "step_limit" and state.step < problem.settings.step_limit:
        try:
            state = natural_step(problem, state)
        except torch.linalg.LinAlgError as error:
            return replace(state, status="not_definite", genes=error.genes if isinstance(error, NotDefinite) else [])
        if not math.isfinite(state.elbo[-1]):
            return replace(state, status="not_finite")
        on_step(state)
    return state


def natural_step(problem: Problem, state: NaturalState) -> NaturalState:
    """One natural-gradient step of means, covariances, scales and weight."""
    coords = problem.coords
    found = pass_over_cells(problem.design, coords, state.mean, state.covariance, problem.weigh)
    likelihood = GeneLikelihood.at_pass(coords, found, state.mean)
    log_scale, climbed = _scale_step(problem, state, likelihood)
    covariance = gene_posteriors(coords, log_scale, likelihood).covariance
    step = mean_step(problem, state.mean, found, torch.diag_embed(problem.prior(log_scale)))
    in_sd = [(group.split(step).flatten(1).square() / cov.diagonal(dim1=-2, dim2=-1)).flatten() for group, cov in zip(coords.groups, covariance, strict=True)]
    moved = torch.cat(in_sd).mean().sqrt()
    change = torch.stack([moved / STEP_TOLERANCE, climbed / SCALE_TOLERANCE, (found.weight / state.weight - 1).abs().max() / WEIGHT_TOLERANCE])
    bound = elbo(problem, state, found, covariance)
    average = mean_weight(found.weight, problem.design.group_cells)
    moved_, bound_, largest, weight = torch.stack([moved, bound, change.max(), average]).tolist()  # one transfer to the host for each step
    return replace(
        state,
        mean=state.mean + (step if state.step < WHOLE_STEPS else step / 2),  # means of a fate that nearly no cell has can oscillate
        log_scale=log_scale,
        weight=found.weight,
        covariance=covariance,
        step=state.step + 1,
        status="converged" if largest < 1.0 and state.covariance is not None else "step_limit",
        elbo=[*state.elbo, bound_],
        moved=[*state.moved, moved_],
        weights=[*state.weights, weight],
    )


def _scale_step(problem: Problem, state: NaturalState, likelihood: GeneLikelihood) -> tuple[Tensor, Tensor]:
    """The next log scales (F*, scales), and the largest change before damping."""
    log_scale = climb(problem.coords, state.log_scale, half_normal_scales(problem.coords, problem.priors), likelihood, 2)
    climbed = (log_scale - state.log_scale).abs().max()
    if state.step >= UNDAMPED_STEPS:  # with about as many coordinates as cells, scales and means can oscillate
        log_scale = (log_scale + state.log_scale) / 2
    return log_scale, climbed


def mean_step(problem: Problem, mean: Float[Tensor, "rows nonref"], found: Pass, prior: Float[Tensor, "rows nonref nonref"]) -> Float[Tensor, "rows nonref"]:
    """The change of the coordinates' means (rows, F*) in one step.

    Parameters
    ----------
    problem
        The problem.
    mean
        The means, (rows, F*).
    found
        A pass over the cells at the means.
    prior
        Prior precision over non-reference fates of each row, (rows, F*, F*).
    """
    coords, design = problem.coords, problem.design
    gradient = found.gradient - (prior @ mean.unsqueeze(-1)).squeeze(-1)
    precision = Precision(design=design, coords=coords, states=found.states, prior=prior)
    preconditioner = centred_preconditioner(design, coords, found, prior)
    step = conjugate_gradient(precision, gradient.unsqueeze(-1), preconditioner, SOLVE_ITERATIONS).squeeze(-1)
    return step * (LONGEST_STEP / step.abs().max().clamp_min(LONGEST_STEP))


def elbo(problem: Problem, state: NaturalState, found: Pass, covariance: GeneMatrices) -> Float[Tensor, ""]:
    """E[log L] − KL(posterior ‖ prior) at the state's means and scales and the pass's weights, with the scales fixed at their values.

    Parameters
    ----------
    problem
        The problem.
    state
        The state, before its step.
    found
        The pass over the cells at the state.
    covariance
        Covariances after the step, for a first state that has none.
    """
    coords = problem.coords
    prior = problem.prior(state.log_scale)
    total = found.log_lik - 0.5 * (prior * state.mean.square()).sum() + 0.5 * prior.log().sum()
    for group, cov in zip(coords.groups, state.covariance or covariance, strict=True):
        own = group.split(prior).flatten(1)
        total = total + 0.5 * (torch.linalg.slogdet(cov)[1] - (own * cov.diagonal(dim1=-2, dim2=-1)).sum(1) + own.shape[1]).sum()
    q = found.nuisance + torch.diag(prior[coords.nuisance].flatten())
    cov = torch.linalg.inv(q)
    return total + 0.5 * (torch.linalg.slogdet(cov)[1] - (prior[coords.nuisance].flatten() * cov.diagonal()).sum() + len(cov))
