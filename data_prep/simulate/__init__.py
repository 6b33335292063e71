"""Simulated screens with known truth, for demonstrations, tests and benchmarks.

Nothing here reads, fits or tests a screen.
"""
