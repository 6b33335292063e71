"""Memory layout of the inputs: rows aligned to cache lines, and sums over them that all units share."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Float64, Int32


def empty_rows(n: int, n_covariates: int, n_programs: int) -> Float32[np.ndarray, "{n} width"]:
    """Zeros for covariates and outcomes. The width is a multiple of 16, so that rows start at cache lines of 64 bytes."""
    shape = (n, -(-(n_covariates + n_programs) // 16) * 16)
    count = shape[0] * shape[1]
    buffer = np.zeros(count + 16, np.float32)
    first = (-buffer.ctypes.data % 64) // 4
    return buffer[first : first + count].reshape(shape)


def moments(
    rows: Float32[np.ndarray, "cells width"], p: int, n_programs: int
) -> tuple[Float64[np.ndarray, "covariates covariates"], Float64[np.ndarray, "covariates programs"]]:
    """C'C and C'Y in float64, by blocks of cells."""
    total = np.zeros((p, p + n_programs))
    for first in range(0, len(rows), 65_536):
        block = rows[first : first + 65_536, : p + n_programs].astype(np.float64)
        total += block[:, :p].T @ block
    return total[:, :p].copy(), total[:, p:].copy()


def ntc_only(guides: sp.csc_matrix, is_ntc: Bool[np.ndarray, " guides"]) -> Int32[np.ndarray, " ntc_cells"]:
    """The cells that carry guides, all of them NTC."""
    ntc, targeting = np.zeros(guides.shape[0], bool), np.zeros(guides.shape[0], bool)
    of_ntc = np.repeat(is_ntc, np.diff(guides.indptr))
    ntc[guides.indices[of_ntc]] = True
    targeting[guides.indices[~of_ntc]] = True
    return np.flatnonzero(ntc & ~targeting).astype(np.int32)
