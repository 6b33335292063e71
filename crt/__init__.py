"""Which target genes shift which programs: the conditional randomization test.

A tour::

    inputs = prepare_crt_inputs("SCREEN.h5ad", control_group="ntc_cells")  # or the complement, at high MOI
    result = run_all_genes_union_crt(inputs, B=1023, calibrate_skew_normal=True, n_jobs=2)
    result.table.sort_values("log10_p").head(20)  # one row a test: target, program, beta, z, p_raw, p_skew, p_adj
    found = diagnose_null(inputs, UnitSettings(seed=1), group_size=6)  # is the null right?
    write_diagnostics(Path("results/null"), found)
"""

from crt.burden import add_burden_covariate
from crt.diagnostics import NullDiagnostics, diagnose_null
from crt.engine import UnitResult, UnitSettings
from crt.inputs import CRTInputs, prepare_crt_inputs
from crt.ntc import compute_ntc_group_null_pvals_parallel, crt_pvals_for_ntc_groups_ensemble, crt_pvals_for_ntc_groups_ensemble_skew
from crt.ntc_groups import NTCGroupInputs, build_ntc_group_inputs, make_ntc_groups_ensemble, make_ntc_groups_matched_by_freq
from crt.plots import qq_plot, qq_plot_ntc_pvals
from crt.propensity import LogisticSettings
from crt.report import write_diagnostics
from crt.report_page import crt_report, null_report
from crt.results import CRTResult, store_results_in_adata
from crt.run import run_all_genes_union_crt, run_one_gene_union_crt
from crt.samplers import SAMPLERS, BernoulliIndex, Resamples, StratifiedPermutation, bernoulli_index_sampler, stratified_permutation_sampler
from crt.statistics import NullDraws, draws
from crt.strata import compute_bins
from crt.verdict import Finding, Thresholds, Verdict
from data_prep.synthetic_usage import make_sceptre_style_synth

__all__ = [
    "SAMPLERS",
    "BernoulliIndex",
    "CRTInputs",
    "CRTResult",
    "Finding",
    "LogisticSettings",
    "NTCGroupInputs",
    "NullDiagnostics",
    "NullDraws",
    "Resamples",
    "StratifiedPermutation",
    "Thresholds",
    "UnitResult",
    "UnitSettings",
    "Verdict",
    "add_burden_covariate",
    "bernoulli_index_sampler",
    "build_ntc_group_inputs",
    "compute_bins",
    "compute_ntc_group_null_pvals_parallel",
    "crt_pvals_for_ntc_groups_ensemble",
    "crt_pvals_for_ntc_groups_ensemble_skew",
    "crt_report",
    "diagnose_null",
    "draws",
    "make_ntc_groups_ensemble",
    "make_ntc_groups_matched_by_freq",
    "make_sceptre_style_synth",
    "null_report",
    "prepare_crt_inputs",
    "qq_plot",
    "qq_plot_ntc_pvals",
    "run_all_genes_union_crt",
    "run_one_gene_union_crt",
    "store_results_in_adata",
    "stratified_permutation_sampler",
    "write_diagnostics",
]
