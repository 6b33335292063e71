"""Options of run-crt."""

from typing import Any, Self

from pydantic import Field, model_validator

from crt.settings import Method, Statistic
from data_prep.errors import InputError
from fatescreen.options.base import Resume, Screen, Seed
from fatescreen.options.crt import UNITS, CRTOptions


class RunCRTOptions(CRTOptions):
    """Test which target genes shift which programs, by conditional randomization."""

    screen: Screen
    method: Method = Field(UNITS.method, description="how p-values are computed: from resamples, or by saddlepoint approximation without resamples")
    statistic: Statistic = Field(
        UNITS.statistic, description="with --method saddlepoint: test the outcome itself (mean), the normal scores of its residuals, or both (cauchy)"
    )
    adaptive: bool = Field(False, description="whether small p-values are computed again with more resamples (4,999, then 24,999)")
    skew_normal: bool = Field(UNITS.skew_normal, description="whether skew-normal p-values are computed")
    resume: Resume = True
    seed: Seed = UNITS.seed

    @model_validator(mode="after")
    def _method_has_it(self) -> Self:
        of_resamples = ("n_resamples", "adaptive", "skew_normal")
        given = [name for name in of_resamples if getattr(self, name) != type(self).model_fields[name].default]
        if given and self.method == "saddlepoint":
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(f"{names} contradicts --method saddlepoint, which has no resamples. Leave one of them out.")
        if self.statistic != "mean" and self.method == "resample":
            raise InputError(f"--statistic {self.statistic} contradicts --method resample, which tests the mean only. Add --method saddlepoint.")
        return self

    def testing(self) -> dict[str, Any]:
        """The sampler, the kind of test and the p-values, as arguments of `run_all_genes_union_crt`."""
        own = {"calibrate_skew_normal": self.skew_normal, "adaptive": self.adaptive, "method": self.method, "statistic": self.statistic}
        return self.sampling() | own
