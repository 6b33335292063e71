"""Options of run-crt."""

from pydantic import Field

from fatescreen.options.base import Resume, Screen, Seed
from fatescreen.options.crt import UNITS, CRTOptions


class RunCRTOptions(CRTOptions):
    """Test which target genes shift which programs, by conditional randomization."""

    screen: Screen
    adaptive: bool = Field(False, description="whether small p-values are computed again with more resamples (4,999, then 24,999)")
    skew_normal: bool = Field(UNITS.skew_normal, description="whether skew-normal p-values are computed")
    resume: Resume = True
    seed: Seed = UNITS.seed
