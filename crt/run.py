"""The runs: one gene, all genes."""

import difflib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from jaxtyping import Int

from crt.engine import UnitResult, all_units
from crt.inputs import CRTInputs
from crt.linear.scores import few_valued
from crt.results import CRTResult, collect
from crt.resume import result_folder
from crt.sampling.methods import ResamplingMethod
from crt.settings import N_RESAMPLES, SEED, LogisticSettings, Method, MethodOptions, Propensity, Side, Statistic, UnitSettings, settings_of
from crt.signatures import shared_options
from data_prep.errors import InputError, first_few, warn


def run_all_genes_union_crt(
    inputs: CRTInputs,
    genes: Sequence[str] | None = None,
    *,
    B: int = N_RESAMPLES,
    n_jobs: int = 1,
    base_seed: int = SEED,
    resampling_method: ResamplingMethod = "bernoulli_index",
    resampling_kwargs: Mapping[str, Any] | None = None,
    calibrate_skew_normal: bool = False,
    side: Side = "both",
    skew_normal_side_code: int = 0,
    return_raw_pvals: bool = False,
    return_skew_normal: bool = False,
    propensity_mode: Propensity = "fit",
    adaptive: bool = False,
    adjust_method: Literal["bh", "by"] = "bh",
    out_dir: str | Path | None = None,
    resume: bool | None = None,
    progress: bool = False,
    method: Method = "resample",
    statistic: Statistic = "mean",
    propensity_penalty: float = LogisticSettings().penalty,
    min_treated: int = 1,
    min_control: int = 1,
    unit: Literal["gene", "guide"] = "gene",
) -> CRTResult:
    """Test every gene: x_i = 1 where cell i carries any of its guides, against resamples of x given the covariates.

    The statistic is the OLS coefficient of x in Y_k ~ x + C, for each program k. An undefined test is NaN with a reason, never p = 1.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    genes
        Genes to test; all by default.
    B
        Number of resamples per unit. The smallest possible empirical p-value is 1/(B + 1).
    n_jobs
        Number of worker threads, which share the inputs. Results do not depend on it.
    base_seed
        Random seed. The random stream of a unit depends on this seed and the unit's name.
    resampling_method
        Sampler: "bernoulli_index" draws from the propensity, "stratified_perm" permutes within strata. See `SAMPLERS`.
    resampling_kwargs
        Options of the sampler, see `BernoulliIndex` and `StratifiedPermutation`; an unknown option is an error.
    calibrate_skew_normal
        Whether `pvals_df` and the adjusted p-values are based on the skew-normal p-values.
    side
        Alternative hypothesis: "both", "left" or "right".
    skew_normal_side_code
        Alternative hypothesis as a number: 0 (both), −1 (left) or 1 (right).
    return_raw_pvals
        Whether to return the matrix of empirical p-values as well.
    return_skew_normal
        Whether to return the matrix of skew-normal p-values, and the parameters of the fitted distributions, as well.
    propensity_mode
        Model of the propensity: "fit"; "oracle_const", the treated share for every cell; or a function of (treated, C) that returns one probability per cell.
    adaptive
        Whether to draw again with 4,999 and then 24,999 resamples where the smallest p-value of a unit is near 1/(B + 1).
    adjust_method
        Method of adjustment: "bh" (Benjamini and Hochberg), or "by" (Benjamini and Yekutieli) for any dependence.
    out_dir
        Folder for finished genes, from which a later call with the same inputs and settings resumes.
    resume
        Whether to use the finished genes of that folder: True, where those of another run are an error; False, to delete them; None, to use those of this run
        and to move those of another to `finished_earlier`, with a warning.
    progress
        Whether to show a progress bar.
    method
        How p-values are computed: "resample", or "saddlepoint", from the cumulants of the null distribution of a linear statistic, without resamples. B then
        counts only where a saddlepoint equation has no solution.
    statistic
        What is tested: "mean", the outcome itself; "normal_scores", the normal scores of its residuals; "cauchy", both, their p-values combined. Coefficients
        and their errors are those of the outcome itself in each case.
    propensity_penalty
        Penalty of the logistic regression of the propensity, see `LogisticSettings`.
    min_treated
        Minimum number of treated cells; a gene with fewer is not tested, with the reason "few_treated".
    min_control
        Minimum number of control cells; a gene with fewer is not tested, with the reason "few_control".
    unit
        What is tested: "gene", the union of a gene's guides; or "guide", each guide of these genes by itself, the target being the name of the guide.

    Returns
    -------
    CRTResult
        Tables of p-values and coefficients.

    Raises
    ------
    InputError
        On unknown genes or options, and where `out_dir` contains another run.

    Notes
    -----
    The conditional randomization test is of Candès et al. 2018, "Panning for gold". The saddlepoint approximation is of Lugannani and Rice 1980, its form for
    permutations of Robinson 1982; normal scores are of Chernoff and Savage 1958; the combination of p-values is of Liu and Xie 2020. The test's use with a
    fitted propensity for CRISPR screens, and the skew-normal calibration, are of Barry et al. 2021 and 2024 (SCEPTRE).

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> from crt import run_all_genes_union_crt
    >>> result = run_all_genes_union_crt(inputs, B=255)
    >>> result.pvals_df.round(3)
    program  program_0  program_1  program_2  program_3
    target
    GENE0        0.250      0.238      0.559      0.590
    GENE1        0.141      0.266      0.082      0.418
    GENE2        0.195      0.777      0.832      0.582
    GENE3        0.676      0.863      0.098      0.082
    GENE4        0.883      0.871      0.004      0.004
    GENE5        0.605      0.484      0.590      0.766
    """
    settings = settings_of(
        {
            "B": B,
            "base_seed": base_seed,
            "resampling_method": resampling_method,
            "resampling_kwargs": resampling_kwargs,
            "side": side,
            "skew_normal_side_code": skew_normal_side_code,
            "propensity_mode": propensity_mode,
            "propensity_penalty": propensity_penalty,
            "adaptive": adaptive,
            "method": method,
            "statistic": statistic,
            "min_treated": min_treated,
            "min_control": min_control,
        },
        skew_normal=calibrate_skew_normal or return_skew_normal,
    )
    units = units_of(checked_genes(genes, inputs), inputs, unit)
    warn_of_few_values(inputs, settings)
    bar = "gene" if progress else ""
    with nullcontext() if out_dir is None else result_folder(out_dir, inputs, settings, resume=resume) as folder:
        finished, save = (None, None) if folder is None else (folder.load(), folder.save)
        found = all_units(units, inputs, settings, keep=lambda unit: unit.result, n_jobs=n_jobs, bar=bar, finished=finished, save=save)
    return collect(
        found,
        inputs.program_names,
        settings,
        calibrated=calibrate_skew_normal,
        adjust_method=adjust_method,
        with_raw=return_raw_pvals,
        with_skew=return_skew_normal,
    )


