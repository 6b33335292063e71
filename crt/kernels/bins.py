"""Bins between sorted edges."""

import numba as nb


@nb.njit(cache=True, nogil=True)
def assign_bins(values, inner, bins):
    """The bin of each value: the number of inner edges that are not above it, so that bins include their left edge."""
    for i in range(values.size):
        bins[i] = 0
    for edge in inner:
        for i in range(values.size):
            bins[i] += values[i] >= edge
