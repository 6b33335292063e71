"""The test without resamples: outcome scores, and p-values and effects of units from the exact cumulants of a linear statistic.

Tail probabilities are in `crt.tails`; resamples, which are drawn where a saddlepoint equation has no solution, are in `crt.sampling`.
"""
