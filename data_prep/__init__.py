"""Pooled screens: reading them from files or objects with all checks, their tensors, and simulated screens with known truth. Nothing here fits or tests.

A tour::

    screen = read_screen("SCREEN.h5ad", guide_map="guides.csv", keys=ScreenKeys(fate="fateprob"))  # all checks are made here
    screen.moi, screen.day_labels, screen.dropped  # what was read, and what was left out
    data = build_fate_data(screen, ref_fate="EC")  # the tensors that hierarchy.fit takes
    simulated = simulate_fate_screen(ScreenDesign(n_cells=5000), seed=1)  # a screen whose truth is known
    InputError, ScreenWarning  # what is raised and warned
"""

import os

from data_prep.exports import exports

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded: threads that wait actively make a fit many times slower on busy cores
__getattr__, __dir__, __all__ = exports(__name__, __file__)
