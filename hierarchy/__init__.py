"""The guide → gene hierarchy: how each gene's knock-down shifts cell-fate odds, day by day.

A tour::

    data = build_fate_data(read_screen("SCREEN.h5ad"), ref_fate="EC")  # both from data_prep
    fitted = fit(data, settings=FitSettings())  # variational inference to convergence
    effects = summarise(fitted)  # means and standard errors by gene, fate and day
    effects.gene_table("MES")  # what gene_daywise_for_mash.csv holds
    write_effects(effects, Path("results"), contrast_fate="MES")
"""

from data_prep.exports import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
