"""AnnData and MuData in; checked screens, tensors and designs out."""

from data_prep.errors import InputError, ScreenWarning
from data_prep.read import ScreenKeys, read_screen
from data_prep.screen import NTC_LABELS, GuideMap, Screen
from data_prep.synthetic import ScreenDesign, SimulatedScreen, simulate_fate_screen
from data_prep.tensors import FateData, build_fate_data, cached_fate_data

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
    "read_screen",
    "simulate_fate_screen",
]
