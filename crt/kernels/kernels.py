"""Compiled loops only: no checks (callers have checked) and no Python objects; every function releases the GIL.

Random numbers are SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"): number n of a stream is a hash of
`state + n·γ`, so a stream is a function of its 64-bit state alone. Exponential variates are −log of a 53-bit uniform, made a block at a time.

Names: Z (cells, width) float32 rows, one a cell, that a resample's treated cells are summed over; `sums` (resamples, width) those sums; `hazard`
−log(1 − p) of each cell's propensity.
"""

import math

import numba as nb
import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
BLOCK = 512  # exponentials made at a time: they and their bits stay in the first-level cache
CELLS = 128  # cells a logistic pass takes at a time
_LN2, _SQRT2 = math.log(2.0), math.sqrt(2.0)


@nb.njit(cache=True, inline="always")
def _mix(x):
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


@nb.njit(cache=True, nogil=True, fastmath=True)
def fill_exponentials(out, value, bits, state):
    """−log(uniform), vectorised: u = 2^e·f with f in [1, 2), log f = log √2 + 2 atanh((f − √2)/(f + √2)), to 1e-12. `bits` views `value` as integers."""
    for i in range(BLOCK):
        value[i] = np.float64(np.int64(_mix(state + np.uint64(i + 1) * GAMMA) >> _S11) + 1)
    for i in range(BLOCK):
        raw = bits[i]
        f = np.float64((raw & 0xFFFFFFFFFFFFF) | 0x10000000000000) * 2.0**-52
        s = (f - _SQRT2) / (f + _SQRT2)
        z = s * s
        odd = 1.0 + z * (1 / 3.0 + z * (1 / 5.0 + z * (1 / 7.0 + z * (1 / 9.0 + z * (1 / 11.0 + z / 13.0)))))
        out[i] = -(2.0 * s * odd + (np.float64((raw >> 52) - 1076) + 0.5) * _LN2)
    return state + np.uint64(BLOCK) * GAMMA


@nb.njit(cache=True, inline="always")
def _add_row(total, row, width):
    for k in range(width):
        total[k] += row[k]


@nb.njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, inline="always")
def _add_rows(total, Z, cells, n, width):
    """Add several rows into one total, four at a time: one after the other, each would wait for the last one's store."""
    t = 0
    while t + 4 <= n:
        first, second, third, fourth = Z[cells[t]], Z[cells[t + 1]], Z[cells[t + 2]], Z[cells[t + 3]]
        for k in range(width):
            total[k] += (first[k] + second[k]) + (third[k] + fourth[k])
        t += 4
    while t < n:
        _add_row(total, Z[cells[t]], width)
        t += 1


@nb.njit(cache=True, nogil=True, inline="always")
def _hits(h, n_resamples, left, at, state, hits, out, value, bits):
    """The resamples that treat a cell of hazard h; `left` is what remains of the current exponential, which runs on into the next cell."""
    inverse = 1.0 / h
    n = 0
    b = np.int64(left * inverse)
    while b < n_resamples:
        hits[n] = b
        n += 1
        if at == BLOCK:
            state = fill_exponentials(out, value, bits, state)
            at = 0
        left = out[at]
        at += 1
        step = left * inverse
        remaining = n_resamples - b - 1
        if step >= remaining:
            left -= remaining * h
            break
        b += 1 + np.int64(step)
    return n, left, at, state


@nb.njit(cache=True, nogil=True)
def bernoulli_sums(Z, cells, hazard, sums, state):
    """Draw and sum at once, cell by cell: a cell's row is read once and the accumulator stays in the second-level cache."""
    n_resamples, width = sums.shape
    out, value, hits = np.empty(BLOCK), np.empty(BLOCK), np.empty(n_resamples, np.int32)
    bits = value.view(np.int64)
    state = fill_exponentials(out, value, bits, state)
    left, at = out[0], 1
    for i in range(cells.size):
        span = hazard[i] * n_resamples
        if left >= span:
            left -= span
            continue
        n, left, at, state = _hits(hazard[i], n_resamples, left, at, state, hits, out, value, bits)
        row = Z[cells[i]]
        for t in range(n):
            _add_row(sums[hits[t]], row, width)


