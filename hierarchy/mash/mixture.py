"""The mixture prior of mash: likelihoods of each gene under every component, and the weights that maximise the penalised likelihood.

A component is N(0, w² U), U a covariance between conditions and w a scale of the grid; with U = F F', the marginal likelihood of a gene relative to the
null is, in the eigenvalues λ of F' C⁻¹ F and z = Q' F' C⁻¹ b̂ (Q its eigenvectors),

    log N(b̂; 0, C + w² U) − log N(b̂; 0, C) = ½ Σ_k [w² z_k²/(1 + w² λ_k) − log(1 + w² λ_k)],

so one small eigenproblem for each gene and U serves all scales (Woodbury identity), and a rank-one U needs none.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import nnls

from hierarchy.mash.data import MashData

TOLERANCE = 1e-9  # duality gap of the weights, relative to the number of genes
MAX_ROUNDS = 200
NEWTON_STEPS = 2
QR_ROWS = 512
EM_STEPS, EM_GENES = 40, 4000  # before the support is cut to what they leave, and the genes that they use
LEAST_SHARE = 0.01  # of the weight of one gene
SLOW = 0.5  # share of the duality gap that a round may leave; from then on rounds use exact factorisations
ROUND_OFF = 1e-12  # of the objective
LEAST_LOG = -200.0  # of a component's likelihood over the gene's best: a smaller one never matters
LEAST_WEIGHT = 1e-10  # of a component that is left out of the posterior, as mashr leaves it out
BLOCK = 2048  # genes whose eigenproblems are held at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prior:
    """A mixture of the point mass at zero and N(0, w² U) over scales w and covariances U.

    Attributes
    ----------
    names
        Names of the covariances.
    factors
        F of each covariance U = F F', (conditions, rank).
    grid
        Scales w, rising.
    """

    names: tuple[str, ...]
    factors: tuple[Float[np.ndarray, "conditions _"], ...]
    grid: Float[np.ndarray, " scales"]

    @classmethod
    def of(cls, covariances: Mapping[str, Float[np.ndarray, "conditions conditions"]], grid: Float[np.ndarray, " scales"]) -> "Prior":
        """From named covariances."""
        return cls(names=tuple(covariances), factors=tuple(factor(U) for U in covariances.values()), grid=np.asarray(grid, np.float64))

    @property
    def n_components(self) -> int:
        """The null, then grid scale by grid scale, within a scale the covariances in their order."""
        return 1 + len(self.names) * len(self.grid)

    def used(self, weights: Float[np.ndarray, " components"]) -> tuple["Prior", Float[np.ndarray, " components"]]:
        """The scales and covariances with weight, and the weights of the components that they make."""
        table = weights[1:].reshape(len(self.grid), len(self.names))
        scales, own = np.flatnonzero((table > LEAST_WEIGHT).any(1)), np.flatnonzero((table > LEAST_WEIGHT).any(0))
        prior = Prior(names=tuple(self.names[i] for i in own), factors=tuple(self.factors[i] for i in own), grid=self.grid[scales])
        kept = np.append(weights[0], table[np.ix_(scales, own)])
        return prior, kept / kept.sum()


def factor(U: Float[np.ndarray, "conditions conditions"]) -> Float[np.ndarray, "conditions rank"]:
    """F with F F' = U, with as many columns as U has positive eigenvalues; rows of conditions without variance are exactly zero."""
    values, vectors = np.linalg.eigh((U + U.T) / 2)
    keep = values > 1e-12 * max(values[-1], 1e-300)
    return np.where(U.diagonal()[:, None] > 0, vectors[:, keep] * np.sqrt(values[keep]), 0.0)


def pencil(
    F: Float[np.ndarray, "conditions rank"], precision: Float[np.ndarray, "genes conditions conditions"], score: Float[np.ndarray, "genes conditions"]
) -> tuple[Float[np.ndarray, "genes rank"], Float[np.ndarray, "genes rank"], Float[np.ndarray, "genes conditions rank"]]:
    """λ, z and F Q of each gene: the eigenvalues of F' C⁻¹ F, the score in its eigenvectors Q, and the directions in which the prior varies."""
    inner = F.T @ precision @ F
    along = score @ F
    if F.shape[1] == 1:
        return inner[:, 0], along, np.broadcast_to(F, (len(score), *F.shape))
    values, vectors = np.linalg.eigh(inner)
    return values.clip(0), np.einsum("gkr,gk->gr", vectors, along), F @ vectors


