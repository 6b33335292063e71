"""Compiled loops of the linear statistic: residuals of single programs, power sums by stratum, and cumulants under an exponential tilt.

No checks (callers have checked) and no Python objects; every function releases the GIL. Names: r (cells,) residuals of one program, p propensities,
s the tilt, q = p e^{sr}/(1 − p + p e^{sr}) the tilted probabilities.
"""

import math

import numba as nb
import numpy as np

CELLS = 256  # cells taken at a time: their scratch arrays stay in the first-level cache
_LN2 = math.log(2.0)
_SQRT2 = math.sqrt(2.0)
CLOSE = 0.02  # of an SD, and of the curvature: as near to the saddlepoint as this, four cumulants give the rest of the way
SOLVED, UNSOLVED, RUNNING = 1, 0, -1
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@nb.njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
def ordered_product(weights, r, out):
    """Add weights @ r to `out`, (units, cells) by (cells, columns), four cells and four units at a time: the sums stay in the first-level cache.

    The digits of a unit do not depend on its place among the units, as those of a BLAS product do. The number of cells is a multiple of four.
    """
    units, columns = out.shape
    for i in range(0, r.shape[0], 4):
        r0, r1, r2, r3 = r[i], r[i + 1], r[i + 2], r[i + 3]
        u = 0
        while u + 4 <= units:
            a, b, c, d = out[u], out[u + 1], out[u + 2], out[u + 3]
            a0, a1, a2, a3 = weights[u, i], weights[u, i + 1], weights[u, i + 2], weights[u, i + 3]
            b0, b1, b2, b3 = weights[u + 1, i], weights[u + 1, i + 1], weights[u + 1, i + 2], weights[u + 1, i + 3]
            c0, c1, c2, c3 = weights[u + 2, i], weights[u + 2, i + 1], weights[u + 2, i + 2], weights[u + 2, i + 3]
            d0, d1, d2, d3 = weights[u + 3, i], weights[u + 3, i + 1], weights[u + 3, i + 2], weights[u + 3, i + 3]
            for j in range(columns):
                a[j] = a[j] + a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
                b[j] = b[j] + b0 * r0[j] + b1 * r1[j] + b2 * r2[j] + b3 * r3[j]
                c[j] = c[j] + c0 * r0[j] + c1 * r1[j] + c2 * r2[j] + c3 * r3[j]
                d[j] = d[j] + d0 * r0[j] + d1 * r1[j] + d2 * r2[j] + d3 * r3[j]
            u += 4
        while u < units:
            a = out[u]
            a0, a1, a2, a3 = weights[u, i], weights[u, i + 1], weights[u, i + 2], weights[u, i + 3]
            for j in range(columns):
                a[j] = a[j] + a0 * r0[j] + a1 * r1[j] + a2 * r2[j] + a3 * r3[j]
            u += 1


@nb.njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
def residual_block(values, centre, inverse, C, coef, out):
    """out = (values − centre)·inverse − C coef for a block of cells and all programs, in float32.

    Parameters
    ----------
    values
        Outcomes or scores, (block, K).
    centre
        Their means, so that large ones cost no digits, (K,).
    inverse
        1/SD of the residuals, (K,).
    C
        The design, (block, covariates).
    coef
        Coefficients of (values − centre)·inverse on C, (covariates, K).
    out
        Receives the result, (block, K).
    """
    for i in range(out.shape[0]):
        own, row = values[i], out[i]
        for k in range(row.size):
            row[k] = (own[k] - centre[k]) * inverse[k]
        for h in range(C.shape[1]):
            c, line = C[i, h], coef[h]
            for k in range(row.size):
                row[k] -= c * line[k]


@nb.njit(cache=True, nogil=True)
def residual_columns(values, C, coef, scale, programs, out):
    """out[j, i] = values[i, k]/scale[k] − C[i]·coef[:, k] for the j-th of some programs.

    Parameters
    ----------
    values
        Outcomes, (cells, K).
    C
        The design, (cells, covariates).
    coef
        Coefficients of values/scale on C, (covariates, K).
    scale
        SD of the residuals, (K,).
    programs
        Programs wanted.
    out
        Receives the result.
    """
    p = C.shape[1]
    for i in range(out.shape[1]):
        for j in range(programs.size):
            k = programs[j]
            total = np.float64(values[i, k]) / scale[k]
            for h in range(p):
                total -= np.float64(C[i, h]) * coef[h, k]
            out[j, i] = total


