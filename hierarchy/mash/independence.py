"""A penalty by which the effects of a gene in several conditions are independent where the data do not decide.

Few genes leave the weights of many covariances undetermined. At their maximum, errors of the clearest genes in further conditions look like
effects, and become calls with too small an lfsr. Let ρ be the weights of adaptive shrinkage of all gene-conditions together, as if each were a gene
of its own. Components that are null, or independent with equal variances in some conditions, get the weights q that ρ gives to their number of
active conditions and their scale. A Dirichlet penalty of s pseudo-genes pulls the weights towards q,

    Σ_g log Σ_k π_k L_gk + s Σ_k q_k log π_k.

s is chosen among a few by the likelihood of genes left out of the fit: the largest within one standard error of the best (Breiman, Friedman,
Olshen and Stone 1984, section 3.4.3), so that sharing between conditions is learned where there is some.
"""

import numpy as np
from jaxtyping import Float

from hierarchy.mash.data import MashData, mash_data
from hierarchy.mash.mixture import Prior, fit_weights, log_likelihood_ratios
from hierarchy.mash.posterior import component_probabilities

STRENGTHS = (0.0, 0.03, 0.3, 3.0)  # pseudo-genes for each gene, rising
FOLDS = 5
MOST_GENES, MOST_ESTIMATES = 1000, 5000  # from which the strength and ρ are learned
TOLERANCE = 1e-5  # of the weights by which strengths are compared
LEAST_SHARE = 1e-3  # of the largest entry of q, below which an entry is left out


def independence_counts(
    data: MashData, prior: Prior, ratios: Float[np.ndarray, "genes components"], counts: Float[np.ndarray, " components"]
) -> Float[np.ndarray, " components"]:
    """The penalty s q.

    Parameters
    ----------
    data
        The estimates.
    prior
        The components of the mixture.
    ratios
        log likelihood of each gene under each component, over the null's.
    counts
        The penalty besides.
    """
    q = independent_weights(data, prior, counts[0])
    own = ratios[data.informative]
    own = own[:: -(-len(own) // MOST_GENES)]
    fold = np.arange(len(own)) % FOLDS
    held_out = np.zeros((len(STRENGTHS), len(own)))
    for i, strength in enumerate(STRENGTHS):
        penalty = (1 - 1 / FOLDS) * strength * len(own) * q + counts
        for k in range(FOLDS):
            weights, _ = fit_weights(own[fold != k], penalty, tolerance=TOLERANCE)
            held_out[i, fold == k] = component_probabilities(own[fold == k], weights)[1]
    lost = held_out[held_out.sum(1).argmax()] - held_out
    near = lost.sum(1) <= lost.std(1) * len(own) ** 0.5
    return np.asarray(STRENGTHS[int(np.flatnonzero(near).max())] * len(own) * q)


def independent_weights(data: MashData, prior: Prior, null_count: float) -> Float[np.ndarray, " components"]:
    """q: the weights of null and independent components that follow from the share of active gene-conditions and their scales."""
    step = -(-int(data.observed.sum()) // MOST_ESTIMATES)
    alone = mash_data(data.betahat[data.observed][::step, None], data.se[data.observed][::step, None])
    effect = Prior.of({"effect": np.eye(1)}, prior.grid)
    rho, _ = fit_weights(log_likelihood_ratios(alone, effect), np.append(null_count, np.zeros(len(prior.grid))), tolerance=TOLERANCE)
    n, k = data.betahat.shape[1], len(prior.names)
    q = np.zeros(prior.n_components)
    q[0] = rho[0] ** n
    for j, F in enumerate(prior.factors):
        U = F @ F.T
        own = U.diagonal() > 0
        if np.allclose(U, np.diag(own) * U.max()):
            q[1 + j :: k] = rho[0] ** (n - own.sum()) * (1 - rho[0]) ** (own.sum() - 1) * rho[1:]
    q[q < LEAST_SHARE * q.max()] = 0.0
    return q / q.sum()
