"""Plots of results, which return the Axes that they draw on, so that users can change and combine them.

They are made of the drawings in `fatescreen.figures`, which the reports use too.
"""

from data_prep.exports import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
