"""The terms of the reports, explained at the end of each."""

from fatescreen.report.blocks import PlainTable, Section

TERMS = {
    "β": "effect in a test: the difference of the outcome between treated and control cells, adjusted for the covariates",
    "burden": "number of guides in a cell",
    "CLR": "centred log-ratio: the logarithm of a program’s share of a cell’s usage, less the mean of the logarithms of all programs; 0.7 is a factor of two",
    "complement": "control group of all cells without the guides of the tested gene",
    "contrast": "the two fates whose log-odds an effect changes: a fate against the reference, or two fates as A:B",
    "covariates": "properties of a cell, such as batch and sequencing depth, for which a test adjusts",
    "ELBO": "evidence lower bound: what a fit increases at each step; when it no longer increases, the fit has converged",
    "false discovery rate": "expected share of false discoveries among all discoveries",
    "fate": "one of the outcomes of a cell; its fate probabilities sum to 1",
    "gene": "target of a guide that is not an NTC; also an enhancer or another element",
    "guide": "a guide RNA (gRNA, sgRNA)",
    "guide deviation": "difference of a guide’s effect from the effect of its gene",
    "lfsr": "local false sign rate: the probability that an effect has the other sign, or with mash also that it is zero",
    "likelihood weight": "how much one cell counts, 1 over the dispersion: 1 for one observed fate, more for precise fate probabilities",
    "log-odds": "logarithm of the ratio of the probabilities of two fates; an effect of 0.7 doubles the ratio",
    "mash": "multivariate adaptive shrinkage: estimates of all genes and days together, shrunk by what the screen shows of the effects",
    "MOI": "multiplicity of infection: mean number of guides in a cell",
    "NTC": "non-targeting control: a guide without a target",
    "NTC group": "NTC guides that are tested together, as if they targeted one gene; they have no effect",
    "p-value": "probability of a statistic at least as extreme as the observed one if there is no effect",
    "pattern": "the days on which a gene has an effect: constant, early, late, transient, or on single days",
    "posterior": "distribution of an effect given the screen and the prior; its SD is the standard error of a shrunken effect",
    "program": "an outcome of a test, such as the usage of a gene expression program",
    "propensity": "probability that a cell is treated, given its covariates",
    "pseudo-gene": "NTC guides that are analysed as if they targeted one gene; its effects should be zero",
    "q-value": "p-value adjusted for the number of tests: the false discovery rate at which a test becomes a discovery",
    "reference fate": "fate that effects on all other fates are relative to",
    "resample": "random assignment of the treatment to cells, by their propensity",
    "saddlepoint": "approximation of the null distribution’s tail without resamples",
    "shrinkage": "estimates that are moved towards zero, the more the less precise they are",
    "skew-normal": "distribution that is fitted to the statistics of the resamples, for p-values below 1 over their number",
    "treated": "cells that carry a guide of the tested gene",
    "verdict": "whether the p-values are calibrated, and if not, which cause explains it",
    "z": "effect over its standard error",
}
SHARED = ("gene", "guide", "MOI", "NTC", "z")
FIT = ("contrast", "ELBO", "fate", "guide deviation", "lfsr", "likelihood weight", "log-odds", "posterior", "pseudo-gene", "reference fate", "shrinkage")
HITS = ("contrast", "fate", "lfsr", "log-odds", "mash", "pattern", "posterior", "reference fate", "shrinkage")
TEST = ("β", "burden", "CLR", "complement", "covariates", "false discovery rate", "NTC group", "p-value", "program", "propensity", "q-value", "resample") + (
    "saddlepoint",
    "skew-normal",
    "treated",
)
NULL = (*TEST, "verdict")


def glossary_section(*own: str) -> Section:
    """The section at the end of a report, with the terms of all reports and its own."""
    rows = [(term, TERMS[term]) for term in sorted({*SHARED, *own}, key=str.casefold)]
    return Section(id="glossary", title="Glossary", blocks=[PlainTable(caption="Terms on this page", head=("term", "meaning"), rows=rows)])
