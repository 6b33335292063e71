"""Options that run-crt and diagnose-null share."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from crt.sampling.methods import ResamplingMethod, StratifiedPermutation
from crt.settings import ControlGroup, Method, MultipleGuides, Side, UnitSettings, settings_of
from data_prep.errors import InputError
from fatescreen.options.base import Count, GuideKey, Memory, Names, Scheduler, ScreenOptions

UNITS, STRATA = UnitSettings(), StratifiedPermutation()
RESAMPLES = "with --method resample: "
STRATIFIED = "with --resampling-method stratified_perm: "


class CRTOptions(ScreenOptions):
    """Where the parts of the screen are, the sampler and the tests."""

    guide_key: GuideKey = "guide_assignment"
    guide2gene_key: str = Field("guide2gene", description="uns key of the guide → gene map, a dict or a table")
    usage_key: str = Field("cnmf_usage", description="key of the program usage, in obsm or layers")
    usage: Path | None = Field(None, description="table of program usage, used instead of --usage-key: cNMF's usages file, or another CSV or TSV")
    outcomes: Names | None = Field(
        None, description="outcomes to read by name: columns of --usage or --usage-key, columns of obs, or genes if --usage-key is a layer; all if not given"
    )
    covariates: Names | None = Field(None, description="columns of obs to use as covariates, instead of --covar-key")
    formula: str | None = Field(
        None, description="formula of the design, such as '~ batch + log(n_umis) * phase', with columns of --covar-key or of obs, instead of --covariates"
    )
    batch_key: str = Field("batch", description="batch column of the covariate table")
    transform: Literal["clr", "none"] = Field("clr", description="transformation of the outcomes: centred log-ratio (clr) for usage, none for other outcomes")
    targets: Names | None = Field(None, description="genes to test; all genes if not given")
    method: Method = Field("saddlepoint", description="how p-values are computed: by saddlepoint approximation, without resamples; or from resamples")
    statistic: Literal["mean", "normal-scores", "cauchy"] = Field(
        "cauchy", description="what is tested: the outcome itself (mean), the normal scores of its residuals, or both (cauchy)"
    )
    n_resamples: Count = Field(UNITS.n_resamples, description=f"{RESAMPLES}number of resamples per target")
    resampling_method: ResamplingMethod = Field("bernoulli_index", description="sampler that draws the resamples")
    stratify_by_batch: bool = Field(STRATA.stratify_by_batch, description=f"{STRATIFIED}whether batches are strata")
    n_bins: Count = Field(STRATA.n_bins, description=f"{STRATIFIED}number of propensity bins")
    burden_key: str | None = Field(None, description=f"{STRATIFIED}covariate that is binned in addition to the propensity")
    n_burden_bins: Count = Field(STRATA.n_burden_bins, description=f"{STRATIFIED}number of bins of that covariate")
    burden_bin_method: Literal["quantile", "uniform"] = Field(
        STRATA.burden_bin_method, description=f"{STRATIFIED}bins with equal numbers of cells, or of equal width"
    )
    control_group: ControlGroup = Field(
        "complement", description="control cells: all other cells (complement, at high MOI), or cells with NTC guides only (ntc_cells, at low MOI)"
    )
    multiple_guides: MultipleGuides | None = Field(
        None, description="cells that carry guides of several genes: tested (keep, default with the complement) or left out (drop, default with ntc_cells)"
    )
    burden: Literal["none", "others"] = Field(
        "none", description="whether the number of other guides in the cell, those of the tested unit left out, is a covariate"
    )
    min_treated: Count = Field(7, description="minimum number of treated cells of a tested unit")
    min_control: Count = Field(7, description="minimum number of control cells of a tested unit")
    side: Side = Field(UNITS.side, description="alternative hypothesis")
    propensity_mode: Literal["fit", "oracle_const"] = Field("fit", description="propensity: fitted to the covariates, or the proportion of treated cells")
    propensity_penalty: float = Field(
        UNITS.logistic.penalty, ge=0, allow_inf_nan=False, description="penalty of the propensity fit, on the variance of the linear predictor"
    )
    n_jobs: Count = Field(1, description="number of worker threads; the results do not depend on it")
    device: str = Field("cpu", description="device for the sums over cells: cpu, cuda, or auto (cuda where there is one)")
    memory: Memory = None
    scheduler: Scheduler = None

    @model_validator(mode="after")
    def _only_stratified(self) -> Self:
        own = ("stratify_by_batch", "n_bins", "burden_key", "n_burden_bins", "burden_bin_method")
        given = [name for name in own if getattr(self, name) != type(self).model_fields[name].default]
        if given and self.resampling_method != "stratified_perm":
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(f"{names}: only with --resampling-method stratified_perm; bernoulli_index has no strata.")
        return self

    @model_validator(mode="after")
    def _only_resamples(self) -> Self:
        own = ("n_resamples", "adaptive", "skew_normal")
        given = [name for name, field in type(self).model_fields.items() if name in own and getattr(self, name) != field.default]
        if given and self.method == "saddlepoint":
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(f"{names} contradicts --method saddlepoint (the default), which has no resamples. Add --method resample, or leave {names} out.")
        return self

    @model_validator(mode="after")
    def _settings(self) -> Self:
        settings_of({**self.sampling(), "base_seed": 0, "method": self.method})
        return self

    def sampling(self) -> dict[str, Any]:
        """The sampler and the kind of test, as arguments of the library's functions."""
        strata = {"n_bins", "stratify_by_batch", "batch_key", "burden_key", "n_burden_bins", "burden_bin_method"}
        return {
            "B": self.n_resamples,
            "resampling_method": self.resampling_method,
            "resampling_kwargs": self.model_dump(include=strata) if self.resampling_method == "stratified_perm" else {},
            "side": self.side,
            "propensity_mode": self.propensity_mode,
            "propensity_penalty": self.propensity_penalty,
            "statistic": self.statistic.replace("-", "_"),
            "min_treated": self.min_treated,
            "min_control": self.min_control,
        }

    def reading(self) -> dict[str, Any]:
        """Where the parts of the screen are, as arguments of `prepare_crt_inputs`."""
        same = {"usage", "outcomes", "guides", "guide_map", "covariates", "formula", "usage_key", "covar_key", "guide2gene_key", "guide_names_key", "batch_key"}
        return self.model_dump(include=same | {"min_umi", "transform", "control_group", "ntc_labels", "multiple_guides", "burden"}) | {
            "guide_assignment_key": self.guide_key
        }
