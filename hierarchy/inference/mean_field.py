"""The mean-field family, Pyro's `AutoNormal`, fitted by `pyro.infer.SVI` with Adam; kept for comparison."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from jaxtyping import Float, Int
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from pyro.optim import ClippedAdam, PyroOptim
from torch import Tensor
from torch.distributions import biject_to

from hierarchy.inference.base import Draws, Moments, Outcome, ScalePoints, Status, check_draws
from hierarchy.inference.checkpoint import Checkpoint
from hierarchy.inference.gene_block import GeneBlock, fit_gene_block
from hierarchy.inference.progress import progress_bar
from hierarchy.model import HierarchyModel
from hierarchy.ops import center_within_gene, random_walk
from hierarchy.problem import Problem
from hierarchy.result import Fit
from hierarchy.settings import FitSettings

WINDOW = 100  # steps over which the ELBO is averaged
RATE_DROP, LEAST_RATE = 0.3, 0.02  # the rate is multiplied by the first when the averaged ELBO stalls, down to the second times the initial rate
MAX_CELLS, BATCH_CELLS = 2_000_000, 200_000  # cells up to which a step takes them all, and the size of its minibatch beyond
N_DRAWS = 400  # for means and intervals without a number of draws of their own


def fit_mean_field(problem: Problem, store: Checkpoint, *, progress: bool) -> Fit:
    """Fit the family by SVI from the gene-block fit, from the checkpoint if there is one.

    Parameters
    ----------
    problem
        What to fit.
    store
        The checkpoint.
    progress
        Whether to show a progress bar.
    """
    settings = problem.settings
    first = fit_gene_block(problem, store, progress=progress)
    if not isinstance(first.posterior, GeneBlock):
        return first
    whole = None if problem.data.n_cells <= MAX_CELLS else BATCH_CELLS
    model = dataclasses.replace(first.model, batch_cells=settings.batch_cells or whole)
    posterior = mean_field_from(model, first.posterior, seed=settings.seed)
    state = store.load("adam", lambda parts: AdamState(**parts)) or AdamState(rate=settings.learning_rate)
    with progress_bar(progress, settings, 0, "SVI steps") as show:

        def on_step(now: AdamState) -> None:
            show(now.step, now.elbo[-1])
            store.save("adam", now.parts())

        run_adam(model, posterior, settings, state, on_step=on_step)
    outcome = Outcome.of(state.status, state.step)
    if outcome.failed:
        advice = f"the ELBO is not finite at step {state.step}. Lower learning_rate, or set likelihood_weight to a fixed number."
        outcome = dataclasses.replace(outcome, advice=advice, arguments=("learning_rate", "likelihood_weight"))
    else:
        check_draws(model, posterior.draws(4, seed=settings.seed))
    usable = None if outcome.failed else posterior
    return dataclasses.replace(first, model=model, posterior=usable, outcome=outcome, elbo=tuple(state.elbo), steps=state.step, window=WINDOW)


class MeanField(AutoNormal):
    """Independent Gaussians on the non-centred sites z, ε, u (log-normal on the scales): Pyro's `AutoNormal`, for comparison.

    Its standard errors are too small.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import MeanField, hierarchy_model
    >>> posterior = MeanField(hierarchy_model(data))
    >>> tuple(posterior.draws(5, seed=0).theta.shape)  # draws, genes, non-reference fates, days
    (5, 8, 2, 2)
    """

    def __init__(self, model: HierarchyModel, **options: Any):
        """`options` are those of `AutoNormal`."""
        super().__init__(model, **options)
        self.hierarchy = model  # `AutoNormal.model` is bound to Pyro's module

    @torch.no_grad()
    def draws(self, n: int, *, seed: int) -> Draws:
        """`n` joint draws."""
        model, data = self.hierarchy, self.hierarchy.data
        with _seeded(seed), pyro.get_param_store().scope():
            self()  # the first call lays out the sites
            sites = {}
            for name, site in self.prototype_trace.iter_stochastic_nodes():
                loc, scale = self._get_loc_and_scale(name)
                sites[name] = biject_to(site["fn"].support)(loc + scale * torch.randn(n, *loc.shape, dtype=loc.dtype, device=loc.device))
        first = sites["tau"] * sites["z"]
        scale = first.new_ones(()) if model.time_scale is None else model.time_scale
        theta = random_walk(first, sites["sigma_time"] * scale * sites["eps"]) if data.n_days > 1 else first.unsqueeze(-1)
        u = center_within_gene(sites["u"], data.guide_to_gene, data.n_guides_per_gene) if model.center_guides else sites["u"]
        days = [sites["sigma_time"].squeeze(-2)] if data.n_days > 1 else []
        scales = torch.cat([sites["tau"], *days, sites["sigma_guide"]], -1)
        nuisance = torch.cat([sites["alpha"].squeeze(-2), sites["b"].squeeze(-2), sites["gamma"]], -1)
        delta = (sites["sigma_guide"] * u).transpose(1, 2)
        return Draws(theta=theta.transpose(1, 2).double(), delta=delta.double(), scales=scales.double(), nuisance=nuisance.double())

    def moments(self, *, n_draws: int, seed: int) -> Moments:
        """Means and SDs over `n_draws` draws."""
        return moments_of_draws(self.draws(n_draws, seed=seed), self.hierarchy.data.guide_to_gene)

    def scale_points(self, *, seed: int) -> ScalePoints:
        """Draws of the scales, with equal weights."""
        scales = self.draws(N_DRAWS, seed=seed).scales
        return ScalePoints(scales=scales, weights=scales.new_full((len(scales),), 1 / len(scales)))

    def mean_nuisance(self, *, seed: int) -> Float[Tensor, "nonref nuisance"]:
        """Means of the nuisance columns over draws, (F*, M)."""
        return self.draws(N_DRAWS, seed=seed).nuisance.mean(0)

    def family_fit(self, *, n_draws: int, seed: int) -> None:
        """None: the family is not of one gene's likelihood, so there is no check of it gene by gene."""


