"""Cumulants of the linear statistic under both null designs, all programs and a batch of units at once.

The products over cells are taken a few cells at a time, so that residuals and their powers stay in cache and nothing of the size of the outcomes is made. They
are written in the array API: the same lines run on NumPy arrays and on torch tensors on a device.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from jaxtyping import Float, Int

from crt.kernels import cumulants as _kernels
from crt.tails.saddlepoint import Cumulants


@dataclass(frozen=True, slots=True)
class PowerSums:
    """Sums over cells that the cumulants of T = Σ r(x − p) consist of, float64, x independent with probabilities p; v = p(1 − p).

    Attributes
    ----------
    low
        Σ p r and Σ v r², (2, units, columns).
    high
        Σ v(1 − 2p) r³ and Σ v(1 − 6v) r⁴ of the leading columns, those that are tested, (2, units, tested).
    """

    low: Any
    high: Any

    def __add__(self, other: "PowerSums") -> "PowerSums":
        """The sums over the cells of both."""
        return PowerSums(self.low + other.low, self.high + other.high)

    def cumulants(self) -> tuple[Float[np.ndarray, "units columns"], Cumulants]:
        """Σ p r and the cumulants κ₂, κ₃, κ₄ of each unit and column; κ₃ and κ₄ of columns that are not tested are zero."""
        (mean, second), tested = (np.asarray(x.cpu() if hasattr(x, "cpu") else x) for x in (self.low, self.high))
        third, fourth = (np.pad(x, ((0, 0), (0, second.shape[1] - x.shape[1]))) for x in tested)
        return mean, Cumulants(second, third, fourth)


def power_sums(r: Any, p: Any, n_tested: int) -> PowerSums:
    """The sums over some cells, few enough that residuals and their powers stay in cache; products are of the arrays' own type.

    Parameters
    ----------
    r
        Residuals, (cells, columns), a NumPy array or a tensor.
    p
        Probabilities, (units, cells).
    n_tested
        Number of leading columns that are tested.
    """
    xp = array_namespace(r, p)
    v, square, tested = p * (1 - p), r * r, r[:, :n_tested]
    high = xp.stack((product(v * (1 - 2 * p), square[:, :n_tested] * tested), product(v * (1 - 6 * v), square[:, :n_tested] * square[:, :n_tested])))
    return PowerSums(xp.astype(xp.stack((product(p, r), product(v, square))), xp.float64), xp.astype(high, xp.float64))


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
