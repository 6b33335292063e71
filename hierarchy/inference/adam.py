"""`pyro.infer.SVI` with Adam, to convergence: how the mean-field family is fitted."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide.initialization import init_to_value
from pyro.optim import ClippedAdam, PyroOptim

from data_prep.errors import InputError
from hierarchy.inference.posterior import GeneBlock, MeanField
from hierarchy.model import HierarchyModel
from hierarchy.settings import FitSettings

WINDOW = 100  # steps over which the ELBO is smoothed
RATE_DROP, LEAST_RATE = 0.3, 0.02  # the rate is dropped when the smoothed ELBO stalls, down to this part of the first


@dataclass(kw_only=True, eq=False)
class AdamState:
    """Where SVI is: steps, rate, the smoothed ELBO after each window, and all that a checkpoint needs."""

    step: int = 0
    rate: float = math.nan
    converged: bool = False
    elbo: list[float] = field(default_factory=list)
    window: list[float] = field(default_factory=list)
    best: float = -math.inf
    parameters: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    rng: Any = None


def mean_field_from(model: HierarchyModel, start: GeneBlock, *, seed: int) -> MeanField:
    """A mean-field posterior that starts at another posterior's means."""
    moments = start.moments(n_nodes=1, seed=seed)
    nodes, _ = start.scale_nodes(1, seed=seed)
    scale = nodes[0].exp()
    d, dtype = model.data.n_days, model.design.prob.dtype
    walk = torch.cat([moments.theta_mean[..., :1], moments.theta_mean.diff(dim=-1)], -1).permute(1, 0, 2) / (scale * start.coords.time_scale)[:, None, :d]
    nuisance = start.nuisance_mean.detach().reshape(-1, model.data.n_free).T
    values = {
        "tau": scale[:, :1],
        "sigma_guide": scale[:, d:],
        "sigma_time": scale[:, None, 1:d],
        "z": walk[..., 0],
        "eps": walk[..., 1:],
        "u": moments.delta_mean.T / scale[:, d:],
        "alpha": nuisance[:, None, :d],
        "b": nuisance[:, None, d:-1],
        "gamma": nuisance[:, -1:],
    }
    pyro.set_rng_seed(seed)
    posterior = MeanField(model, init_loc_fn=init_to_value(values={k: v.to(dtype) for k, v in values.items()}), init_scale=0.1)
    with pyro.get_param_store().scope():  # Pyro's store is global: leave the user's as it is
        posterior()
    return posterior


def run_adam(
    model: HierarchyModel, posterior: MeanField, settings: FitSettings, *, state: AdamState | None = None, on_step: Callable[[AdamState], None] = lambda _: None
) -> AdamState:
    """Steps until the ELBO, averaged over windows, stalls at the smallest rate; on a stall the rate drops."""
    state = state or AdamState(rate=settings.learning_rate)
    optimizer = ClippedAdam({"lr": state.rate, "clip_norm": 10.0})
    svi = SVI(model, posterior, optimizer, Trace_ELBO())
    pyro.set_rng_seed(settings.seed)
    if state.parameters:
        posterior.load_state_dict(state.parameters)
        optimizer.set_state(state.optimizer)
        torch.set_rng_state(state.rng)
    with pyro.get_param_store().scope():
        while not state.converged and state.step < settings.step_limit:
            _advance(state, svi)
            if len(state.window) == WINDOW:
                _close_window(state, settings, optimizer)
                state.parameters = posterior.state_dict()
                state.optimizer, state.rng = optimizer.get_state(), torch.get_rng_state()
                on_step(state)
    return state


def _advance(state: AdamState, svi: SVI) -> None:
    said = f"the ELBO is not finite at step {state.step}. Lower learning_rate, or fix likelihood_weight."
    try:
        loss = svi.step()
    except ValueError as error:  # Pyro's word for a parameter that has become NaN, infinite, or a scale of zero
        raise InputError(said) from error
    if not math.isfinite(loss):
        raise InputError(said)
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
        state.converged = state.rate <= LEAST_RATE * settings.learning_rate
        state.rate *= RATE_DROP
        for one in optimizer.optim_objs.values():
            for group in one.param_groups:
                group["lr"] = state.rate
