"""Simulated screens with known truth, for demonstrations, tests and benchmarks.

Nothing here reads a screen or knows of a fit or a test.
"""
