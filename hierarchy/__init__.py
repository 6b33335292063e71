"""The guide → gene hierarchy: how the knock-down of each gene shifts the odds of each cell fate, day by day.

The model, its inference and its effects live here; reading screens (see `data_prep`), commands, files, reports and figures (see `fatescreen`) do not.

A tour::

    data = build_fate_data(read_screen("SCREEN.h5ad"), ref_fate="EC")  # both from data_prep
    fitted = fit(data, settings=FitSettings())  # variational inference to convergence
    effects = summarise(fitted)  # means and standard errors by gene, fate and day
    effects.gene_table("MES")  # the content of gene_daywise_for_mash.csv
    write_effects(effects, Path("results"), contrast_fate="MES")
"""

from data_prep.exports import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
