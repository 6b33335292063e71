"""Which target genes shift which programs: the conditional randomization test."""

from crt.burden import add_burden_covariate
from crt.diagnostics import NullDiagnostics, diagnose_null
from crt.inputs import CRTInputs, prepare_crt_inputs
from crt.ntc import compute_ntc_group_null_pvals_parallel, crt_pvals_for_ntc_groups_ensemble, crt_pvals_for_ntc_groups_ensemble_skew
from crt.ntc_groups import NTCGroupInputs, build_ntc_group_inputs, make_ntc_groups_ensemble, make_ntc_groups_matched_by_freq
from crt.plots import qq_plot, qq_plot_ntc_pvals
from crt.results import CRTResult, store_results_in_adata
from crt.run import run_all_genes_union_crt, run_one_gene_union_crt
from crt.samplers import SAMPLERS, BernoulliIndex, Resamples, StratifiedPermutation, bernoulli_index_sampler, stratified_permutation_sampler
from crt.statistics import NullDraws, draws
from crt.strata import compute_bins
from data_prep.synthetic_usage import make_sceptre_style_synth

__all__ = [
    "SAMPLERS",
    "BernoulliIndex",
    "CRTInputs",
    "CRTResult",
    "NTCGroupInputs",
    "NullDiagnostics",
    "NullDraws",
    "Resamples",
    "StratifiedPermutation",
    "add_burden_covariate",
    "bernoulli_index_sampler",
    "build_ntc_group_inputs",
    "compute_bins",
    "compute_ntc_group_null_pvals_parallel",
    "crt_pvals_for_ntc_groups_ensemble",
    "crt_pvals_for_ntc_groups_ensemble_skew",
    "diagnose_null",
    "draws",
    "make_ntc_groups_ensemble",
    "make_ntc_groups_matched_by_freq",
    "make_sceptre_style_synth",
    "prepare_crt_inputs",
    "qq_plot",
    "qq_plot_ntc_pvals",
    "run_all_genes_union_crt",
    "run_one_gene_union_crt",
    "store_results_in_adata",
    "stratified_permutation_sampler",
]
