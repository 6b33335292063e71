"""Options of run-crt."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fatescreen.options.base import Names, Resume, Screen, Seed
from fatescreen.options.crt import RESAMPLES, UNITS, CRTOptions


class RunCRTOptions(CRTOptions):
    """Test which target genes shift which programs, by conditional randomization."""

    screen: Screen
    programs: Names | None = Field(None, description="programs to test, after the transformation of all that are read; all programs if not given")
    unit: Literal["gene", "guide"] = Field("gene", description="what is tested: all guides of a gene together, or each guide by itself")
    adaptive: bool = Field(False, description=f"{RESAMPLES}whether small p-values are computed again with more resamples (4,999, then 24,999)")
    skew_normal: bool = Field(UNITS.skew_normal, description=f"{RESAMPLES}whether skew-normal p-values are computed")
    centred: bool = Field(
        True, description="with --transform clr: whether hits are tested again after the gene's median effect is subtracted: one test for each gene with hits"
    )
    guides_alone: bool = Field(True, description="whether the guides of each gene are tested one by one, and hits without one guide each")
    check_calibration: bool = Field(
        False, description="whether NTC groups are tested with the same settings, for QQ plots, a verdict, and p-values relative to them (p_ntc)"
    )
    positive_controls: Path | None = Field(None, description="CSV of known effects, target and program, whose p-values and ranks are reported")
    resume: Resume = None
    seed: Seed = UNITS.seed

    def reading(self) -> dict[str, Any]:
        """Where the parts of the screen are and which programs are tested, as arguments of `prepare_crt_inputs`."""
        return {**super().reading(), "programs": self.programs}

    def testing(self) -> dict[str, Any]:
        """The sampler, the kind of test and the p-values, as arguments of `run_all_genes_union_crt`."""
        return self.further() | {"calibrate_skew_normal": self.skew_normal, "unit": self.unit}

    def further(self) -> dict[str, Any]:
        """The options that the further tests of a run's hits share with it."""
        return self.sampling() | {"adaptive": self.adaptive, "method": self.method, "base_seed": self.seed}
