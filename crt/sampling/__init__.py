"""Resamples of the treatment given the covariates: the samplers, their strata and their random streams.

Statistics and p-values of resamples are in `crt.statistic` and `crt.pvalues`; the compiled loops are in `crt.kernels`.
"""
