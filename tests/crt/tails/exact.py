"""Exact distributions of a linear statistic T = Σ r x − E: by enumeration, and by convolution on a lattice."""

import itertools

import numpy as np


def bernoulli_enumerated(p, r):
    """All values of T and their probabilities, cells treated independently."""
    values, weights = np.zeros(1), np.ones(1)
    for pi, ri in zip(p, r, strict=True):
        values = np.concatenate([values - pi * ri, values + (1 - pi) * ri])
        weights = np.concatenate([weights * (1 - pi), weights * pi])
    return values, weights


def permutation_enumerated(r, sizes, n_treated):
    """All values of T, equally probable: in strata of consecutive cells, fixed numbers are treated."""
    values, first = np.zeros(1), 0
    for size, m in zip(sizes, n_treated, strict=True):
        own = r[first : first + size]
        sums = np.array([own[list(c)].sum() for c in itertools.combinations(range(size), m)]) - m * own.mean()
        values, first = (values[:, None] + sums).ravel(), first + size
    return values, np.full(values.size, 1 / values.size)


def bernoulli_convolved(p, k):
    """Values and probabilities of T for whole numbers k in place of r, to 1e-300: sums of positive numbers only."""
    low, high = int(k[k < 0].sum()), int(k[k > 0].sum())
    mass = np.zeros(high - low + 1)
    mass[-low] = 1
    a = b = -low
    for pi, ki in zip(p, k, strict=True):
        treated = mass[a : b + 1] * pi
        mass[a : b + 1] *= 1 - pi
        mass[a + ki : b + ki + 1] += treated
        a, b = min(a, a + ki), max(b, b + ki)
    return np.arange(low, high + 1) - float(p @ k), mass


def tail(values, weights, t, side="both"):
    """P(|T| ≥ |t|), P(T ≥ t) or P(T ≤ t)."""
    slack = 1e-9 * max(1.0, np.abs(values).max())
    extreme = {"both": np.abs(values) >= abs(t) - slack, "right": values >= t - slack, "left": values <= t + slack}[side]
    return float(weights[extreme].sum())