def log_likelihood_ratios(data: MashData, prior: Prior) -> Float[np.ndarray, "genes components"]:
    """log of each component's marginal likelihood over the null's."""
    n, k = len(data.betahat), len(prior.names)
    out = np.zeros((n, prior.n_components))
    squared = np.square(prior.grid)

    def fill(rows: slice) -> None:
        for j, F in enumerate(prior.factors):
            values, z, _ = pencil(F, data.precision[rows], data.score[rows])
            grown = 1.0 + values[:, None, :] * squared[:, None]
            out[rows, 1 + j :: k] = 0.5 * (np.square(z)[:, None, :] * squared[:, None] / grown - np.log(grown)).sum(2)

    in_blocks(fill, n)
    return out


def in_blocks(work: Callable[[slice], None], n: int) -> None:
    """Do the work for blocks of genes, in as many threads as there are cores; a block writes its own rows only."""
    blocks = [slice(first, first + BLOCK) for first in range(0, n, BLOCK)]
    with ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1)) as threads:
        list(threads.map(work, blocks))


def null_counts(prior: Prior, null_weight: float = 10.0) -> Float[np.ndarray, " components"]:
    """The Dirichlet penalty on the null alone, as in mashr."""
    counts = np.zeros(prior.n_components)
    counts[0] = null_weight - 1
    return counts


