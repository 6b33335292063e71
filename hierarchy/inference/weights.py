"""The likelihood weight w = 1/φ, by day and replicate: φ is the Pearson dispersion of the fate probabilities about their posterior.

    φ_g = E[Σ (p − π)²/π] / (n_g F*)    over the n_g cells of a day in a replicate and all fates, E the posterior mean.

F* is the number of fates that cells have, less one. Under the joint distribution of π and p the sum has expectation φ n F*. The usual statistic takes the
fitted π and n F* less the number of parameters (McCullagh and Nelder 1989, section 4.5), which the posterior mean approximates; it
stays valid where φ is near 1 (one-hot fates). Probabilities vary at most as one-hot fates do, Var(p) ≤ π(1 − π), so φ is at most 1: where there are
about as many coordinates as cells, the posterior is so wide that its mean of 1/π would be far above.

The groups' log φ_g vary about that of all cells with a variance t², and are known with a sampling variance v_g. Empirical Bayes takes t² from the data
(Paule and Mandel 1982) and shrinks each log φ_g to the common one by t²/(t² + v_g): with equal precisions t² is near 0 and all groups have one weight.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BISECTIONS = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dispersion:
    """Sums of the cells' Pearson statistics by day and replicate, float64.

    Attributes
    ----------
    pearson
        Sum of the posterior means of Σ (p − π)²/π over the cells of each day and replicate, (D, R).
    square
        Sum of the squares of the cells' posterior means, (D, R).
    cells
        Number of cells, (D, R).
    """

    pearson: Float[Tensor, "days reps"]
    square: Float[Tensor, "days reps"]
    cells: Float[Tensor, "days reps"]


def common_weight(found: Dispersion, n_varied: int) -> Float[Tensor, "days reps"]:
    """The weight of all cells together, the same in all groups."""
    return (found.cells.sum() * n_varied / found.pearson.sum()).clamp_min(1.0).expand_as(found.cells)


def group_weights(found: Dispersion, n_varied: int) -> Float[Tensor, "days reps"]:
    """The weights by day and replicate, shrunk to the common one; those of groups without cells are the common one."""
    common, seen = common_weight(found, n_varied), found.cells > 0
    if int(seen.sum()) < 2:
        return common
    cells = found.cells.clamp_min(1)
    mean = torch.where(seen, (found.pearson / cells).clamp_min(1e-100), n_varied / common)
    spread = (found.square / mean.square() - found.cells).sum() / found.cells.sum()  # squared coefficient of variation of a cell's statistic
    variance = spread / cells
    apart = (mean * common / n_varied).log()  # log φ_g − log φ
    between = _between(apart[seen], variance[seen])
    return (common * (-apart * between / (between + variance)).exp()).clamp_min(1.0)


def mean_weight(weight: Float[Tensor, "days reps"], cells: Float[Tensor, "days reps"]) -> Float[Tensor, ""]:
    """One number for a table of weights: 1 over the mean dispersion of the cells."""
    return cells.sum() / (cells / weight).sum()


def _between(apart: Tensor, variance: Tensor) -> Tensor:
    """The variance t² ≥ 0 between groups at which Σ apart²/(t² + v) is its expectation, one less than the number of groups."""
    low, high = torch.zeros_like(apart[0]), apart.square().sum() + 1e-12
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = (apart.square() / (middle + variance)).sum() > apart.numel() - 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return torch.where(low > 0, high, low)
