"""The runs: one gene, all genes."""

import difflib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from crt.engine import STAGES, UnitResult, UnitSettings, run_unit, run_units
from crt.inputs import CRTInputs
from crt.propensity import LogisticSettings, Propensity
from crt.pvalues import SIDES, Side
from crt.results import CRTResult, collect
from crt.resume import result_folder
from crt.sampling.samplers import make_sampler
from data_prep.errors import InputError, first_few

Method = Literal["bernoulli_index", "stratified_perm"]


def run_one_gene_union_crt(
    gene: str,
    inputs: CRTInputs,
    *,
    B: int = 1023,
    base_seed: int = 123,
    resampling_method: Method = "bernoulli_index",
    resampling_kwargs: Mapping[str, Any] | None = None,
    calibrate_skew_normal: bool = False,
    side: Side = "both",
    skew_normal_side_code: int = 0,
    propensity_mode: Propensity = "fit",
    adaptive: bool = False,
) -> UnitResult:
    """Test one gene; the same numbers as its row in `run_all_genes_union_crt`, where the options are explained.

    Parameters
    ----------
    gene
        The gene.
    inputs
        Of `prepare_crt_inputs`.
    B
        Resamples.
    base_seed
        Of the run.
    resampling_method
        The sampler.
    resampling_kwargs
        Its options.
    calibrate_skew_normal
        Whether skew-normal p-values are made.
    side
        "both", "left" or "right".
    skew_normal_side_code
        The same as 0, −1 or 1.
    propensity_mode
        "fit", "oracle_const", or a function.
    adaptive
        Draw more where the smallest p is near its floor.

    Returns
    -------
    UnitResult
        Coefficients and p-values for each program, and what became of the propensity and the resamples.

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
    (497, array([0.887, 0.875, 0.004, 0.004]))
    """
    settings = make_settings(
        B=B,
        base_seed=base_seed,
        resampling_method=resampling_method,
        resampling_kwargs=resampling_kwargs,
        skew_normal=calibrate_skew_normal,
        side=one_side(side, skew_normal_side_code),
        propensity_mode=propensity_mode,
        adaptive=adaptive,
    )
    checked_genes([gene], inputs)
    return run_unit(gene, inputs.treated(inputs.gene_to_cols[gene]), inputs, settings)


def run_all_genes_union_crt(
    inputs: CRTInputs,
    genes: Sequence[str] | None = None,
    *,
    B: int = 1023,
    n_jobs: int = 1,
    base_seed: int = 123,
    resampling_method: Method = "bernoulli_index",
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
    resume: bool = True,
    progress: bool = False,
) -> CRTResult:
    """Test every gene: x_i = 1 where cell i carries any of its guides, against redraws of x given the covariates.

    The statistic is the OLS coefficient of x in Y_k ~ x + C, for each program k. An undefined test is NaN with a reason, never p = 1.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    genes
        Which; all by default.
    B
        Resamples. The smallest empirical p is 1/(B + 1).
    n_jobs
        Worker threads; they share the inputs, and results are the same for any number.
    base_seed
        A gene's stream is a function of it and the gene's name only.
    resampling_method
        "bernoulli_index" draws from the propensity; "stratified_perm" permutes within strata. See `SAMPLERS`.
    resampling_kwargs
        Options of the sampler, see `BernoulliIndex` and `StratifiedPermutation`; an unknown one is an error.
    calibrate_skew_normal
        Whether `pvals_df` and the adjusted p-values are the skew-normal ones.
    side
        "both", "left" or "right".
    skew_normal_side_code
        The same as 0, −1 or 1.
    return_raw_pvals
        Also give the matrix of empirical p-values.
    return_skew_normal
        Also give the matrix of skew-normal p-values, and the parameters of their laws.
    propensity_mode
        "fit"; "oracle_const", the share treated for every cell; or a function of (treated, C) that gives one probability a cell.
    adaptive
        Draw again with 4,999 and then 24,999 resamples where a gene's smallest p is at or near its floor; `treated_df` records the stages.
    adjust_method
        "bh" (Benjamini and Hochberg), or "by" (Benjamini and Yekutieli) for any dependence.
    out_dir
        A folder for finished genes, where a later call with the same inputs and settings continues.
    resume
        Whether finished genes found there are used; otherwise they are deleted.
    progress
        Show a bar.

    Returns
    -------
    CRTResult
        Tables of p-values and coefficients.

    Raises
    ------
    InputError
        On unknown genes or options, and where `out_dir` holds another run.

    Notes
    -----
    The conditional randomization test is of Candès et al. 2018, "Panning for gold"; its use with a fitted propensity for CRISPR screens, and the
    skew-normal calibration, of Barry et al. 2021 and 2024 (SCEPTRE).

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> from crt import run_all_genes_union_crt
    >>> result = run_all_genes_union_crt(inputs, B=255)
    >>> result.pvals_df.round(3)
    program  program_0  program_1  program_2  program_3
    target
    GENE0        0.203      0.227      0.602      0.570
    GENE1        0.125      0.238      0.102      0.480
    GENE2        0.254      0.734      0.820      0.535
    GENE3        0.750      0.883      0.113      0.102
    GENE4        0.887      0.875      0.004      0.004
    GENE5        0.613      0.438      0.609      0.828
    """
    settings = make_settings(
        B=B,
        base_seed=base_seed,
        resampling_method=resampling_method,
        resampling_kwargs=resampling_kwargs,
        skew_normal=calibrate_skew_normal or return_skew_normal,
        side=one_side(side, skew_normal_side_code),
        propensity_mode=propensity_mode,
        adaptive=adaptive,
    )
    names = checked_genes(genes, inputs)
    with nullcontext() if out_dir is None else result_folder(out_dir, inputs, settings, resume=resume) as folder:
        found = {} if folder is None else {k: v for k, v in folder.load().items() if k in set(names)}
        todo = [name for name in names if name not in found]
        with tqdm(total=len(names), initial=len(found), disable=None if progress else True, unit="gene") as bar:
            for batch in run_units(todo, lambda g: inputs.treated(inputs.gene_to_cols[g]), inputs, settings, n_jobs=n_jobs):
                if folder is not None:
                    folder.save(batch)
                found.update({unit.name: unit for unit in batch})
                bar.update(len(batch))
    return collect(
        [found[name] for name in names],
        inputs.program_names,
        settings,
        calibrated=calibrate_skew_normal,
        adjust_method=adjust_method,
        with_raw=return_raw_pvals,
        with_skew=return_skew_normal,
    )


