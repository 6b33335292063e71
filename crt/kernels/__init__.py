"""Compiled loops (numba), without checks: callers pass contiguous arrays of the stated types.

Everything that decides or explains is outside this room.
"""