@nb.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy", inline="always")
def _tilt_block(a, p, n, exponent, d, q, logs):
    """q = p e^a/(1 − p + p e^a) and log(1 − p + p e^a) of n cells; `exponent` and `d` are scratch.

    e^{−|a|} = 2^k·e^x, |x| ≤ ln2/2, by its series to x¹²; log d = e·ln2 + log √2 + 2 atanh((f − √2)/(f + √2)), d = 2^e·f, to 1e-13. Divisions follow
    numpy's rules: Python's check for zero would keep the loops from being vectorised.
    """
    scale, bits = exponent.view(np.float64), d.view(np.int64)
    for i in range(n):
        x = -abs(a[i])
        x = x if x > -700.0 else -700.0
        k = math.floor(x * 1.4426950408889634 + 0.5)
        exponent[i] = (np.int64(k) + 1023) << 52
        q[i] = x - k * 0.6931471803691238 - k * 1.9082149292705877e-10
    for i in range(n):
        x = q[i]
        e = 1 / 479001600.0
        e = e * x + 1 / 39916800.0
        e = e * x + 1 / 3628800.0
        e = e * x + 1 / 362880.0
        e = e * x + 1 / 40320.0
        e = e * x + 1 / 5040.0
        e = e * x + 1 / 720.0
        e = e * x + 1 / 120.0
        e = e * x + 1 / 24.0
        e = e * x + 1 / 6.0
        e = e * x + 0.5
        e = e * x + 1.0
        e = (e * x + 1.0) * scale[i]
        up = p[i] if a[i] > 0.0 else p[i] * e
        down = (1.0 - p[i]) * e if a[i] > 0.0 else 1.0 - p[i]
        d[i] = up + down
        q[i] = up / (up + down)
    for i in range(n):
        whole = bits[i]
        bits[i] = (whole & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000
        logs[i] = np.float64((whole >> 52) - 1023)
    for i in range(n):
        t = (d[i] - _SQRT2) / (d[i] + _SQRT2)
        z = t * t
        odd = 1 / 17.0
        odd = odd * z + 1 / 15.0
        odd = odd * z + 1 / 13.0
        odd = odd * z + 1 / 11.0
        odd = odd * z + 1 / 9.0
        odd = odd * z + 1 / 7.0
        odd = odd * z + 1 / 5.0
        odd = odd * z + 1 / 3.0
        odd = odd * z + 1.0
        logs[i] = 2.0 * t * odd + (logs[i] + 0.5) * _LN2 + (a[i] if a[i] > 0.0 else 0.0)


@nb.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def bernoulli_tilt(p, r, s, sums):
    """K(s) = Σ log(1 − p + p e^{sr}) − s Σ p r and its first four derivatives, into `sums` (5,).

    Parameters
    ----------
    p
        Propensities, (cells,).
    r
        Residuals, (cells,).
    s
        The tilt.
    sums
        Receives K and its first four derivatives, (5,).
    """
    a, q, logs = np.empty(CELLS), np.empty(CELLS), np.empty(CELLS)
    exponent, d = np.empty(CELLS, np.int64), np.empty(CELLS)
    sums[:] = 0.0
    for first in range(0, r.size, CELLS):
        n = min(CELLS, r.size - first)
        rb, pb = r[first : first + n], p[first : first + n]
        for i in range(n):
            a[i] = s * rb[i]
        _tilt_block(a, pb, n, exponent, d, q, logs)
        k0, k1, k2, k3, k4 = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            ri = rb[i]
            v = q[i] * (1.0 - q[i])
            vr2 = v * ri * ri
            k0 += logs[i] - pb[i] * a[i]
            k1 += (q[i] - pb[i]) * ri
            k2 += vr2
            k3 += vr2 * ri * (1.0 - 2.0 * q[i])
            k4 += vr2 * ri * ri * (1.0 - 6.0 * v)
        sums[0] += k0
        sums[1] += k1
        sums[2] += k2
        sums[3] += k3
        sums[4] += k4


@nb.njit(cache=True, nogil=True)
def _polish(s, target, sums):
    """From K and its derivatives at s to those at the root of K′ = target nearby, by Taylor's series; returns the root."""
    k0, k1, k2, k3, k4 = sums[0], sums[1], sums[2], sums[3], sums[4]
    d = 0.0
    for _ in range(3):
        d -= (k1 - target + d * (k2 + d * (k3 / 2 + d * k4 / 6))) / (k2 + d * (k3 + d * k4 / 2))
    sums[0] = k0 + d * (k1 + d * (k2 / 2 + d * (k3 / 6 + d * k4 / 24)))
    sums[1] = target
    sums[2] = k2 + d * (k3 + d * k4 / 2)
    sums[3] = k3 + d * k4
    return s + d


@nb.njit(cache=True, nogil=True)
def bernoulli_tilts(p, r, unit, column, s, total):
    """Add K(s) and its first four derivatives over some cells to `total` (tests, 5).

    Parameters
    ----------
    p
        Propensities, (units, cells).
    r
        Residuals, (columns, cells).
    unit
        Unit of each test.
    column
        Column of each test.
    s
        The tilt of each test.
    total
        Receives the sums.
    """
    sums = np.empty(5)
    for j in range(s.size):
        bernoulli_tilt(p[unit[j]], r[column[j]], s[j], sums)
        for i in range(5):
            total[j, i] += sums[i]


@nb.njit(cache=True, nogil=True)
def newton_steps(targets, start, sums, s, low, high, variance, status):
    """One step of Newton's method inside a bracket for each of several equations K′(s) = target ≠ 0 that are `RUNNING`.

    K′ rises from one end of the support of T to the other, so there is no root at or beyond an end: s runs away and K″ vanishes. Where s is near enough to the
    root, `sums` and s become those there.

    Parameters
    ----------
    targets
        Values of K′ to reach; not 0.
    start
        First values of s.
    sums
        K and its first four derivatives at s, (tests, 5).
    s
        The tilts, which are moved.
    low
        Lower ends of the brackets, which are moved.
    high
        Upper ends of the brackets, which are moved.
    variance
        The largest K″ of each equation up to now.
    status
        `RUNNING`, `SOLVED` or `UNSOLVED`.
    """
    for j in range(s.size):
        if status[j] != RUNNING:
            continue
        gap = targets[j] - sums[j, 1]
        variance[j] = max(variance[j], sums[j, 2])
        if not (sums[j, 2] > 1e-12 * variance[j] and abs(s[j]) < 1e8):
            if not (low[j] > -np.inf and high[j] < np.inf):
                status[j] = UNSOLVED
                continue
        elif abs(gap) <= CLOSE * math.sqrt(sums[j, 2]) and abs(gap * sums[j, 3]) <= CLOSE * sums[j, 2] * sums[j, 2]:
            s[j] = _polish(s[j], targets[j], sums[j])
            status[j] = SOLVED
            continue
        if gap > 0:
            low[j] = s[j]
        else:
            high[j] = s[j]
        step = gap / sums[j, 2] if sums[j, 2] > 0 else np.inf
        reach = 2.0 * abs(s[j]) + abs(start[j])
        new = s[j] + min(max(step, -reach), reach)
        s[j] = new if low[j] < new < high[j] else 0.5 * (low[j] + high[j])


@nb.njit(cache=True, nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")
def add_powers(r, stratum, sums):
    """Add r, r², r³ and r⁴ of each cell to its stratum's sums, float64 (strata, 4, columns)."""
    n_columns = r.shape[1]
    for i in range(stratum.size):
        one, two, three, four = sums[stratum[i]]
        row = r[i]
        for j in range(n_columns):
            x = np.float64(row[j])
            square = x * x
            one[j] += x
            two[j] += square
            three[j] += square * x
            four[j] += square * square


@nb.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def stratified_tilt(d, offsets, share, s, shift, counts, weights, slopes):
    """One pass over cells sorted by stratum, with q the tilted probability share·e^{sd + λ}/(1 − share + share·e^{sd + λ}) and λ the stratum's `shift`.

    For each stratum Σq, Σv and Σvd, v = q(1 − q); returns Σ log(1 − share + share·e^{sd + λ}), Σqd and Σvd².

    Parameters
    ----------
    d
        Residuals less the mean of their stratum, sorted by stratum, (cells,).
    offsets
        Bounds of the strata, (strata + 1,).
    share
        Treated share of each stratum.
    s
        The tilt.
    shift
        λ of each stratum.
    counts
        Receives Σq of each stratum.
    weights
        Receives Σv of each stratum.
    slopes
        Receives Σvd of each stratum.
    """
    a, p, q, logs = np.empty(CELLS), np.empty(CELLS), np.empty(CELLS), np.empty(CELLS)
    exponent, denominator = np.empty(CELLS, np.int64), np.empty(CELLS)
    log_total, total, square = 0.0, 0.0, 0.0
    for stratum in range(share.size):
        c, h, g = 0.0, 0.0, 0.0
        last = offsets[stratum + 1]
        p[:] = share[stratum]
        for first in range(offsets[stratum], last, CELLS):
            n = min(CELLS, last - first)
            own = d[first : first + n]
            for i in range(n):
                a[i] = s * own[i] + shift[stratum]
            _tilt_block(a, p, n, exponent, denominator, q, logs)
            k0, k1, k2 = 0.0, 0.0, 0.0
            for i in range(n):
                v = q[i] * (1.0 - q[i])
                vd = v * own[i]
                c += q[i]
                h += v
                g += vd
                k0 += logs[i]
                k1 += q[i] * own[i]
                k2 += vd * own[i]
            log_total += k0
            total += k1
            square += k2
        counts[stratum], weights[stratum], slopes[stratum] = c, h, g
    return log_total, total, square


@nb.njit(cache=True, nogil=True)
def stratified_saddle(d, offsets, n_treated, target, start, max_iter, out):
    """Solve Σqd = target with Σq = n_treated in every stratum, by Newton's method in (s, λ); `out` gets ŵ² and û². Returns s and whether it was found.

    `d` are residuals less their stratum's mean; strata without treated or untreated cells are left out by the caller.

    Parameters
    ----------
    d
        Residuals less the mean of their stratum, sorted by stratum, (cells,).
    offsets
        Bounds of the strata, (strata + 1,).
    n_treated
        Number of treated cells in each stratum.
    target
        Value of K′, or of Σqd, to reach; not 0.
    start
        First value of s.
    max_iter
        Maximum number of Newton steps.
    out
        Receives the result.
    """
    n_strata = n_treated.size
    share, shift = np.empty(n_strata), np.zeros(n_strata)
    counts, weights, slopes = np.empty(n_strata), np.empty(n_strata), np.empty(n_strata)
    for j in range(n_strata):
        share[j] = n_treated[j] / (offsets[j + 1] - offsets[j])
    s = start
    for _ in range(max_iter):
        log_total, total, square = stratified_tilt(d, offsets, share, s, shift, counts, weights, slopes)
        left, curvature, gained = target - total, square, 0.0
        for j in range(n_strata):
            gap = n_treated[j] - counts[j]
            if not weights[j] > 0.0:
                return s, UNSOLVED
            left -= slopes[j] * gap / weights[j]
            curvature -= slopes[j] * slopes[j] / weights[j]
            gained += gap * gap / weights[j]
        if not curvature > 1e-12 * square or abs(s) > 1e8:
            return s, UNSOLVED
        step = left / curvature
        gained += left * step
        if gained < 1e-8 and s != 0.0:
            value, ratio = s * target - log_total, math.log(curvature)
            for j in range(n_strata):
                value += shift[j] * n_treated[j]
                ratio += math.log(weights[j] / (n_treated[j] * (1.0 - share[j])))
            out[0], out[1] = 2.0 * value + gained, s * s * math.exp(ratio)
            return s, SOLVED
        reach = 2.0 * abs(s) + abs(start)
        shrink = min(1.0, reach / abs(step)) if step != 0.0 else 1.0
        for j in range(n_strata):
            move = (n_treated[j] - counts[j] - slopes[j] * step) / weights[j]
            shift[j] += shrink * min(max(move, -3.0), 3.0)
        s += shrink * step
    return s, UNSOLVED
