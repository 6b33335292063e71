"""Covariances between conditions that the prior of mash mixes: canonical, temporal and learned from the strongest genes."""

import itertools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from hierarchy.mash.data import MashData, mash_data
from hierarchy.mash.mixture import Prior, autoselect_grid, fit_weights, log_likelihood_ratios, null_counts
from hierarchy.mash.posterior import summarise_posterior

STRONG_LFSR = 0.05  # a gene below it in some condition, on its own, teaches the data-driven covariances
LEAST_STRONG = 20  # strong genes below which there is too little to learn from
N_PATTERNS = 3  # principal components
MOST_DAYS_IN_PAIRS = 5
ROUGH, ROUGH_GENES = 1e-6, 5000  # tolerance of the weights by which strong genes are found, and genes from which they are learned
MAX_ITERATIONS, ED_TOLERANCE = 1000, 1e-6  # rise of the mean log likelihood at which extreme deconvolution ends, that of mashr

Covariances = dict[str, np.ndarray]


def canonical(n: int) -> Covariances:
    """The canonical covariances of mashr (Urbut et al. 2019): independent effects, effects in one condition, equal effects, and equicorrelated ones.

    >>> list(canonical(2))
    ['identity', 'singleton_0', 'singleton_1', 'equal_effects', 'simple_het_1', 'simple_het_2', 'simple_het_3']
    """
    out = {"identity": np.eye(n)}
    out |= {f"singleton_{d}": np.outer(np.eye(n)[d], np.eye(n)[d]) for d in range(n)}
    out["equal_effects"] = np.ones((n, n))
    return out | {f"simple_het_{i + 1}": rho + (1 - rho) * np.eye(n) for i, rho in enumerate((0.25, 0.5, 0.75))}


def temporal(n_days: int) -> Covariances:
    """Covariances of effects over ordered days: a random walk from the first day, effects that set in or end on a day, and effects that decay or build up.

    * `random_walk`: min(d, d′) + 1, the covariance of a walk with equal steps from a first effect of the size of a step.
    * `onset_j`: no effect before day j, the same effect from then on.
    * `offset_j`: the same effect before day j, none from then on.
    * `decay`, `growth`: effects that halve, or double, from day to day.

    Those that equal a canonical covariance (an onset on the last day, an offset after the first) are left out.
    """
    day = np.arange(n_days)
    out = {"random_walk": np.minimum.outer(day, day) + 1.0}
    out |= {f"onset_{j}": np.outer(day >= j, day >= j).astype(np.float64) for j in range(1, n_days - 1)}
    out |= {f"offset_{j}": np.outer(day < j, day < j).astype(np.float64) for j in range(2, n_days)}
    decay = 0.5**day
    out |= {"decay": np.outer(decay, decay), "growth": np.outer(decay[::-1], decay[::-1])}
    return out if n_days > 2 else {"random_walk": out["random_walk"]}


def pairs(n_days: int) -> Covariances:
    """Covariances of independent effects on two of the days, for effects that come and go by day; none beyond five days, where they are too many.

    >>> list(pairs(3))
    ['pair_0_1', 'pair_0_2', 'pair_1_2']
    """
    both = itertools.combinations(range(n_days), 2) if 2 < n_days <= MOST_DAYS_IN_PAIRS else ()
    return {f"pair_{i}_{j}": np.diag(np.isin(np.arange(n_days), (i, j)).astype(np.float64)) for i, j in both}


def between_contrasts(over_days: Mapping[str, Float[np.ndarray, "days days"]], n_contrasts: int) -> Covariances:
    """Covariances over days spread to several contrasts (contrast by contrast): in each contrast alone, in all of them independently, and equal in all.

    Parameters
    ----------
    over_days
        Name → (days, days).
    n_contrasts
        Number of contrasts; conditions are all days of the first contrast, then of the second, and so on.
    """
    blocks = {f"contrast_{c}": np.outer(np.eye(n_contrasts)[c], np.eye(n_contrasts)[c]) for c in range(n_contrasts)}
    blocks |= {"contrasts_apart": np.eye(n_contrasts), "contrasts_equal": np.ones((n_contrasts, n_contrasts))}
    return {f"{name}_{place}": np.kron(block, U) for name, U in over_days.items() for place, block in blocks.items()}


