"""Which target genes shift which programs: the conditional randomization test."""

from crt.burden import add_burden_covariate
from crt.inputs import CRTInputs, prepare_crt_inputs
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
    "NullDraws",
    "Resamples",
    "StratifiedPermutation",
    "add_burden_covariate",
    "bernoulli_index_sampler",
    "compute_bins",
    "draws",
    "make_sceptre_style_synth",
    "prepare_crt_inputs",
    "run_all_genes_union_crt",
    "run_one_gene_union_crt",
    "store_results_in_adata",
    "stratified_permutation_sampler",
]