def moments_of_draws(draws: Draws, guide_to_gene: Int[Tensor, " guides"]) -> Moments:
    """Means and SDs over draws; those of β come from draws of the sum θ + δ."""
    beta = draws.theta[:, guide_to_gene] + draws.delta.unsqueeze(-1)
    return Moments(
        theta_mean=draws.theta.mean(0),
        theta_covariance=_covariance(draws.theta),
        beta_mean=beta.mean(0),
        beta_covariance=_covariance(beta),
        delta_mean=draws.delta.mean(0),
        delta_sd=draws.delta.std(0),
    )


def _covariance(values: Tensor) -> Tensor:
    """Covariances over fates on each day, (units, F*, F*, D), of draws (S, units, F*, D)."""
    centred = values - values.mean(0)
    return torch.einsum("sufd,sugd->ufgd", centred, centred) / (len(values) - 1)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Pyro's generators at a seed, restored afterwards."""
    before = pyro.util.get_rng_state()
    pyro.set_rng_seed(seed)
    try:
        yield
    finally:
        pyro.util.set_rng_state(before)


@dataclass(kw_only=True, eq=False)
class AdamState:
    """The state of SVI after a number of steps: everything that a checkpoint holds.

    Attributes
    ----------
    step
        Number of steps taken.
    rate
        Learning rate of the next step.
    status
        How the fit ends if no further step is taken.
    elbo
        Mean ELBO of each window of steps.
    window
        ELBO of each step of the window that is not complete.
    best
        Largest mean ELBO of a window.
    parameters
        The posterior's parameters, by name.
    optimizer
        The optimizer's state.
    rng
        State of torch's random generator.
    """

    step: int = 0
    rate: float = math.nan
    status: Status = "step_limit"
    elbo: list[float] = field(default_factory=list)
    window: list[float] = field(default_factory=list)
    best: float = -math.inf
    parameters: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    rng: Any = None

    def parts(self) -> dict[str, Any]:
        """The state by name, for a checkpoint."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


def mean_field_from(model: HierarchyModel, first: GeneBlock, *, seed: int) -> MeanField:
    """A mean-field posterior with the means of a gene-block posterior."""
    moments = first.moments(n_nodes=1, seed=seed)
    scale = first.integration_points(1, seed=seed)[0][0].exp()
    d, dtype = model.data.n_days, model.design.dtype
    walk = torch.cat([moments.theta_mean[..., :1], moments.theta_mean.diff(dim=-1)], -1).permute(1, 0, 2) / first.coords.walk_scale(scale.log())[:, None]
    nuisance = first.mean_nuisance()
    values = {
        "tau": scale[:, :1],
        "sigma_guide": scale[:, -1:],
        "sigma_time": scale[:, None, 1:-1],
        "z": walk[..., 0],
        "eps": walk[..., 1:],
        "u": moments.delta_mean.T / scale[:, -1:],
        "alpha": nuisance[:, None, :d],
        "b": nuisance[:, None, d:-1],
        "gamma": nuisance[:, -1:],
    }
    pyro.set_rng_seed(seed)
    posterior = MeanField(model, init_loc_fn=init_to_value(values={k: v.to(dtype) for k, v in values.items()}), init_scale=0.1)
    with pyro.get_param_store().scope():  # Pyro's store is global: leave the user's as it is
        posterior()
    return posterior


def run_adam(model: HierarchyModel, posterior: MeanField, settings: FitSettings, state: AdamState, *, on_step: Callable[[AdamState], None]) -> None:
    """Steps until the ELBO, averaged over windows, stalls at the smallest rate; on an earlier stall the rate drops.

    Parameters
    ----------
    model
        The Pyro model.
    posterior
        The posterior, whose parameters are changed.
    settings
        For the rates, the maximum number of steps and the seed.
    state
        The state to start from, which is changed.
    on_step
        Called with the state after each window.
    """
    optimizer = ClippedAdam({"lr": state.rate, "clip_norm": 10.0})
    svi = SVI(model, posterior, optimizer, Trace_ELBO())
    pyro.set_rng_seed(settings.seed)
    if state.parameters:
        posterior.load_state_dict(state.parameters)
        optimizer.set_state(state.optimizer)
        torch.set_rng_state(state.rng)
    with pyro.get_param_store().scope():
        while state.status == "step_limit" and state.step < settings.step_limit:
            _advance(state, svi)
            if len(state.window) == WINDOW:
                _close_window(state, settings, optimizer)
                state.parameters = posterior.state_dict()
                state.optimizer, state.rng = optimizer.get_state(), torch.get_rng_state()
                on_step(state)


def _advance(state: AdamState, svi: SVI) -> None:
    try:
        loss = svi.step()
    except ValueError:  # raised by Pyro for a parameter that has become NaN, infinite, or a scale of zero
        loss = math.nan
    if not math.isfinite(loss):
        state.status = "not_finite"
        return
    state.step += 1
    state.window.append(-loss)


def _close_window(state: AdamState, settings: FitSettings, optimizer: PyroOptim) -> None:
    mean = sum(state.window) / WINDOW
    error = (sum((x - mean) ** 2 for x in state.window) / WINDOW**2) ** 0.5
    state.elbo.append(mean)
    state.window = []
    stalled = mean < state.best + error
    state.best = max(state.best, mean)
    if stalled:
        if state.rate <= LEAST_RATE * settings.learning_rate:
            state.status = "converged"
        state.rate *= RATE_DROP
        for one in optimizer.optim_objs.values():
            for group in one.param_groups:
                group["lr"] = state.rate
