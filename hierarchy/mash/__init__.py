"""Multivariate adaptive shrinkage (mash): which genes act, on which days, with which sign.

It starts from estimates and their covariances by gene; how those are made is in `hierarchy.effects`.
"""
