"""Cumulants of the linear statistic under both null designs, all programs and a batch of units at once.

The products over cells are taken block by block, so that a block's residuals and their powers stay in cache and nothing of the size of the outcomes is made.
They are written in the array API: the same lines run on NumPy arrays and on torch tensors on a device.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from jaxtyping import Float, Int

from crt.kernels import cumulants as _kernels
from crt.tails.saddlepoint import Cumulants

BLOCK = 1024  # cells of a block


def bernoulli_cumulants(
    residuals: Callable[[slice], Any], probabilities: Callable[[slice], Any], n_cells: int, *, n_tested: int | None = None, block: int = BLOCK
) -> tuple[Float[np.ndarray, "units columns"], Cumulants]:
    """Σ p r and the cumulants of T = Σ r(x − p), x independent with probabilities p.

    κ₂ = Σ v r², κ₃ = Σ v(1 − 2p) r³, κ₄ = Σ v(1 − 6v) r⁴, v = p(1 − p).

    Parameters
    ----------
    residuals
        A function of a slice of cells that gives r, (block, K).
    probabilities
        A function of a slice of cells that gives p, (units, block).
    n_cells
        Number of cells.
    n_tested
        Number of leading columns whose κ₃ and κ₄ are wanted; those of the others are zero. All by default.
    block
        Cells of a block.

    Returns
    -------
    tuple
        Σ p r, (units, K), and the cumulants, (units, K) each, in float64. Within a block sums are of the arrays' own type.
    """
    low: Any = 0.0
    high: Any = 0.0
    for first in range(0, n_cells, block):
        cells = slice(first, min(first + block, n_cells))
        r, p = residuals(cells), probabilities(cells)
        xp = array_namespace(r, p)
        v = p * (1 - p)
        square = r * r
        low = low + xp.astype(xp.stack((product(p, r), product(v, square))), xp.float64)
        if n_tested is not None:
            r, square = r[:, :n_tested], square[:, :n_tested]
        high = high + xp.astype(xp.stack((product(v * (1 - 2 * p), square * r), product(v * (1 - 6 * v), square * square))), xp.float64)
    (mean, second), tested = (np.asarray(x.cpu() if hasattr(x, "cpu") else x) for x in (low, high))
    third, fourth = (np.pad(x, ((0, 0), (0, second.shape[1] - x.shape[1]))) for x in tested)
    return mean, Cumulants(second, third, fourth)


def product(weights: Any, r: Any) -> Any:
    """weights @ r, of units and cells by cells and columns; on NumPy arrays a unit's digits do not depend on its place among the units."""
    if not is_numpy_array(r):
        return weights @ r
    out = np.zeros((len(weights), r.shape[1]), r.dtype)
    if left := -len(r) % 4:
        weights, r = np.pad(weights, ((0, 0), (0, left))), np.pad(r, ((0, left), (0, 0)))
    _kernels.ordered_product(np.ascontiguousarray(weights), np.ascontiguousarray(r), out)
    return out


def permutation_cumulants(
    sums: Float[np.ndarray, "strata 4 programs"], n_cells: Int[np.ndarray, " strata"], n_treated: Int[np.ndarray, " strata"]
) -> tuple[Float[np.ndarray, " programs"], Cumulants]:
    """Σ m r̄ and the cumulants of T = Σ r x − Σ m r̄, where in each stratum of N cells m are treated, uniformly without replacement.

    With M_j the central moments of r in a stratum, κ₂ = m(N − m)/(N − 1) M₂, κ₃ = m(N − m)(N − 2m)/((N − 1)(N − 2)) M₃, and the fourth central moment is
    m(N − m)/((N − 1)(N − 2)(N − 3)) [(N² + N − 6m(N − m)) M₄ + 3N(m − 1)(N − m − 1) M₂²]; cumulants of strata add up. (Isserlis 1931, "On the moment
    distributions of moments in the case of samples drawn from a limited universe"; Sukhatme 1944.)

    Parameters
    ----------
    sums
        Σ r, Σ r², Σ r³ and Σ r⁴ of each stratum.
    n_cells
        N.
    n_treated
        m.

    Returns
    -------
    tuple
        The mean, (programs,), and the cumulants, (programs,) each.
    """
    N, m = n_cells.astype(np.float64)[:, None], n_treated.astype(np.float64)[:, None]
    first, second, third, fourth = np.moveaxis(sums / N[:, None], 1, 0)
    m2 = np.maximum(second - first**2, 0.0)
    m3 = third - 3 * first * second + 2 * first**3
    m4 = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    one, two, three = np.maximum(N - 1, 1), np.maximum(N - 2, 1), np.maximum(N - 3, 1)
    k2 = m * (N - m) / one * m2
    k3 = m * (N - m) * (N - 2 * m) / (one * two) * m3
    mu4 = m * (N - m) / (one * two * three) * ((N * N + N - 6 * m * (N - m)) * m4 + 3 * N * (m - 1) * (N - m - 1) * m2**2)
    mu4 = np.where(N > 3, mu4, np.where((m > 0) & (m < N), m4, 0.0))  # of up to three cells one is in another group than the rest
    return (m * first).sum(0), Cumulants(k2.sum(0), k3.sum(0), (mu4 - 3 * k2**2).sum(0))