def make_settings(
    *,
    B: int,
    base_seed: int,
    resampling_method: str,
    resampling_kwargs: Mapping[str, Any] | None,
    skew_normal: bool,
    side: Side,
    propensity_mode: Propensity,
    adaptive: bool,
    logistic: LogisticSettings | None = None,
) -> UnitSettings:
    """The run's options as settings; the one place where names become a sampler."""
    return UnitSettings(
        n_resamples=B,
        sampler=make_sampler(resampling_method, dict(resampling_kwargs or {})),
        seed=base_seed,
        side=side,
        skew_normal=skew_normal,
        propensity_mode=propensity_mode,
        logistic=logistic or LogisticSettings(),
        stages=STAGES if adaptive else (),
    )


def one_side(side: Side, code: int) -> Side:
    """The side meant by a name and a code, which may not contradict each other."""
    by_code = {value: name for name, value in SIDES.items()}
    if code not in by_code:
        raise InputError(f"skew_normal_side_code is {code!r}; choose −1 (left), 0 (both) or 1 (right).")
    if code == 0 or side == by_code[code]:
        return side
    if side != "both":
        raise InputError(f"side is {side!r} but skew_normal_side_code is {code} ({by_code[code]}). Give one of them.")
    return by_code[code]  # type: ignore[return-value]


def checked_genes(genes: Sequence[str] | None, inputs: CRTInputs) -> list[str]:
    """The genes asked for, each known and named once; all by default."""
    if genes is None:
        return list(inputs.genes)
    names = [genes] if isinstance(genes, str) else [str(g) for g in genes]
    if not names:
        raise InputError("the list of genes to test is empty (--targets). Name some, or leave it out to test all.")
    unknown = [g for g in names if g not in inputs.gene_to_cols]
    if unknown:
        near = difflib.get_close_matches(unknown[0], inputs.genes, n=3)
        hint = f"Near {unknown[0]!r}: {', '.join(near)}." if near else f"The screen has {len(inputs.genes)} genes: {first_few(inputs.genes)}."
        raise InputError(f"no guide targets {first_few(unknown)}. {hint}")
    twice = [str(n) for n, c in zip(*np.unique(names, return_counts=True), strict=True) if c > 1]
    if twice:
        raise InputError(f"genes are asked for twice: {first_few(twice)}. Name each once.")
    return names
