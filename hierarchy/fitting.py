"""`FateData` → `Fit`: variational inference to convergence, with checkpoints."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from data_prep.errors import InputError, warn, whole_number
from data_prep.tensors import FateData
from hierarchy.cells import cell_design
from hierarchy.coordinates import coordinates
from hierarchy.inference.adam import AdamState, mean_field_from, run_adam
from hierarchy.inference.checkpoint import Checkpoint
from hierarchy.inference.curvature import pass_over_cells
from hierarchy.inference.linear import definite
from hierarchy.inference.marginals import marginal_covariances
from hierarchy.inference.natural import NaturalProblem, NaturalState, run_natural, start
from hierarchy.inference.posterior import Draws, GeneBlock, MeanField, Moments, moments_of_draws
from hierarchy.inference.sandwich import robust_covariances
from hierarchy.inference.scales import ScalePosterior, gene_posteriors, half_normal_scales, scale_posterior
from hierarchy.model import HierarchyModel
from hierarchy.ops import check_mean_zero
from hierarchy.settings import FitSettings, Priors

_State = TypeVar("_State", NaturalState, AdamState)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """A fitted hierarchy.

    Attributes
    ----------
    model
        The Pyro model, with its data, design and priors.
    posterior
        The fitted variational family.
    settings
        How it was fitted.
    weight
        The likelihood weight w in force; 1/w is the dispersion φ.
    converged
        Whether the stop rule was met before the step limit.
    elbo
        The bound after each step, at that step's weight.
    moved
        How far the means moved in each natural step, in posterior SDs (RMS).
    weights
        w at each natural step.
    steps
        How many steps were taken.
    seconds
        How long they took.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import fit
    >>> fitted = fit(data)
    >>> fitted.converged, round(fitted.weight)
    (True, 50)
    """

    model: HierarchyModel
    posterior: GeneBlock | MeanField
    settings: FitSettings
    weight: float
    converged: bool
    elbo: tuple[float, ...]
    moved: tuple[float, ...]
    weights: tuple[float, ...]
    steps: int
    seconds: float

    def moments(self, *, n_draws: int = 1000) -> Moments:
        """Posterior means and SDs of θ, β and δ: in closed form given the scales for `GeneBlock`, else over `n_draws` draws."""
        if isinstance(self.posterior, GeneBlock):
            return self.posterior.moments(n_nodes=self.settings.n_scale_nodes, seed=self.settings.seed)
        return moments_of_draws(self.draws(n_draws), self.model.data.guide_to_gene)

    def draws(self, n: int = 1000) -> Draws:
        """`n` joint posterior draws."""
        whole_number("the number of draws", n)
        if isinstance(self.posterior, GeneBlock):
            return self.posterior.draws(n, n_nodes=self.settings.n_scale_nodes, seed=self.settings.seed)
        return self.posterior.draws(n, seed=self.settings.seed)

    def nuisance_mean(self) -> Tensor:
        """Posterior mean of the nuisance columns (F*, M): days, replicates, burden."""
        if isinstance(self.posterior, GeneBlock):
            return self.posterior.nuisance_mean.detach().reshape(-1, self.model.data.n_free).T
        return self.draws(400).nuisance.mean(0)

    def coordinate_mean(self) -> Tensor:
        """Posterior mean of all coordinates (rows, F*) of a `GeneBlock` fit; see `hierarchy.coordinates`."""
        if not isinstance(self.posterior, GeneBlock):
            raise InputError("coordinates are of posterior 'gene_block'.")
        coords, node = self.posterior.coords, self.posterior.scale_nodes(1, seed=0)[0][0]
        with torch.no_grad():
            means = gene_posteriors(coords, node, self.posterior.info, self.posterior.linear)[0]
        parts = [m.reshape(len(g.genes), g.n_coords, -1) for g, m in zip(coords.groups, means, strict=True)]
        return coords.join(parts, self.nuisance_mean().T)


def choose_device(name: str = "auto") -> torch.device:
    """The device named; "auto" takes CUDA when there is one.

    Parameters
    ----------
    name
        "auto", "cpu", "cuda" or "cuda:N".

    Returns
    -------
    torch.device
        For `FateData.to`.

    Raises
    ------
    InputError
        Where CUDA is asked for and there is none, or the name is not a device.

    Examples
    --------
    >>> from hierarchy import choose_device
    >>> choose_device("cpu")
    device(type='cpu')
    """
    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    if name.startswith("cuda") and not there:
        raise InputError(f"device {name!r} was asked for, but there is no CUDA device. Use --device cpu or auto.")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"{name!r} is not a device: use auto, cpu or cuda.")
    return device


def fit(
    data: FateData,
    *,
    priors: Priors | None = None,
    settings: FitSettings | None = None,
    time_scale: Tensor | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Fit:
    """Fit the hierarchy to a screen, on the device its tensors are on.

    Parameters
    ----------
    data
        The screen's tensors.
    priors
        Prior scales; by default those of `Priors`.
    settings
        How to fit; by default as `FitSettings` says.
    time_scale
        Positive multipliers of the random walk's steps, [D − 1], for unequal gaps between days; by default all 1.
    checkpoint
        A file for the state; a killed fit goes on from it to the same answer, and it is deleted by none but the caller.
    progress
        Show a progress bar with the bound, the rate and the time left (on a terminal).

    Returns
    -------
    Fit
        With the posterior, the weight, and how the steps went.

    Raises
    ------
    InputError
        When the bound is not finite, or the checkpoint is of another screen or other settings.

    Warns
    -----
    ScreenWarning
        When the step limit was reached before the fit had converged.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import FitSettings, fit, summarise
    >>> fitted = fit(data, settings=FitSettings(seed=1))
    >>> summarise(fitted).gene_table("MES").round(2).tail(2)
        gene  betahat_d0  betahat_d1  se_d0  se_d1
    6  GENE6        0.38       -0.01   0.02   0.02
    7  GENE7       -0.01        0.02   0.02   0.02
    """
    priors, settings = priors or Priors(), settings or FitSettings()
    if time_scale is not None and (time_scale.shape != (data.n_days - 1,) or not bool(((time_scale > 0) & time_scale.isfinite()).all())):
        raise InputError(f"time_scale must have {data.n_days - 1} positive entries, one for each step between days, not {time_scale.tolist()}.")
    if settings.batch_cells is not None and settings.batch_cells > data.n_cells:
        raise InputError(f"batch_cells is {settings.batch_cells}, but the screen has {data.n_cells} cells. Give fewer, or None for all.")
    began = time.perf_counter()
    design = cell_design(data)
    coords = coordinates(data, design, center_guides=settings.center_guides, time_scale=time_scale)
    problem = NaturalProblem(design=design, coords=coords, priors=priors, settings=settings)
    store = Checkpoint.of(checkpoint, data, priors, settings, time_scale)

    first = start(problem)
    natural = store.load_natural(first) or first
    with _bar(progress, settings, natural.step, "natural steps") as say:
        natural = run_natural(problem, natural, on_step=_after(say, store.save_natural))
    model = HierarchyModel(
        data=data,
        design=design,
        priors=priors,
        weight=float(natural.weight),
        center_guides=settings.center_guides,
        time_scale=None if time_scale is None else time_scale.to(design.prob),
        check_centering=settings.check_centering,
    )
    generator = torch.Generator(device=data.device).manual_seed(settings.seed)
    posterior: GeneBlock | MeanField
    posterior = gene_block_from(problem, natural, model, generator=generator)
    elbo, converged, steps = natural.elbo, natural.converged, natural.step
    if settings.posterior == "mean_field":
        model = dataclasses.replace(model, batch_cells=settings.batch_cells or (None if data.n_cells <= 2_000_000 else 200_000))
        posterior = mean_field_from(model, posterior, seed=settings.seed)
        with _bar(progress, settings, 0, "SVI steps") as say:
            found = run_adam(model, posterior, settings, state=store.load_adam(), on_step=_after(say, store.save_adam))
        elbo, converged, steps = found.elbo, found.converged, found.step
    if not converged:
        warn(f"the fit did not converge in {steps} steps; raise max_steps, and mistrust the errors until it does.")
    if settings.center_guides:
        check_mean_zero(_delta(posterior, settings), data.guide_to_gene, data.n_guides_per_gene, data.genes)
    return Fit(
        model=model,
        posterior=posterior,
        settings=settings,
        weight=float(natural.weight),
        converged=converged,
        elbo=tuple(elbo),
        moved=tuple(natural.moved),
        weights=tuple(natural.weights),
        steps=steps,
        seconds=time.perf_counter() - began,
    )


@definite()
def gene_block_from(problem: NaturalProblem, state: NaturalState, model: HierarchyModel, *, generator: torch.Generator) -> GeneBlock:
    """The gene-block posterior at the end of the natural steps, with marginal covariances and the scales' posterior."""
    coords = problem.coords
    found = pass_over_cells(problem.design, coords, state.mean, state.covariance)
    marginals = marginal_covariances(problem, found, state.weight, state.log_scale, generator=generator)
    prior = problem.prior(state.log_scale)
    blocks = marginals.blocks
    if problem.settings.se == "sandwich":
        blocks = robust_covariances(problem, found, state.weight, prior, blocks, model.data.cluster)
    info, linear = [], []
    for group, cov in zip(coords.groups, blocks, strict=True):
        precision = torch.cholesky_inverse(torch.linalg.cholesky(cov))
        info.append(precision - torch.diag_embed(group.split(prior).flatten(1)))
        linear.append((precision @ group.split(state.mean).flatten(1).unsqueeze(-1)).squeeze(-1))
    half_normal = half_normal_scales(coords, problem.priors)
    scales = scale_posterior(coords, state.log_scale, half_normal, info, linear)
    return GeneBlock(
        model,
        coords,
        info=info,
        linear=linear,
        scales=ScalePosterior(mean=scales.mean, covariance=scales.covariance),
        nuisance_mean=state.mean[coords.nuisance],
        nuisance_covariance=marginals.nuisance,
    )


def _delta(posterior: GeneBlock | MeanField, settings: FitSettings) -> Tensor:
    """A few draws of δ, (S, F*, G), for the check of the centring."""
    if isinstance(posterior, GeneBlock):
        return posterior.draws(4, n_nodes=1, seed=settings.seed).delta.transpose(1, 2)
    return posterior.draws(4, seed=settings.seed).delta.transpose(1, 2)


class _bar:
    """A progress bar that shows the bound; silent unless asked for and on a terminal."""

    def __init__(self, shown: bool, settings: FitSettings, done: int, unit: str):
        self.bar = tqdm(total=settings.max_steps, initial=done, unit=f" {unit}", disable=None if shown else True)

    def __enter__(self) -> Callable[[int, float], None]:
        def say(step: int, elbo: float) -> None:
            self.bar.set_postfix(ELBO=f"{elbo:,.1f}", refresh=False)
            self.bar.update(step - self.bar.n)

        return say

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def _after(say: Callable[[int, float], None], save: Callable[[_State], None]) -> Callable[[_State], None]:
    def on_step(state: _State) -> None:
        say(state.step, state.elbo[-1])
        save(state)

    return on_step