def fit_weights(
    ratios: Float[np.ndarray, "genes components"], counts: Float[np.ndarray, " components"], *, tolerance: float = TOLERANCE
) -> tuple[Float[np.ndarray, " components"], float]:
    """The weights π that maximise Σ_g log Σ_k π_k L_gk + Σ_k a_k log π_k, and the duality gap that they leave.

    The constrained Newton method for mixtures (Wang 2007, doi:10.1111/j.1467-9868.2007.00583.x): components whose gradient exceeds the total weight join the
    support, a non-negative least-squares problem gives the Newton step on it, and a line search makes it rise. The objective is concave, and with
    D = max_k ∂/∂π_k, its distance from the optimum is at most D − (genes + Σ a_k).

    Parameters
    ----------
    ratios
        log likelihoods, each gene's up to a constant.
    counts
        Dirichlet penalty a_k of each component, at least 0: the number of further genes that it alone explains.
    tolerance
        The gap, relative to the total weight, at which the weights are taken as optimal.

    Returns
    -------
    tuple
        The weights, and the gap in log-likelihood units.
    """
    likelihood = np.exp(np.maximum(ratios - ratios.max(1, keepdims=True), LEAST_LOG))
    total = len(likelihood) + counts.sum()
    some = likelihood[:: max(1, len(likelihood) // EM_GENES)]
    pi = _expectation_maximisation(some, counts * len(some) / len(likelihood))
    pi[pi < 0.5 / total] = 0.0
    pi[0] = max(pi[0], 1 / total)
    pi = np.maximum(pi, counts / total)  # as at the optimum
    lost = likelihood @ pi < LEAST_SHARE / total  # genes whose components have all been cut
    pi[likelihood[lost].argmax(1)] += 1 / total
    support = np.flatnonzero(pi)
    pi = pi[support] / pi[support].sum()
    gap, value, exact = np.inf, -np.inf, False
    for _ in range(MAX_ROUNDS):
        support, pi = _newton(likelihood, support, pi, counts, exact)
        gradient = (1.0 / (likelihood[:, support] @ pi)) @ likelihood
        gradient[support] += counts[support] / pi
        before, gap, reached, value = gap, float(gradient.max() - total), value, _objective(likelihood[:, support], pi, counts[support])
        if gap <= tolerance * total or (exact and value - reached <= ROUND_OFF * abs(value)):
            break
        exact = exact or gap > SLOW * before
        joining = _peaks(gradient, total, support)
        support, pi = np.append(support, joining), np.append(pi, np.zeros(joining.size))
    weights = np.zeros(likelihood.shape[1])
    weights[support] = pi
    return weights / weights.sum(), max(gap, 0.0)


def _expectation_maximisation(likelihood: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """A few EM steps from equal weights: where the support is, roughly."""
    pi = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(EM_STEPS):
        pi *= (1.0 / (likelihood @ pi)) @ likelihood
        pi += counts
        pi /= pi.sum()
    return pi


def _peaks(gradient: np.ndarray, total: float, support: np.ndarray) -> np.ndarray:
    """The components outside the support with the largest gradients above the total, a few at a time."""
    outside = np.setdiff1d(np.flatnonzero(gradient > total), support)
    return outside[np.argsort(-gradient[outside], kind="stable")[:8]]


def _newton(likelihood: np.ndarray, support: np.ndarray, pi: np.ndarray, counts: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Newton steps on the support until they no longer raise the objective; components that reach zero leave it, those with a penalty excepted."""
    own, a = likelihood[:, support], counts[support]
    value = _objective(own, pi, a)
    for _ in range(NEWTON_STEPS):
        aim = _quadratic(own, pi, a, exact)
        new, reached = _line_search(own, pi, aim, a, value)
        if not reached > value:
            if exact and _objective(own, aim, a) >= value - ROUND_OFF * abs(value):
                pi = aim  # nearer to the optimum than sums of logarithms can show
            break
        pi, value = new, reached
    keep = (pi > 1e-14) | (a > 0)
    return support[keep], pi[keep] / pi[keep].sum()


def _quadratic(own: np.ndarray, pi: np.ndarray, a: np.ndarray, exact: bool) -> np.ndarray:
    """The maximum over π ≥ 0, Σπ = 1, of the quadratic approximation of the objective: the non-negative least squares ‖S π − 2‖, S_gk = L_gk/(Lπ)_g.

    The penalty on a component is a gene of weight `a` that it alone explains. The triangle is that of the normal equations, or, where `exact`, of a QR
    factorisation, which keeps the precision that normal equations lose, as neighbouring scales are nearly collinear.
    """
    scaled, penalty = own / (own @ pi)[:, None], np.sqrt(a) / np.where(a > 0, pi, 1.0)
    if exact:
        rows = np.column_stack([scaled, np.full(len(scaled), 2.0)])
        triangle = _triangle(np.vstack([rows, np.column_stack([np.diag(penalty), 2 * np.sqrt(a)])]))
    else:
        triangle = _rough_triangle(scaled, penalty, np.sqrt(a))
    heavy = 10 * np.abs(triangle).max()
    found = nnls(np.vstack([triangle[:, :-1], np.full(len(pi), heavy)]), np.append(triangle[:, -1], heavy))[0]
    return found / found.sum()


def _rough_triangle(scaled: np.ndarray, penalty: np.ndarray, root: np.ndarray) -> np.ndarray:
    """A with A'A = the product of the rows (S, 2) and (penalty, 2 root), without the directions that are lost to round-off in it."""
    n = len(root)
    product = np.empty((n + 1, n + 1))
    product[:n, :n] = scaled.T @ scaled + np.diag(np.square(penalty))
    product[n, :n] = product[:n, n] = 2 * (scaled.sum(0) + penalty * root)
    product[n, n] = 4 * (len(scaled) + np.square(root).sum())
    values, vectors = np.linalg.eigh(product)
    return np.sqrt(values.clip(0))[:, None] * vectors.T


def _triangle(rows: np.ndarray) -> np.ndarray:
    """R of a QR factorisation of a tall matrix, by blocks that stay in cache, then of their triangles."""
    blocks = np.pad(rows, ((0, -len(rows) % QR_ROWS), (0, 0))).reshape(-1, QR_ROWS, rows.shape[1])
    qr: Any = np.linalg.qr  # its stub knows no batches of triangles
    return qr(qr(blocks, mode="r").reshape(-1, rows.shape[1]), mode="r")


def _line_search(own: np.ndarray, pi: np.ndarray, aim: np.ndarray, a: np.ndarray, value: float) -> tuple[np.ndarray, float]:
    """The first of the steps 1, ½, ¼, … towards `aim` that raises the objective."""
    size = 1.0
    while size > 1e-10:
        new = pi + size * (aim - pi)
        reached = _objective(own, new, a)
        if reached > value:
            return new, reached
        size /= 2
    return pi, value


def _objective(own: np.ndarray, pi: np.ndarray, a: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(own @ pi).sum() + a[a > 0] @ np.log(pi[a > 0]))


def autoselect_grid(
    betahat: Float[np.ndarray, "genes conditions"], se: Float[np.ndarray, "genes conditions"], observed: Bool[np.ndarray, "genes conditions"]
) -> Float[np.ndarray, " scales"]:
    """Scales from a tenth of the smallest standard error to twice the largest effect beyond its error, each √2 times the one before.

    As `autoselect_grid` of mashr: from min(se)/10 to 2 √max(b̂² − se²), or 8 times the least where no estimate exceeds its error.
    """
    least = float(se[observed].min()) / 10
    beyond = float((np.square(betahat) - np.square(se))[observed].max())
    largest = 2 * beyond**0.5 if beyond > 0 else 8 * least
    if largest <= least:
        return np.array([largest])
    n = int(np.ceil(2 * np.log2(largest / least)))
    return largest * 2 ** (np.arange(-n, 1.0) / 2)


def component_names(prior: Prior) -> Sequence[str]:
    """ "null", then "covariance.scale" with the scale's position from 1."""
    return ["null", *(f"{name}.{i + 1}" for i in range(len(prior.grid)) for name in prior.names)]
