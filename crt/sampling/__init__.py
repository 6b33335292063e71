"""Resamples of the treatment given the covariates: samplers, strata and random streams.

What is computed from a resample is in `crt.statistic`; the loops themselves are in `crt.kernels`.
"""
