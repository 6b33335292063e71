"""`fit_mash`: estimates and standard errors in, posteriors shared across conditions and genes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Shaped

from data_prep.errors import InputError, positive, warn, whole_number
from hierarchy.mash.covariances import LEAST_STRONG, between_contrasts, canonical, data_driven, distinct, pairs, strong_genes, temporal
from hierarchy.mash.data import MashData, mash_data
from hierarchy.mash.independence import independence_counts
from hierarchy.mash.mixture import Prior, autoselect_grid, component_names, fit_weights, log_likelihood_ratios, null_counts
from hierarchy.mash.posterior import Posterior, component_probabilities, draw, summarise_posterior

LEAST_GENES = 20  # genes with estimates below which only canonical covariances are used


@dataclass(frozen=True, eq=False, kw_only=True)
class MashFit:
    """A fitted mash model.

    Attributes
    ----------
    data
        The estimates, with the precisions of their errors.
    prior
        Covariances and scales of the mixture.
    ratios
        log likelihood of each gene under each component, over the null's.
    weights
        Weights of the components: the null first, then scale by scale, within a scale the covariances in their order.
    penalty
        Dirichlet penalty of each component in pseudo-genes: of the null, and of components that are independent between conditions.
    gap
        Largest possible distance of the penalised log likelihood from its maximum; 0 where weights were given.
    shown
        The conditions of which estimates and posteriors are returned; all of them, or those of one contrast of a joint fit.

    Examples
    --------
    >>> import numpy as np
    >>> from hierarchy import fit_mash
    >>> rng = np.random.default_rng(1)
    >>> effects = np.where(np.arange(200)[:, None] < 20, rng.normal(0, 1, (200, 1)), 0.0) * np.ones(4)
    >>> fitted = fit_mash(effects + rng.normal(0, 0.2, (200, 4)), np.full((200, 4), 0.2), covariances="canonical")
    >>> max(fitted.covariance_weights, key=fitted.covariance_weights.get), fitted.sample(3, seed=1).shape
    ('null', (3, 200, 4))
    """

    data: MashData
    prior: Prior
    ratios: Float[np.ndarray, "genes components"]
    weights: Float[np.ndarray, " components"]
    penalty: Float[np.ndarray, " components"]
    gap: float
    shown: slice = field(default_factory=lambda: slice(None))

    @property
    def names(self) -> Sequence[str]:
        """Names of the components."""
        return component_names(self.prior)

    @cached_property
    def log_likelihoods(self) -> Float[np.ndarray, " genes"]:
        """log likelihood of each gene's estimates."""
        return self.data.log_null + component_probabilities(self.ratios, self.weights)[1]

    @property
    def log_likelihood(self) -> float:
        """Their sum, without the penalty on the null."""
        return float(self.log_likelihoods.sum())

    def of_conditions(self, shown: slice) -> "MashFit":
        """The same fit, of which only these conditions are returned."""
        return replace(self, shown=shown)

    @property
    def betahat(self) -> Float[np.ndarray, "genes conditions"]:
        """The estimates; NaN where missing."""
        return np.where(self.data.observed, self.data.betahat, np.nan)[:, self.shown]

    @property
    def se(self) -> Float[np.ndarray, "genes conditions"]:
        """Their standard errors; NaN where missing."""
        return np.where(self.data.observed, self.data.se, np.nan)[:, self.shown]

    @cached_property
    def posterior(self) -> Posterior:
        """Means, SDs and sign probabilities; a gene without any estimate has lfsr 1."""
        return summarise_posterior(self.data, self.prior, self.ratios, self.weights).of(self.shown)

    def posterior_of(
        self,
        betahat: Float[np.ndarray, "units conditions"],
        se: Float[np.ndarray, "units conditions"],
        V: Float[np.ndarray, "units conditions conditions"] | None = None,
    ) -> Posterior:
        """The posterior of other estimates of the conditions shown, all others missing, under the prior that was learned from these genes."""
        n, n_all = len(betahat), self.data.betahat.shape[1]
        wide, errors, correlation = np.full((n, n_all), np.nan), np.full((n, n_all), np.nan), np.tile(np.eye(n_all), (n, 1, 1))
        wide[:, self.shown], errors[:, self.shown] = betahat, se
        if V is not None:
            correlation[:, self.shown, self.shown] = V
        data = mash_data(wide, errors, correlation)
        prior, weights = self.prior.used(self.weights)
        return summarise_posterior(data, prior, log_likelihood_ratios(data, prior), weights).of(self.shown)

    @property
    def mean(self) -> Float[np.ndarray, "genes conditions"]:
        """Posterior means."""
        return self.posterior.mean

    @property
    def sd(self) -> Float[np.ndarray, "genes conditions"]:
        """Posterior SDs."""
        return self.posterior.sd

    @property
    def negative_prob(self) -> Float[np.ndarray, "genes conditions"]:
        """Posterior probabilities of an effect below zero."""
        return self.posterior.negative_prob

    @property
    def lfsr(self) -> Float[np.ndarray, "genes conditions"]:
        """Local false sign rates."""
        return self.posterior.lfsr

    @property
    def covariance_weights(self) -> dict[str, float]:
        """Total weight of the null and of each covariance over its scales."""
        k = len(self.prior.names)
        return {"null": float(self.weights[0])} | {name: float(self.weights[1 + j :: k].sum()) for j, name in enumerate(self.prior.names)}

    def sample(self, n: int, seed: int, *, genes: slice = slice(None)) -> Float[np.ndarray, "draws genes conditions"]:
        """`n` draws of every gene's effects from its posterior, or of a slice of the genes."""
        probability, _ = component_probabilities(self.ratios[genes], self.weights)
        return draw(self.data.of(genes), self.prior, probability, n=n, rng=np.random.default_rng(seed))[..., self.shown]


