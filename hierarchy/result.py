"""What a fit returns: the posterior, how the steps went, and how they ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.errors import whole_number
from hierarchy.inference.base import Draws, FitFailed, Moments, Outcome, Posterior, ScalePoints
from hierarchy.inference.estimates import Estimates, Estimator
from hierarchy.inference.linear import NotDefinite
from hierarchy.model import HierarchyModel
from hierarchy.settings import FitSettings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """A fitted hierarchy. `fit` makes it.

    Attributes
    ----------
    model
        The Pyro model, with its data, design and priors.
    posterior
        The fitted posterior, a `GeneBlock` or a `MeanField`; None where the fit failed.
    estimator
        What likelihood-type estimates are computed from; None where the fit failed. With a `MeanField`, that of the gene-block fit from which it started.
    settings
        Settings of the fit.
    weight
        The likelihood weight w, 1 over the mean dispersion φ of the cells.
    weight_table
        The likelihood weights by day and replicate, (D, R); all `weight` where there is one.
    outcome
        How the fit ended: whether it converged, and advice where it did not.
    elbo
        The evidence lower bound: before each natural-gradient step, at that step's weight, or its mean over each window of steps of SVI.
    moved
        RMS change of the means in each natural-gradient step, in posterior SDs.
    weights
        Mean w in each natural-gradient step.
    steps
        Number of steps.
    window
        Number of steps that each entry of `elbo` covers.
    seconds
        Duration of the fit in seconds.

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
    posterior: Posterior | None
    estimator: Estimator | None
    settings: FitSettings
    weight: float
    weight_table: Float[Tensor, "days reps"]
    outcome: Outcome
    elbo: tuple[float, ...]
    moved: tuple[float, ...]
    weights: tuple[float, ...]
    steps: int
    window: int = 1
    seconds: float = 0.0

    @property
    def converged(self) -> bool:
        """Whether the fit converged before the maximum number of steps."""
        return self.outcome.status == "converged"

    @property
    def elbo_over_weight(self) -> tuple[float, ...]:
        """`elbo` over the likelihood weight in force at each entry: comparable between steps, though natural-gradient steps re-estimate the weight."""
        weights = self.weights if self.window == 1 else [self.weight] * len(self.elbo)
        return tuple(bound / weight for bound, weight in zip(self.elbo, weights, strict=True))

    def moments(self, *, n_draws: int = 1000) -> Moments:
        """Posterior means, SDs and covariances of θ, β and δ, in closed form for `GeneBlock`, else over `n_draws` draws; `FitFailed` without a posterior."""
        with self.usable() as posterior:
            return posterior.moments(n_draws=n_draws, seed=self.settings.seed)

    def estimates(self) -> Estimates:
        """Likelihood-type estimates of θ and β, without the priors of θ; `FitFailed` without a posterior."""
        with self.usable():
            assert self.estimator is not None  # there is one where there is a posterior
            return self.estimator.estimates()

    def draws(self, n: int = 1000) -> Draws:
        """`n` joint posterior draws; `FitFailed` without a posterior."""
        whole_number("n", n)
        with self.usable() as posterior:
            return posterior.draws(n, seed=self.settings.seed)

    def scale_points(self) -> ScalePoints:
        """Weighted points of the posterior of the scales; `FitFailed` without a posterior."""
        with self.usable() as posterior:
            return posterior.scale_points(seed=self.settings.seed)

    def nuisance_mean(self) -> Float[Tensor, "nonref nuisance"]:
        """Posterior means of the nuisance columns (F*, M): days, replicates, burden; `FitFailed` without a posterior."""
        with self.usable() as posterior:
            return posterior.mean_nuisance(seed=self.settings.seed)

    def family_fit(self, *, n_draws: int = 64) -> Float[Tensor, " genes"] | None:
        """How well the family fits each gene's likelihood, from 0 to 1; None where the family has no such check; `FitFailed` without a posterior."""
        with self.usable() as posterior:
            return posterior.family_fit(n_draws=n_draws, seed=self.settings.seed)

    @contextmanager
    def usable(self) -> Iterator[Posterior]:
        """The posterior; a numerical failure in what it is asked for is a `FitFailed` too."""
        if self.posterior is None:
            raise FitFailed(self.outcome)
        try:
            yield self.posterior
        except torch.linalg.LinAlgError as error:
            genes = error.genes if isinstance(error, NotDefinite) else []
            raise FitFailed(Outcome.of("not_definite", self.steps, [self.model.data.genes[i] for i in genes])) from error