@nb.njit(cache=True, nogil=True)
def bernoulli_counts(hazard, counts, state):
    """How many cells each resample treats, by the draws of `bernoulli_sums`."""
    n_resamples = counts.size
    out, value, hits = np.empty(BLOCK), np.empty(BLOCK), np.empty(n_resamples, np.int32)
    bits = value.view(np.int64)
    state = fill_exponentials(out, value, bits, state)
    left, at = out[0], 1
    for i in range(hazard.size):
        span = hazard[i] * n_resamples
        if left >= span:
            left -= span
            continue
        n, left, at, state = _hits(hazard[i], n_resamples, left, at, state, hits, out, value, bits)
        for t in range(n):
            counts[hits[t]] += 1


@nb.njit(cache=True, nogil=True)
def bernoulli_indices(hazard, position, indices, state):
    """The treated cells themselves, by the same draws; `position` starts as indptr[:-1] and is moved on."""
    n_resamples = position.size
    out, value, hits = np.empty(BLOCK), np.empty(BLOCK), np.empty(n_resamples, np.int32)
    bits = value.view(np.int64)
    state = fill_exponentials(out, value, bits, state)
    left, at = out[0], 1
    for i in range(hazard.size):
        span = hazard[i] * n_resamples
        if left >= span:
            left -= span
            continue
        n, left, at, state = _hits(hazard[i], n_resamples, left, at, state, hits, out, value, bits)
        for t in range(n):
            indices[position[hits[t]]] = i
            position[hits[t]] += 1


@nb.njit(cache=True, nogil=True, inline="always")
def _shuffle_front(members, n_drawn, state):
    """A uniform subset without replacement into members[:n_drawn]: a partial Fisher–Yates shuffle, right from any starting order."""
    n = members.size
    for t in range(n_drawn):
        state += GAMMA
        u = np.float64(_mix(state) >> _S11) * 2.0**-53
        j = t + np.int64(u * (n - t))
        members[t], members[j] = members[j], members[t]
    return state


@nb.njit(cache=True, nogil=True)
def stratified_sums(Z, members, offsets, n_treated, sums, state):
    """Draw and sum at once, stratum by stratum, so that a stratum's rows stay in cache; `members` (cells by stratum) is shuffled in place."""
    n_resamples, width = sums.shape
    for s in range(n_treated.size):
        m = n_treated[s]
        if m == 0:
            continue
        own = members[offsets[s] : offsets[s + 1]]
        for b in range(n_resamples):
            state = _shuffle_front(own, m, state)
            _add_rows(sums[b], Z, own, m, width)


@nb.njit(cache=True, nogil=True)
def stratified_indices(members, offsets, n_treated, n_resamples, indices, state):
    """The treated cells themselves, by the draws of `stratified_sums`; each resample's are in the order of the strata."""
    per_resample = indices.size // max(1, n_resamples)
    first = 0
    for s in range(n_treated.size):
        m = n_treated[s]
        if m == 0:
            continue
        own = members[offsets[s] : offsets[s + 1]]
        for b in range(n_resamples):
            state = _shuffle_front(own, m, state)
            at = b * per_resample + first
            for t in range(m):
                indices[at + t] = own[t]
        first += m


@nb.njit(cache=True, nogil=True)
def gather_sums(Z, indptr, indices, sums):
    """Sums of rows over the cells of each resample, for draws that are at hand as lists."""
    width = sums.shape[1]
    for b in range(indptr.size - 1):
        cells = indices[indptr[b] : indptr[b + 1]]
        _add_rows(sums[b], Z, cells, cells.size, width)