def fit_mash(
    betahat: Shaped[np.ndarray, "..."],
    se: Shaped[np.ndarray, "..."],
    *,
    V: Shaped[np.ndarray, "..."] | None = None,
    covariances: str | Mapping[str, Shaped[np.ndarray, "..."]] = "auto",
    null_weight: float = 10.0,
    grid: Shaped[np.ndarray, "..."] | None = None,
    weights: Shaped[np.ndarray, "..."] | None = None,
    n_contrasts: int = 1,
    names: Shaped[np.ndarray, " genes"] | None = None,
) -> MashFit:
    """Multivariate adaptive shrinkage (Urbut, Wang, Carbonetto and Stephens 2019, doi:10.1038/s41588-018-0268-8).

    b̂_g ~ N(b_g, diag(se_g) V diag(se_g)), b_g ~ π_0 δ_0 + Σ_kl π_kl N(0, w_l² U_k); the weights π maximise the likelihood of all genes, and each gene's
    posterior follows in closed form. With one condition this is adaptive shrinkage with normal mixtures (ash, Stephens 2017).

    Parameters
    ----------
    betahat
        Estimates, (genes, conditions): the days of a contrast in order, or the days of several contrasts, contrast by contrast. NaN is a
        missing estimate and is integrated out.
    se
        Their standard errors, (genes, conditions).
    V
        Correlation of the errors between conditions: one matrix (conditions, conditions), or one for each gene; independent errors by default.
    covariances
        "auto": canonical, temporal (with pairs of days) and data-driven covariances, with a penalty that prefers independent conditions where the data do
        not decide; "mashr": canonical and data-driven; "canonical"; or a mapping of name → covariance, which are used as they are given.
    null_weight
        Dirichlet penalty on the null; 10 prefers the null where the data do not decide, 1 is none.
    grid
        Scales of the covariances; by default from the data (`autoselect_grid` of mashr).
    weights
        Weights of the components in place of fitted ones: the null, then scale by scale, within a scale the covariances in their order.
    n_contrasts
        Number of contrasts in the columns.
    names
        Names of the genes, for messages.

    Returns
    -------
    MashFit

    Raises
    ------
    InputError
        On estimates, errors, V, covariances, grid or weights that can't be used, with the rows concerned.

    Warns
    -----
    ScreenWarning
        Where there are too few genes or strong genes to learn from, and which covariances or weights are used then.

    Examples
    --------
    >>> import numpy as np
    >>> from hierarchy import fit_mash
    >>> rng = np.random.default_rng(1)
    >>> effects = np.where(np.arange(200)[:, None] < 20, rng.normal(0, 1, (200, 1)), 0.0) * np.ones(4)
    >>> fitted = fit_mash(effects + rng.normal(0, 0.2, (200, 4)), np.full((200, 4), 0.2), covariances="canonical")
    >>> int((fitted.lfsr[:20] < 0.05).any(1).sum()), int((fitted.lfsr[20:] < 0.05).any(1).sum())
    (12, 0)
    """
    data = mash_data(betahat, se, V, names)
    if not data.observed.any():
        raise InputError("betahat has no estimate: every entry is missing.", "betahat")
    n = data.betahat.shape[1]
    if n % whole_number("n_contrasts", n_contrasts):
        raise InputError(f"n_contrasts is {n_contrasts}, but {n} conditions can't be split into that many contrasts of equal length.", "n_contrasts")
    matrices = _matrices(data, covariances, n_contrasts)
    scales = autoselect_grid(data.betahat, data.se, data.observed) if grid is None else _checked_grid(grid)
    prior = Prior.of(matrices if isinstance(covariances, Mapping) else {name: U / U.diagonal().max() for name, U in matrices.items()}, scales)
    ratios = log_likelihood_ratios(data, prior)
    if weights is not None:
        given = _checked_weights(weights, prior)
        return MashFit(data=data, prior=prior, ratios=ratios, weights=given, penalty=np.zeros_like(given), gap=0.0)
    if positive("null_weight", null_weight) < 1:
        raise InputError(f"null_weight is {null_weight}; it must be at least 1 (no penalty).", "null_weight")
    penalty = null_counts(prior, float(null_weight))
    if covariances == "auto" and n > 1 and data.informative.sum() >= LEAST_GENES:
        penalty += independence_counts(data, prior, ratios, penalty)
    fitted, gap = fit_weights(ratios[data.informative], penalty)
    return MashFit(data=data, prior=prior, ratios=ratios, weights=fitted, penalty=penalty, gap=gap)


