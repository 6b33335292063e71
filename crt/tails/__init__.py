"""Tail probabilities of a null distribution, beyond what counts of resamples resolve.

Empirical p-values are in `crt.pvalues`.
"""
