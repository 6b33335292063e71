"""Settings of the model and of the fit, with their defaults."""

from dataclasses import dataclass
from typing import Literal

from data_prep.errors import InputError, positive, whole_number

PosteriorName = Literal["gene_block", "mean_field"]
STEP_LIMITS: dict[PosteriorName, int] = {"gene_block": 60, "mean_field": 20_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """Prior scales of the model.

    α ~ N(0, alpha²), b ~ N(0, rep²), γ ~ N(0, gamma²); τ, σ_time and σ_guide ~ HalfNormal with the scales `tau`, `time` and `guide`. All are in log-odds.

    Attributes
    ----------
    alpha
        SD of the intercepts α of fate and day.
    rep
        SD of the shifts b of the replicates.
    gamma
        SD of the slope γ in the guide burden.
    tau
        Scale of the prior of τ, the SD of gene effects on the first day.
    time
        Scale of the prior of σ_time, the SD of the steps of gene effects between days.
    guide
        Scale of the prior of σ_guide, the SD of the guides' deviations.

    Raises
    ------
    InputError
        If a scale is not positive and finite.

    Examples
    --------
    >>> from hierarchy import Priors
    >>> Priors(tau=1.0).tau, Priors().guide
    (1.0, 1.5)
    """

    alpha: float = 2.5
    rep: float = 0.8
    gamma: float = 0.8
    tau: float = 4.0
    time: float = 0.8
    guide: float = 1.5

    def __post_init__(self) -> None:
        """Check that all are positive and finite."""
        for name in self.__slots__:
            positive(f"the prior scale {name}", getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Settings of a fit.

    Attributes
    ----------
    posterior
        Posterior family: "gene_block" keeps each gene's covariance and is fitted by natural-gradient steps; "mean_field" has independent sites, is fitted
        by `pyro.infer.SVI`, and is there for comparison.
    likelihood_weight
        Likelihood weight w: "auto" for 1/φ by day and replicate, with φ the Pearson dispersion of the fate probabilities, shrunk to a common one; "common"
        for one weight of all cells; or a fixed number.
    se
        Standard errors: "posterior", or "sandwich" for errors that are robust to noise shared by the cells of a cluster (`FateData.cluster`, or each cell
        alone); "sandwich" requires "gene_block".
    center_guides
        Whether the guides' deviations average to zero within each gene; False only to show why centring is needed.
    max_steps
        Maximum number of steps; None for the family's default (60 natural-gradient steps, 20,000 steps of Adam).
    learning_rate
        Initial learning rate of Adam ("mean_field").
    batch_cells
        Number of cells in a minibatch ("mean_field"); None for all cells, up to 2,000,000.
    n_probes
        Maximum number of random right-hand sides for the covariance between genes ("gene_block").
    n_scale_nodes
        Least number of points at which the scales τ, σ_time, σ_guide are integrated ("gene_block"); points are added until their effective number is 100.
    check_centering
        Whether to check the centring at every step ("mean_field"), not only at the end.
    seed
        Random seed, 0 to 2³² − 1.

    Raises
    ------
    InputError
        If a name is unknown, a number is out of range, or two settings exclude each other.

    Examples
    --------
    >>> from hierarchy import FitSettings
    >>> FitSettings(se="sandwich").step_limit
    60
    """

    posterior: PosteriorName = "gene_block"
    likelihood_weight: float | Literal["auto", "common"] = "auto"
    se: Literal["posterior", "sandwich"] = "posterior"
    center_guides: bool = True
    max_steps: int | None = None
    learning_rate: float = 0.02
    batch_cells: int | None = None
    n_probes: int = 48
    n_scale_nodes: int = 128
    check_centering: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if self.posterior not in STEP_LIMITS:
            raise InputError(f"posterior is {self.posterior!r}; choose 'gene_block' or 'mean_field'.", "posterior")
        if self.likelihood_weight not in ("auto", "common"):
            object.__setattr__(self, "likelihood_weight", positive("likelihood_weight, where it is not 'auto' or 'common',", self.likelihood_weight))
        if self.se not in ("posterior", "sandwich"):
            raise InputError(f"se is {self.se!r}; choose 'posterior' or 'sandwich'.", "se")
        if self.se == "sandwich" and self.posterior != "gene_block":
            raise InputError(f"se 'sandwich' requires posterior 'gene_block', not {self.posterior!r}.", "se", "posterior")
        for name in ("max_steps", "batch_cells", "n_scale_nodes"):
            if (value := getattr(self, name)) is not None:
                whole_number(name, value)
        if self.batch_cells is not None and self.posterior != "mean_field":
            raise InputError("batch_cells requires posterior 'mean_field'; natural-gradient steps use all cells.", "batch_cells", "posterior")
        if whole_number("seed", self.seed, least=0) >= 2**32:
            raise InputError(f"seed is {self.seed}; it must be from 0 to {2**32 - 1}.", "seed")
        positive("learning_rate", self.learning_rate)
        whole_number("n_probes", self.n_probes, least=2)

    @property
    def step_limit(self) -> int:
        """The maximum number of steps in force."""
        return self.max_steps or STEP_LIMITS[self.posterior]