@shared_options(MethodOptions, run_all_genes_union_crt)
def run_one_gene_union_crt(gene: str, inputs: CRTInputs, *, calibrate_skew_normal: bool = False, **options: Unpack[MethodOptions]) -> UnitResult:
    """Test one gene; the numbers are those of its row in `run_all_genes_union_crt`.

    Parameters
    ----------
    gene
        Gene to test.
    inputs
        Screen, from `prepare_crt_inputs`.
    calibrate_skew_normal
        Whether skew-normal p-values are computed.
    **options
        Those of `run_all_genes_union_crt`.

    Returns
    -------
    UnitResult
        Coefficients and p-values for each program, and diagnostics of the propensity and the resamples.

    Raises
    ------
    InputError
        On an unknown gene or option.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> from crt import run_one_gene_union_crt
    >>> result = run_one_gene_union_crt("GENE4", inputs, B=255)
    >>> result.n_treated, result.p_raw.round(3)
    (497, array([0.883, 0.871, 0.004, 0.004]))
    """
    checked_genes([gene], inputs)
    settings = settings_of(options, skew_normal=calibrate_skew_normal)
    return all_units({gene: inputs.gene_to_cols[gene]}, inputs, settings, keep=lambda unit: unit.result)[0]


def units_of(genes: Sequence[str], inputs: CRTInputs, unit: Literal["gene", "guide"]) -> dict[str, Int[np.ndarray, " _"]]:
    """Columns of the guides of each unit: of a gene, or one guide of these genes."""
    if unit not in ("gene", "guide"):
        raise InputError(f"unit is {unit!r}; choose 'gene' or 'guide'.", "unit")
    if unit == "gene":
        return {gene: inputs.gene_to_cols[gene] for gene in genes}
    return {str(inputs.guide_names[c]): np.array([c]) for gene in genes for c in inputs.gene_to_cols[gene]}


def warn_of_few_values(inputs: CRTInputs, settings: UnitSettings) -> None:
    """Warn of programs without the three distinct values from which normal scores differ from the outcome itself."""
    if settings.statistic == "mean":
        return
    few = [inputs.program_names[k] for k in few_valued(inputs.host_blocks())]
    if few:
        warn(f"the outcomes {first_few(few)} have fewer than three distinct values, so tests of their normal scores are tests of their means.", "statistic")


def checked_genes(genes: Sequence[str] | None, inputs: CRTInputs) -> list[str]:
    """The genes to test, each known and listed once; all by default."""
    if genes is None:
        return list(inputs.genes)
    names = [genes] if isinstance(genes, str) else [str(g) for g in genes]
    if not names:
        raise InputError("the list of genes to test is empty. Name the genes, or leave the list out to test all of them.", "genes")
    unknown = [g for g in names if g not in inputs.gene_to_cols]
    if unknown:
        near = [gene for gene in inputs.genes if gene.lower() == unknown[0].lower()] or difflib.get_close_matches(unknown[0], inputs.genes, n=3)
        hint = f"Similar to {unknown[0]!r}: {', '.join(near)}." if near else f"The screen has {len(inputs.genes)} genes: {first_few(inputs.genes)}."
        raise InputError(f"no guide targets {first_few(unknown)}. {hint}", "genes")
    twice = [str(n) for n, c in zip(*np.unique(names, return_counts=True), strict=True) if c > 1]
    if twice:
        raise InputError(f"genes are listed twice: {first_few(twice)}. List each gene once.", "genes")
    return names
