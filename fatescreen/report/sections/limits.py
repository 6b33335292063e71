"""How much of the results of a fit, or of its hits, the reports draw."""

HEAT_GENES = 40  # rows of a heat map
FOREST_GENES, OPEN_FORESTS = 12, 6  # forest plots, and those that are open at first
FOREST_GUIDES, FOREST_ROWS = 8, 60  # guides of a gene, and rows of one plot
