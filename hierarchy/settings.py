"""Settings of the model and the fit; every default is written here, once."""

from dataclasses import dataclass
from typing import Literal

from data_prep.errors import InputError, positive, whole_number

PosteriorName = Literal["gene_block", "mean_field"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """Prior scales of the model.

    α ~ N(0, alpha²), b ~ N(0, rep²), γ ~ N(0, gamma²); τ, σ_time and σ_guide ~ HalfNormal with the scales `tau`, `time` and `guide`. All are in log-odds.

    Attributes
    ----------
    alpha
        SD of the intercepts of fate and day.
    rep
        SD of the replicates' shifts.
    gamma
        SD of the slope in the guide burden.
    tau
        Scale of τ, the SD of gene effects on the first day.
    time
        Scale of σ_time, the SD of the steps between days.
    guide
        Scale of σ_guide, the SD of the guides' deviations.

    Raises
    ------
    InputError
        Where one is not positive and finite.

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
    """How to fit.

    Attributes
    ----------
    posterior
        "gene_block" keeps each gene's covariance, fitted by natural-gradient steps; "mean_field" is the independent-sites family, fitted by
        `pyro.infer.SVI`, for comparison.
    likelihood_weight
        "auto" for w = 1/φ, φ the Pearson dispersion of the fate probabilities; a number fixes w.
    se
        "posterior", or "sandwich" for errors that are robust to noise shared by the cells of a cluster (`FateData.cluster`; each cell alone without one);
        with "gene_block" only.
    center_guides
        False is the uncentred model, kept only to show what centring mends.
    max_steps
        At most so many steps; None for the family's own (60 natural, 20,000 Adam).
    learning_rate
        Adam's first rate ("mean_field").
    batch_cells
        Cells in a minibatch ("mean_field"); None for all cells, up to 2,000,000.
    n_probes
        Random right-hand sides for the covariance between genes ("gene_block").
    n_scale_nodes
        Points at which the scales τ, σ_time, σ_guide are integrated ("gene_block").
    check_centering
        Assert that δ is centred at every step, not only at the end.
    seed
        Of every random draw, 0 to 2³² − 1.

    Raises
    ------
    InputError
        On an unknown name, a number outside its range, or settings that exclude each other.

    Examples
    --------
    >>> from hierarchy import FitSettings
    >>> FitSettings(se="sandwich").step_limit
    60
    """

    posterior: PosteriorName = "gene_block"
    likelihood_weight: float | Literal["auto"] = "auto"
    se: Literal["posterior", "sandwich"] = "posterior"
    center_guides: bool = True
    max_steps: int | None = None
    learning_rate: float = 0.02
    batch_cells: int | None = None
    n_probes: int = 48
    n_scale_nodes: int = 64
    check_centering: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if self.posterior not in ("gene_block", "mean_field"):
            raise InputError(f"posterior is {self.posterior!r}; choose 'gene_block' or 'mean_field'.")
        if self.likelihood_weight != "auto":
            positive("likelihood_weight, where it is not 'auto',", self.likelihood_weight)
        if self.se not in ("posterior", "sandwich"):
            raise InputError(f"se is {self.se!r}; choose 'posterior' or 'sandwich'.")
        if self.se == "sandwich" and self.posterior != "gene_block":
            raise InputError("se 'sandwich' is for posterior 'gene_block'.")
        for name in ("max_steps", "batch_cells", "n_scale_nodes"):
            if (value := getattr(self, name)) is not None:
                whole_number(name, value)
        if self.batch_cells is not None and self.posterior != "mean_field":
            raise InputError("batch_cells is for posterior 'mean_field'; natural-gradient steps see all cells.")
        if whole_number("seed", self.seed, least=0) >= 2**32:
            raise InputError(f"seed is {self.seed}; it must be from 0 to {2**32 - 1}.")
        positive("learning_rate", self.learning_rate)
        whole_number("n_probes", self.n_probes, least=2)

    @property
    def step_limit(self) -> int:
        """The largest number of steps in force."""
        return self.max_steps or (60 if self.posterior == "gene_block" else 20_000)
