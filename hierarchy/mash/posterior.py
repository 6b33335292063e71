"""Posteriors of mash: means, SDs, signs and draws of each gene under the fitted mixture."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from hierarchy.mash.data import MashData
from hierarchy.mash.mixture import LEAST_WEIGHT, Prior, in_blocks, pencil


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """Posterior summaries of each gene in each condition.

    Attributes
    ----------
    mean
        Posterior mean.
    sd
        Posterior SD.
    negative_prob
        Posterior probability of an effect below zero.
    positive_prob
        Posterior probability of an effect above zero.
    zero_prob
        Posterior probability of no effect.
    """

    mean: Float[np.ndarray, "genes conditions"]
    sd: Float[np.ndarray, "genes conditions"]
    negative_prob: Float[np.ndarray, "genes conditions"]
    positive_prob: Float[np.ndarray, "genes conditions"]
    zero_prob: Float[np.ndarray, "genes conditions"]

    def of(self, conditions: slice) -> "Posterior":
        """A slice of the conditions."""
        return Posterior(**{name: getattr(self, name)[:, conditions] for name in self.__slots__})

    @property
    def lfsr(self) -> Float[np.ndarray, "genes conditions"]:
        """Local false sign rate: the probability that the more probable sign is wrong, no effect counted as wrong (Stephens 2017, equation 13)."""
        return (np.minimum(self.negative_prob, self.positive_prob) + self.zero_prob).clip(0, 1)


def component_probabilities(
    ratios: Float[np.ndarray, "genes components"], weights: Float[np.ndarray, " components"]
) -> tuple[Float[np.ndarray, "genes components"], Float[np.ndarray, " genes"]]:
    """Posterior probability of each component, and the log of the mixture's likelihood over the null's."""
    with np.errstate(divide="ignore"):
        log_joint = ratios + np.log(weights)
    top = log_joint.max(1, keepdims=True)
    joint = np.exp(log_joint - top)
    total = joint.sum(1, keepdims=True)
    return joint / total, (top + np.log(total))[:, 0]


def summarise_posterior(data: MashData, prior: Prior, ratios: Float[np.ndarray, "genes components"], weights: Float[np.ndarray, " components"]) -> Posterior:
    """Means, SDs and sign probabilities; a unit without any estimate has no mean and lfsr 1.

    Given a component, b is Gaussian with mean F Q (w² z/(1 + w² λ)) and covariance F Q diag(w²/(1 + w² λ)) Q'F'; in the notation of `hierarchy.mash.mixture`.

    Parameters
    ----------
    data
        The estimates.
    prior
        The mixture's components.
    ratios
        log likelihoods of `log_likelihood_ratios`.
    weights
        Weights of the components.
    """
    shape = data.betahat.shape
    mean, square, negative, positive, zero = (np.zeros(shape) for _ in range(5))
    used = np.where(weights > LEAST_WEIGHT, weights, 0.0)
    probability, _ = component_probabilities(ratios, used / used.sum())
    zero += probability[:, :1]
    k = len(prior.names)

    def fill(rows: slice) -> None:
        for j, F in enumerate(prior.factors):
            scales = np.flatnonzero(used[1 + j :: k])
            if scales.size == 0:
                continue
            values, along, directions = pencil(F, data.precision[rows], data.score[rows])
            fixed = np.square(F).sum(1) == 0  # conditions in which this covariance has no effect
            for s in scales:
                shrink = prior.grid[s] ** 2 / (1 + prior.grid[s] ** 2 * values)
                m = np.einsum("gdr,gr->gd", directions, shrink * along)
                v = np.einsum("gdr,gr->gd", np.square(directions), shrink)
                p = probability[rows, 1 + s * k + j, None]
                mean[rows] += p * m
                square[rows] += p * (v + np.square(m))
                with np.errstate(divide="ignore", invalid="ignore"):
                    z = m / np.sqrt(v)
                negative[rows] += p * np.where(fixed, 0.0, ndtr(-z))
                positive[rows] += p * np.where(fixed, 0.0, ndtr(z))
                zero[rows] += p * fixed

    in_blocks(fill, len(mean))
    sd = np.sqrt((square - np.square(mean)).clip(0))
    lost = ~data.informative
    mean[lost], sd[lost], negative[lost], positive[lost], zero[lost] = np.nan, np.nan, 0.0, 0.0, 1.0
    return Posterior(mean=mean, sd=sd, negative_prob=negative, positive_prob=positive, zero_prob=zero)


def draw(
    data: MashData,
    prior: Prior,
    probability: Float[np.ndarray, "genes components"],
    *,
    n: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draws genes conditions"]:
    """`n` draws of every gene from its posterior: a component by its probability, then the Gaussian given it.

    Parameters
    ----------
    data
        The estimates.
    prior
        The components of the mixture.
    probability
        Posterior probability of each component, of `component_probabilities`.
    n
        Number of draws.
    rng
        Random generator.
    """
    n_genes, n_conditions = data.betahat.shape
    out = np.zeros((n, n_genes, n_conditions))
    cumulative = probability.cumsum(1)
    uniform = rng.random((n, n_genes))
    chosen = np.stack([np.searchsorted(row, u * row[-1], side="right") for row, u in zip(cumulative, uniform.T, strict=True)], 1).clip(
        max=probability.shape[1] - 1
    )
    noise = rng.standard_normal((n, n_genes, n_conditions))
    k = len(prior.names)
    for j, F in enumerate(prior.factors):
        own = (chosen > 0) & ((chosen - 1) % k == j)
        if not own.any():
            continue
        genes = np.flatnonzero(own.any(0))
        values, z, directions = pencil(F, data.precision[genes], data.score[genes])
        place = np.full(n_genes, -1)
        place[genes] = np.arange(genes.size)
        draws, of_gene = np.nonzero(own)
        at = place[of_gene]
        squared = np.square(prior.grid[(chosen[draws, of_gene] - 1) // k])[:, None]
        shrink = squared / (1 + squared * values[at])
        free = shrink * z[at] + np.sqrt(shrink) * noise[draws, of_gene, : F.shape[1]]
        out[draws, of_gene] = np.einsum("edr,er->ed", directions[at], free)
    return out
