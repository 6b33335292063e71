"""Options that run-crt and diagnose-null share."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from crt.inputs import ControlGroup
from crt.pvalues import Side
from crt.run import Method
from data_prep.errors import InputError
from fatescreen.options.base import Count, Names, ScreenOptions


class CRTOptions(ScreenOptions):
    """What both commands are told of the screen, the sampler and the tests."""

    guide_key: str = Field("guide_assignment", description="key of the guides of each cell, in obsm, layers or a MuData modality")
    guide2gene_key: str = Field("guide2gene", description="uns key of the guide → gene map, a dict or a table")
    usage_key: str = Field("cnmf_usage", description="program usage, in obsm or layers")
    usage: Path | None = Field(None, description="table of program usage, in place of the key: cNMF's usages file, or another CSV or TSV")
    covariates: Names | None = Field(None, description="columns of obs that are the covariates, in place of covar-key")
    batch_key: str = Field("batch", description="batch column of the covariate table")
    transform: Literal["clr", "none"] = Field("clr", description="clr for usage; none takes any outcome as it is")
    targets: Names | None = Field(None, description="genes to test; all by default")
    n_resamples: Count = Field(1023, description="resamples of each target")
    resampling_method: Method = Field("bernoulli_index", description="the sampler")
    stratify_by_batch: bool = Field(True, description="stratified_perm: batches are strata")
    n_bins: Count = Field(20, description="stratified_perm: propensity bins")
    burden_key: str | None = Field(None, description="stratified_perm: covariate to bin as well")
    n_burden_bins: Count = Field(8, description="stratified_perm: bins of that covariate")
    burden_bin_method: Literal["quantile", "uniform"] = Field("quantile", description="stratified_perm: bins of equal numbers of cells, or of equal width")
    control_group: ControlGroup = Field("complement", description="complement at high MOI, ntc_cells at low MOI")
    side: Side = Field("both", description="of the tests")
    propensity_mode: Literal["fit", "oracle_const"] = Field("fit", description="fit, or the treated share for every cell")
    n_jobs: Count = Field(1, description="worker threads; results do not depend on it")

    @model_validator(mode="after")
    def _of_the_sampler(self) -> Self:
        own = ("stratify_by_batch", "n_bins", "burden_key", "n_burden_bins", "burden_bin_method")
        given = [name for name in own if getattr(self, name) != type(self).model_fields[name].default]
        if given and self.resampling_method != "stratified_perm":
            said = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(f"{said}: for --resampling-method stratified_perm; bernoulli_index has no strata.")
        return self

    def sampling(self) -> dict[str, Any]:
        """The sampler and the kind of test, as the library's functions take them."""
        kwargs: dict[str, Any] = {}
        if self.resampling_method == "stratified_perm":
            kwargs = {name: getattr(self, name) for name in ("n_bins", "stratify_by_batch", "batch_key", "burden_key", "n_burden_bins", "burden_bin_method")}
        return {
            "B": self.n_resamples,
            "resampling_method": self.resampling_method,
            "resampling_kwargs": kwargs,
            "side": self.side,
            "propensity_mode": self.propensity_mode,
        }

    def reading(self) -> dict[str, Any]:
        """Where the parts of the screen are, as `prepare_crt_inputs` takes them."""
        return {
            "usage": self.usage,
            "guides": self.guides,
            "guide_map": self.guide_map,
            "covariates": self.covariates,
            "usage_key": self.usage_key,
            "covar_key": self.covar_key,
            "guide_assignment_key": self.guide_key,
            "guide2gene_key": self.guide2gene_key,
            "guide_names_key": self.guide_names_key,
            "batch_key": self.batch_key,
            "transform": self.transform,
            "control_group": self.control_group,
            "ntc_labels": self.ntc_labels,
        }
