"""How the inputs lie in memory: rows on cache lines, and what is summed over them once."""

import numpy as np
import scipy.sparse as sp


def empty_rows(n: int, n_covariates: int, n_programs: int) -> np.ndarray:
    """Zeros for covariates and outcomes, float32 (n, width), the width a multiple of 16, so that rows start on 64-byte lines."""
    shape = (n, -(-(n_covariates + n_programs) // 16) * 16)
    count = shape[0] * shape[1]
    buffer = np.zeros(count + 16, np.float32)
    first = (-buffer.ctypes.data % 64) // 4
    return buffer[first : first + count].reshape(shape)


def moments(rows: np.ndarray, p: int, n_programs: int) -> tuple[np.ndarray, np.ndarray]:
    """C'C and C'Y in float64, a block of cells at a time."""
    total = np.zeros((p, p + n_programs))
    for first in range(0, len(rows), 65_536):
        block = rows[first : first + 65_536, : p + n_programs].astype(np.float64)
        total += block[:, :p].T @ block
    return total[:, :p].copy(), total[:, p:].copy()


def ntc_only(guides: sp.csc_matrix, is_ntc: np.ndarray) -> np.ndarray:
    """The cells all of whose guides, one at least, are NTC."""
    ntc, targeting = np.zeros(guides.shape[0], bool), np.zeros(guides.shape[0], bool)
    of_ntc = np.repeat(is_ntc, np.diff(guides.indptr))
    ntc[guides.indices[of_ntc]] = True
    targeting[guides.indices[~of_ntc]] = True
    return np.flatnonzero(ntc & ~targeting).astype(np.int32)