def distinct(covariances: Covariances) -> Covariances:
    """The covariances without those that equal an earlier one but for their scale."""
    found: Covariances = {}
    for name, U in covariances.items():
        if not any(np.allclose(U * (own.max() / U.max()), own) for own in found.values()):
            found[name] = U
    return found


def strong_genes(data: MashData) -> Int[np.ndarray, " strong"]:
    """The genes without missing estimates whose lfsr is below 0.05 in some condition when each is looked at alone (ash with normal mixtures, Stephens 2017)."""
    strong = np.zeros(len(data.betahat), bool)
    for d in range(data.betahat.shape[1]):
        own = data.observed[:, d]
        if not own.any():
            continue
        b, s = data.betahat[own, d : d + 1], data.se[own, d : d + 1]
        alone = mash_data(b, s)
        prior = Prior.of({"effect": np.eye(1)}, autoselect_grid(b, s, alone.observed))
        ratios = log_likelihood_ratios(alone, prior)
        weights, _ = fit_weights(ratios[:: max(1, len(ratios) // ROUGH_GENES)], null_counts(prior), tolerance=ROUGH)
        strong[np.flatnonzero(own)[summarise_posterior(alone, prior, ratios, weights).lfsr[:, 0] < STRONG_LFSR]] = True
    return np.flatnonzero(strong & data.observed.all(1))


def data_driven(data: MashData, rows: Int[np.ndarray, " strong"]) -> Covariances:
    """Covariances learned from the strong genes: their principal components and the matrix of those, refined by extreme deconvolution."""
    n = data.betahat.shape[1]
    own = data.betahat[rows]
    _, singular, directions = np.linalg.svd(own, full_matrices=False)
    k = min(N_PATTERNS, n)
    parts = [np.outer(directions[i], directions[i]) * singular[i] ** 2 / len(own) for i in range(k)]
    start = {f"pca_{i + 1}": part for i, part in enumerate(parts)} | {"tpca": np.sum(parts, axis=0)}
    error = np.linalg.inv(data.precision[rows])
    return {f"ed_{name}": U for name, U in deconvolve(own, error, start).items()}


def deconvolve(
    betahat: Float[np.ndarray, "genes conditions"],
    error: Float[np.ndarray, "genes conditions conditions"],
    start: Mapping[str, Float[np.ndarray, "conditions conditions"]],
) -> Covariances:
    """Extreme deconvolution: covariances of a mixture of Gaussians with mean zero, of which each gene is seen with error of its own covariance.

    The EM algorithm of Bovy, Hogg and Roweis 2011 (doi:10.1214/10-AOAS439), equations 16-17, with means fixed at zero: with T = U + C,
    b = U T⁻¹ b̂ and B = U − U T⁻¹ U, each U becomes the mean of b b' + B weighted by the component's probabilities.

    Parameters
    ----------
    betahat
        Estimates of the strong genes.
    error
        Covariances of their errors.
    start
        Name → covariance to start from.
    """
    names, U = list(start), np.stack(list(start.values()))
    weights, before = np.full(len(U), 1 / len(U)), -np.inf
    for _ in range(MAX_ITERATIONS):
        total = U[:, None] + error
        inverse = np.linalg.inv(total)
        along = np.einsum("kgij,gj->kgi", inverse, betahat)
        log_density = -0.5 * (np.einsum("kgi,gi->kg", along, betahat) + np.linalg.slogdet(total)[1])
        joint = log_density + np.log(np.maximum(weights, 1e-300))[:, None]
        top = joint.max(0)
        likelihood = np.exp(joint - top)
        objective = float((top + np.log(likelihood.sum(0))).sum())
        if objective - before < ED_TOLERANCE * len(betahat):
            break
        before = objective
        q = likelihood / likelihood.sum(0)
        mean = np.einsum("kij,kgj->kgi", U, along)
        mass = q.sum(1)
        spread = U - np.einsum("kij,kjl,klm->kim", U, np.einsum("kg,kgij->kij", q, inverse) / np.maximum(mass, 1e-300)[:, None, None], U)
        U = np.einsum("kg,kgi,kgj->kij", q, mean, mean) / np.maximum(mass, 1e-300)[:, None, None] + spread
        U = (U + U.transpose(0, 2, 1)) / 2
        weights = mass / len(betahat)
    return dict(zip(names, U, strict=True))
