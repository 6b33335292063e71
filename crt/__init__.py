"""Which target genes shift which programs: the conditional randomization test.

Inputs, propensity, resampling, p-values and the null live here; commands, files, reports and figures do not (see `fatescreen`).

A tour::

    inputs = prepare_crt_inputs("SCREEN.h5ad", control_group="ntc_cells")  # or the complement, at high MOI
    result = run_all_genes_union_crt(inputs, B=1023, calibrate_skew_normal=True, n_jobs=2)
    result.table.sort_values("log10_p").head(20)  # one row a test: target, program, beta, z, p_raw, p_skew, p_adj
    found = diagnose_null(inputs, UnitSettings(seed=1), group_size=6)  # is the null right?
    write_diagnostics(Path("results/null"), found)
"""

from data_prep.exports import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
