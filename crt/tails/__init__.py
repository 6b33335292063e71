"""Tail probabilities of a null distribution beyond what resamples can count.

Empirical p-values are in `crt.pvalues`.
"""