@nb.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"})
def coefficients(sums, n_programs, mean, whiten, cross, n_cells, singular, null):
    """β of every resample and program into null (programs, resamples); returns how many resamples are undefined.

    mean (p − 1 + K) are column means over the unit's cells, whiten (r, p − 1) takes centred covariate sums to an orthonormal basis, cross (r, K) is the
    centred outcomes' coordinates in it: β_k = (S_k − w·cross_k)/(n − n²/N − w·w) with S and w the centred sums.
    """
    n_resamples, r, q = sums.shape[0], whiten.shape[0], whiten.shape[1]
    numerator, w = np.empty(n_programs), np.empty(max(1, r))
    bad = 0
    for b in range(n_resamples):
        n = np.float64(sums[b, 0])
        spread = n * (1.0 - n / n_cells)
        den = spread
        for i in range(r):
            total = 0.0
            for j in range(q):
                total += whiten[i, j] * (np.float64(sums[b, 1 + j]) - n * mean[j])
            w[i] = total
            den -= total * total
        if not (den > 1e-12 and den > singular * spread):
            bad += 1
            for k in range(n_programs):
                null[k, b] = np.nan
            continue
        for k in range(n_programs):
            numerator[k] = np.float64(sums[b, 1 + q + k]) - n * mean[q + k]
        for i in range(r):
            wi = w[i]
            for k in range(n_programs):
                numerator[k] -= wi * cross[i, k]
        inverse = 1.0 / den
        for k in range(n_programs):
            null[k, b] = numerator[k] * inverse
    return bad


@nb.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def moments(null, mean, sd, skewness):
    """Mean, SD (1/n) and skewness of each row, two passes in float64."""
    n = null.shape[1]
    for k in range(null.shape[0]):
        row = null[k]
        total = 0.0
        for b in range(n):
            total += np.float64(row[b])
        m = total / n
        second, third = 0.0, 0.0
        for b in range(n):
            d = np.float64(row[b]) - m
            second += d * d
            third += d * d * d
        mean[k] = m
        sd[k] = math.sqrt(second / n)
        skewness[k] = third / n / (sd[k] * sd[k] * sd[k]) if sd[k] > 0.0 else np.nan


@nb.njit(cache=True, nogil=True)
def count_extreme(null, low, high, below, above):
    """For each row: how many entries are ≤ low and how many ≥ high."""
    for k in range(null.shape[0]):
        n_low, n_high = 0, 0
        lo, hi = low[k], high[k]
        for b in range(null.shape[1]):
            value = null[k, b]
            n_low += value <= lo
            n_high += value >= hi
        below[k] = n_low
        above[k] = n_high


