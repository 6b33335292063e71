"""AnnData and MuData in; checked screens and tensors out.

A tour::

    screen = read_screen("SCREEN.h5ad", guide_map="guides.csv", keys=ScreenKeys(fate="fateprob"))  # all checks are made here
    screen.moi, screen.day_labels, screen.dropped  # what was read, and what was left out
    data = build_fate_data(screen, ref_fate="EC")  # the tensors that hierarchy.fit takes
    simulated = simulate_fate_screen(ScreenDesign(n_cells=5000), seed=1)  # a screen whose truth is known
    InputError, ScreenWarning  # what is raised and warned
"""

from data_prep.errors import InputError, ScreenWarning
from data_prep.guide_tables import read_guide_table
from data_prep.read import ScreenKeys, read_screen
from data_prep.screen import NTC_LABELS, GuideMap, Screen
from data_prep.synthetic import ScreenDesign, SimulatedScreen, simulate_fate_screen
from data_prep.tensors import FateData, build_fate_data, cached_fate_data
from data_prep.usage_tables import read_usage_table

__all__ = [
    "NTC_LABELS",
    "FateData",
    "GuideMap",
    "InputError",
    "Screen",
    "ScreenDesign",
    "ScreenKeys",
    "ScreenWarning",
    "SimulatedScreen",
    "build_fate_data",
    "cached_fate_data",
    "read_guide_table",
    "read_screen",
    "read_usage_table",
    "simulate_fate_screen",
]
