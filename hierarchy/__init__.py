"""The guide → gene hierarchy: how each gene's knock-down shifts cell-fate odds, day by day."""

from hierarchy.fit import Fit, choose_device, fit
from hierarchy.model import HierarchyModel, hierarchy_model
from hierarchy.output import write_effects
from hierarchy.posterior import Draws, GeneBlock, MeanField, Moments
from hierarchy.scoring import score_daywise
from hierarchy.settings import FitSettings, Priors
from hierarchy.summary import DaywiseEffects, summarise

__all__ = [
    "DaywiseEffects",
    "Draws",
    "Fit",
    "FitSettings",
    "GeneBlock",
    "HierarchyModel",
    "MeanField",
    "Moments",
    "Priors",
    "choose_device",
    "fit",
    "hierarchy_model",
    "score_daywise",
    "summarise",
    "write_effects",
]
