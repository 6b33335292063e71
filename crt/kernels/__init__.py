"""Compiled loops (numba): contiguous arrays of stated types in, no checks, no Python objects; every loop releases the GIL.

Checks, settings and p-values are not here, but in the modules of `crt` that call these loops.
"""
