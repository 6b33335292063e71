"""Patterns of an effect over ordered days, by the posterior's own draws."""

import numpy as np
from jaxtyping import Float

from hierarchy.mash.fit import MashFit

PATTERNS = ("constant", "early", "late", "transient", "sign change", "inactive")
SHARE = 1 / 3  # of the largest effect of a draw that an effect must reach to count
LEAST_EFFECT = 0.05  # in log-odds; draws whose effects are all smaller are inactive
BLOCK_NUMBERS = 4_000_000  # draws × genes × days held at once


def pattern_probabilities(fitted: MashFit, *, n_draws: int, seed: int) -> Float[np.ndarray, "genes patterns"]:
    """Posterior probability of each of `PATTERNS` for every gene; the conditions of the fit are days in order.

    Parameters
    ----------
    fitted
        The fit.
    n_draws
        Number of draws of each gene's effects.
    seed
        Random seed.
    """
    n_genes, n_days = fitted.betahat.shape
    size = max(1, BLOCK_NUMBERS // (n_draws * n_days))
    parts = [
        classify(fitted.sample(n_draws, seed=seed + first, genes=slice(first, first + size))).mean(0, dtype=np.float64) for first in range(0, n_genes, size)
    ]
    return np.concatenate(parts)


def classify(effects: Float[np.ndarray, "draws genes days"]) -> Float[np.ndarray, "draws genes patterns"]:
    """1 in the place of each draw's pattern.

    A day counts where the effect reaches a third of the largest of the draw. *constant*: all days count; *early*: the first ones only; *late*: the
    last ones only; *transient*: other days; *sign change*: days of both signs; *inactive*: no effect reaches 0.05 log-odds.
    """
    size = np.abs(effects)
    largest = size.max(-1, keepdims=True)
    counts = (size >= SHARE * largest) & (largest >= LEAST_EFFECT)
    inactive = ~counts.any(-1)
    both = (counts & (effects > 0)).any(-1) & (counts & (effects < 0)).any(-1)
    steps = (counts[..., 1:] != counts[..., :-1]).sum(-1)
    first, last = counts[..., 0], counts[..., -1]
    rules = [inactive, both, counts.all(-1), (steps == 1) & first, (steps == 1) & last]
    code = np.select(rules, [PATTERNS.index(name) for name in ("inactive", "sign change", "constant", "early", "late")], PATTERNS.index("transient"))
    return np.eye(len(PATTERNS), dtype=np.float32)[code]