def _matrices(data: MashData, covariances: str | Mapping[str, Float[np.ndarray, "conditions conditions"]], n_contrasts: int) -> dict[str, np.ndarray]:
    n = data.betahat.shape[1]
    if isinstance(covariances, Mapping):
        return {name: _checked_covariance(name, U, n) for name, U in covariances.items()}
    if covariances not in ("auto", "mashr", "canonical"):
        raise InputError(f"covariances is {covariances!r}; choose 'auto', 'mashr', 'canonical', or give a mapping.", "covariances")
    n_days = n // n_contrasts
    found = canonical(n)
    if n == 1:
        return {"effect": found["identity"]}
    if covariances == "canonical":
        return found
    if (n_genes := int(data.informative.sum())) < LEAST_GENES:
        warn(f"{n_genes} genes are too few to learn covariances from (at least {LEAST_GENES}): the canonical ones are used alone.", "covariances")
        return found
    if covariances == "auto":
        over_days = temporal(n_days) | pairs(n_days) if n_days > 1 else {}
        found = distinct(found | between_contrasts(canonical(n_days) | over_days, n_contrasts)) if n_contrasts > 1 else found | over_days
    rows = strong_genes(data)
    if rows.size < LEAST_STRONG:
        warn(
            f"{rows.size} genes have a clear effect, too few to learn covariances from (at least {LEAST_STRONG}): no data-driven ones are used.", "covariances"
        )
        return found
    return found | data_driven(data, rows)


def _checked_covariance(name: str, U: np.ndarray, n: int) -> np.ndarray:
    U = np.asarray(U, np.float64)
    if U.shape != (n, n) or not np.isfinite(U).all() or np.abs(U - U.T).max() > 1e-8 * max(1.0, np.abs(U).max()):
        raise InputError(f"the covariance {name!r} has shape {U.shape}; it must be a symmetric, finite {n} × {n} matrix.", "covariances")
    values = np.linalg.eigvalsh(U)
    if values[0] < -1e-8 * max(values[-1], 1e-300) or values[-1] <= 0:
        raise InputError(f"the covariance {name!r} is not positive semi-definite (smallest eigenvalue {values[0]:.2g}).", "covariances")
    return U


def _checked_grid(given: Shaped[np.ndarray, "..."]) -> np.ndarray:
    grid = np.asarray(given, np.float64)
    if grid.ndim != 1 or not grid.size or not (np.isfinite(grid) & (grid > 0)).all():
        raise InputError("grid must be a list of positive, finite scales.", "grid")
    return grid


def _checked_weights(given: Shaped[np.ndarray, "..."], prior: Prior) -> np.ndarray:
    weights = np.asarray(given, np.float64)
    if weights.shape != (prior.n_components,) or not (np.isfinite(weights) & (weights >= 0)).all() or not np.isclose(weights.sum(), 1, atol=1e-6):
        problem = f"weights has shape {weights.shape}; it must hold {prior.n_components} numbers of at least 0 that sum to 1"
        raise InputError(f"{problem}: the null, then scale by scale the {len(prior.names)} covariances.", "weights")
    return weights