@nb.njit(cache=True, nogil=True)
def assign_bins(values, inner, bins):
    """How many of the inner edges each value has reached: half-open bins, closed on the left."""
    for i in range(values.size):
        bins[i] = 0
    for edge in inner:
        for i in range(values.size):
            bins[i] += values[i] >= edge


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _probability(C, n, beta, x, k, scale, exponent, mu):
    """mu = 1/(1 + exp(−C β)) for n cells, C (p, cells). exp(x) = 2^k·exp(r), |r| ≤ ln2/2, by its series to r¹³; `scale` views `exponent` as floats."""
    for i in range(n):
        x[i] = 0.0
    j = 0
    while j + 4 <= C.shape[0]:
        b0, b1, b2, b3 = beta[j], beta[j + 1], beta[j + 2], beta[j + 3]
        for i in range(n):
            x[i] -= (b0 * C[j, i] + b1 * C[j + 1, i]) + (b2 * C[j + 2, i] + b3 * C[j + 3, i])
        j += 4
    while j < C.shape[0]:
        b0 = beta[j]
        for i in range(n):
            x[i] -= b0 * C[j, i]
        j += 1
    for i in range(n):
        v = min(max(x[i], -700.0), 700.0)
        k[i] = math.floor(v * 1.4426950408889634 + 0.5)
        x[i] = v - k[i] * 0.6931471803691238 - k[i] * 1.9082149292705877e-10
    for i in range(n):
        exponent[i] = (np.int64(k[i]) + 1023) << 52
    for i in range(n):
        r = x[i]
        series = 1 / 6227020800.0
        series = series * r + 1 / 479001600.0
        series = series * r + 1 / 39916800.0
        series = series * r + 1 / 3628800.0
        series = series * r + 1 / 362880.0
        series = series * r + 1 / 40320.0
        series = series * r + 1 / 5040.0
        series = series * r + 1 / 720.0
        series = series * r + 1 / 120.0
        series = series * r + 1 / 24.0
        series = series * r + 1 / 6.0
        series = series * r + 0.5
        series = series * r + 1.0
        mu[i] = 1.0 / (1.0 + (series * r + 1.0) * scale[i])


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def _products(Ct, first, n, block, pairs):
    """A block of the design in float64, and in float32 the products of its columns two by two."""
    at = 0
    for j in range(Ct.shape[0]):
        for i in range(n):
            block[j, i] = np.float64(Ct[j, first + i])
        for h in range(j + 1):
            for i in range(n):
                pairs[at, i] = Ct[j, first + i] * Ct[h, first + i]
            at += 1


@nb.njit(cache=True, nogil=True, fastmath=True)
def logistic_pass(Ct, beta, gradient, hessian, want_hessian):
    """Σ μ C (float64) and, where wanted, Σ μ(1 − μ) C C' (float32 in a block) for several coefficient vectors at once.

    Each block of cells, and the products of its columns, are made once for all vectors. A vector's arithmetic is the same whatever others are with
    it, so a fit does not depend on its company.
    """
    p, n_cells = Ct.shape
    x, k, mu, weight = np.empty(CELLS), np.empty(CELLS), np.empty(CELLS), np.empty(CELLS, np.float32)
    exponent = np.empty(CELLS, np.int64)
    scale = exponent.view(np.float64)
    block, pairs = np.empty((p, CELLS)), np.empty((p * (p + 1) // 2, CELLS), np.float32)
    gradient[:] = 0.0
    hessian[:] = 0.0
    for first in range(0, n_cells, CELLS):
        n = min(CELLS, n_cells - first)
        _products(Ct, first, n, block, pairs)
        for target in range(beta.shape[0]):
            _probability(block, n, beta[target], x, k, scale, exponent, mu)
            for j in range(p):
                total = 0.0
                for i in range(n):
                    total += mu[i] * block[j, i]
                gradient[target, j] += total
            if not want_hessian[target]:
                continue
            for i in range(n):
                weight[i] = np.float32(mu[i] * (1.0 - mu[i]))
            at = 0
            for j in range(p):
                for h in range(j + 1):
                    part = np.float32(0.0)
                    for i in range(n):
                        part += weight[i] * pairs[at, i]
                    hessian[target, j, h] += np.float64(part)
                    at += 1
    for target in range(beta.shape[0]):
        for j in range(p):
            for h in range(j):
                hessian[target, h, j] = hessian[target, j, h]


@nb.njit(cache=True, nogil=True, fastmath=True)
def logistic_probability(Ct, beta, out):
    """P(treated) of every cell for one coefficient vector."""
    x, k, mu = np.empty(CELLS), np.empty(CELLS), np.empty(CELLS)
    exponent = np.empty(CELLS, np.int64)
    scale = exponent.view(np.float64)
    block = np.empty((Ct.shape[0], CELLS), np.float32)
    for first in range(0, out.size, CELLS):
        n = min(CELLS, out.size - first)
        for j in range(Ct.shape[0]):
            for i in range(n):
                block[j, i] = Ct[j, first + i]
        _probability(block, n, beta, x, k, scale, exponent, mu)
        for i in range(n):
            out[first + i] = mu[i]
