"""What a posterior offers, whatever its family, and how a fit ended.

A family is one module with a class that meets `Posterior` and a function that fits it, listed in `hierarchy.fitting.FAMILIES`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

from data_prep.errors import first_few
from hierarchy.model import HierarchyModel
from hierarchy.ops import check_mean_zero

Status = Literal["converged", "step_limit", "not_finite", "not_definite"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Posterior means, SDs and covariances, in log-odds; float64. `Fit.moments` returns them.

    Attributes
    ----------
    theta_mean
        Posterior means of the gene effects θ, (L, F*, D).
    theta_covariance
        Posterior covariances of θ over non-reference fates on each day, (L, F*, F*, D).
    beta_mean
        Posterior means of the guide effects β = θ + δ, (G, F*, D).
    beta_covariance
        Posterior covariances of β over non-reference fates on each day, (G, F*, F*, D).
    delta_mean
        Posterior means of the guide deviations δ, (G, F*).
    delta_sd
        Posterior SDs of δ, (G, F*).

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

    theta_mean: Float[Tensor, "genes nonref days"]
    theta_covariance: Float[Tensor, "genes nonref nonref days"]
    beta_mean: Float[Tensor, "guides nonref days"]
    beta_covariance: Float[Tensor, "guides nonref nonref days"]
    delta_mean: Float[Tensor, "guides nonref"]
    delta_sd: Float[Tensor, "guides nonref"]

    @property
    def theta_sd(self) -> Float[Tensor, "genes nonref days"]:
        """Posterior SDs of θ, (L, F*, D)."""
        return self.theta_covariance.diagonal(dim1=1, dim2=2).transpose(1, 2).clamp_min(0).sqrt()

    @property
    def beta_sd(self) -> Float[Tensor, "guides nonref days"]:
        """Posterior SDs of β, (G, F*, D)."""
        return self.beta_covariance.diagonal(dim1=1, dim2=2).transpose(1, 2).clamp_min(0).sqrt()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """S joint posterior draws; float64. `Fit.draws` returns them.

    Attributes
    ----------
    theta
        Gene effects θ, (S, L, F*, D).
    delta
        Guide deviations δ, (S, G, F*).
    scales
        Scales τ, σ_time of each of the D − 1 steps (one for all of them with `time_scale`), and σ_guide, (S, F*, scales).
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

    theta: Float[Tensor, "draws genes nonref days"]
    delta: Float[Tensor, "draws guides nonref"]
    scales: Float[Tensor, "draws nonref scales"]
    nuisance: Float[Tensor, "draws nonref nuisance"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScalePoints:
    """Weighted points that represent the posterior of the scales τ, σ_time and σ_guide.

    Attributes
    ----------
    scales
        The points, (S, F*, scales).
    weights
        Their weights, which sum to 1, (S,).
    """

    scales: Float[Tensor, "points nonref scales"]
    weights: Float[Tensor, " points"]


def check_draws(model: HierarchyModel, draws: Draws) -> None:
    """Assert that the deviations of the guides average to zero within each gene, where the model centres them."""
    if model.center_guides:
        data = model.data
        check_mean_zero(draws.delta.transpose(1, 2), data.guide_to_gene, data.n_guides_per_gene, data.genes)


class Posterior(Protocol):
    """What tables, checks, figures and files need of a posterior. It is also a guide in Pyro's sense: a call samples the model's latent sites."""

    def __call__(self) -> Any:
        """Sample the model's latent sites."""

    def moments(self, *, n_draws: int, seed: int) -> Moments:
        """Posterior means and SDs; `n_draws` is for families without closed forms."""

    def draws(self, n: int, *, seed: int) -> Draws:
        """`n` joint posterior draws."""

    def scale_points(self, *, seed: int) -> ScalePoints:
        """The posterior of the scales."""

    def mean_nuisance(self, *, seed: int) -> Float[Tensor, "nonref nuisance"]:
        """Posterior means of the days' intercepts, the replicates' shifts and the burden slope, (F*, M)."""

    def family_fit(self, *, n_draws: int, seed: int) -> Float[Tensor, " genes"] | None:
        """How well the family fits each gene's likelihood, from 0 to 1, (L,), NaN where a gene was not checked; None where a family has no such check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a fit ended.

    Attributes
    ----------
    status
        "converged"; "step_limit" where the maximum number of steps came first; "not_finite" where the ELBO or the posterior became infinite or NaN;
        "not_definite" where a precision matrix was not positive definite in floating point. The last two are failures: there is no posterior.
    genes
        Names of the genes concerned, where they are known.
    advice
        What happened and what to try, in one text; empty where the fit converged.
    arguments
        Settings to change, such as ("likelihood_weight",).

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import FitSettings, fit
    >>> outcome = fit(data, settings=FitSettings(likelihood_weight=1e300)).outcome
    >>> outcome.status, outcome.failed, outcome.arguments
    ('not_definite', True, ('likelihood_weight',))
    """

    status: Status
    genes: tuple[str, ...] = ()
    advice: str = ""
    arguments: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether there is no posterior."""
        return self.status in ("not_finite", "not_definite")

    @classmethod
    def of(cls, status: Status, n_steps: int, genes: Sequence[str] = ()) -> "Outcome":
        """The outcome of a fit that ended after `n_steps` steps with a status, which may concern some `genes`."""
        where = f" of {first_few(genes)}" if genes else ""
        advice, arguments = {
            "converged": ("", ()),
            "step_limit": (
                f"the fit did not converge in {n_steps} steps. Raise max_steps; until the fit converges, interpret its standard errors with caution.",
                ("max_steps",),
            ),
            "not_finite": (
                f"the fit diverged after step {n_steps}: the ELBO or the posterior{where} is not finite. Set likelihood_weight to a fixed number "
                "(1 is the safest choice), and look for fates whose probabilities are almost 0 in every cell.",
                ("likelihood_weight",),
            ),
            "not_definite": (
                f"a precision matrix of the posterior{where} is not positive definite in floating point. The likelihood weight is too large, for example "
                "because all cells have the same fate probabilities. Set likelihood_weight to a smaller number (1 is the safest choice), and look for "
                "fates whose probabilities hardly differ between cells.",
                ("likelihood_weight",),
            ),
        }[status]
        return cls(status=status, genes=tuple(genes), advice=advice, arguments=arguments)


class FitFailed(RuntimeError):
    """Raised where a result is asked of a fit that has no posterior; its text is the advice of the fit's outcome.

    Attributes
    ----------
    outcome
        How the fit ended.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import FitFailed, FitSettings, fit, summarise
    >>> try:
    ...     summarise(fit(data, settings=FitSettings(likelihood_weight=1e300)))
    ... except FitFailed as error:
    ...     print(error.outcome.status)
    not_definite
    """

    def __init__(self, outcome: Outcome):
        """Of the outcome of a fit."""
        super().__init__(outcome.advice)
        self.outcome = outcome
