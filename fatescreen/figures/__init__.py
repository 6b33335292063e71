"""Figures, each drawn once with matplotlib: as PNG files, inside reports and from Python.

A function draws on the Axes it is given, or on those of a new figure, and returns them; what is drawn is computed elsewhere.
"""

from data_prep.exports import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
