"""The guide → gene hierarchy: how each gene's knock-down shifts cell-fate odds, day by day.

A tour::

    data = build_fate_data(read_screen("SCREEN.h5ad"), ref_fate="EC")  # both from data_prep
    fitted = fit(data, settings=FitSettings())  # variational inference to convergence
    effects = summarise(fitted)  # means and standard errors by gene, fate and day
    effects.gene_table("MES")  # what gene_daywise_for_mash.csv holds
    write_effects(effects, Path("results"), contrast_fate="MES")
"""

from hierarchy.checks import Checks, check_fit
from hierarchy.fit import Fit, choose_device, fit
from hierarchy.model import HierarchyModel, hierarchy_model
from hierarchy.output import write_checks, write_effects, write_posterior
from hierarchy.posterior import Draws, GeneBlock, MeanField, Moments
from hierarchy.report import fit_report
from hierarchy.scoring import score_daywise
from hierarchy.settings import FitSettings, Priors
from hierarchy.summary import DaywiseEffects, check_centred, summarise

__all__ = [
    "Checks",
    "DaywiseEffects",
    "Draws",
    "Fit",
    "FitSettings",
    "GeneBlock",
    "HierarchyModel",
    "MeanField",
    "Moments",
    "Priors",
    "check_centred",
    "check_fit",
    "choose_device",
    "fit",
    "fit_report",
    "hierarchy_model",
    "score_daywise",
    "summarise",
    "write_checks",
    "write_effects",
    "write_posterior",
]
