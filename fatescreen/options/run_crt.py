"""Options of run-crt."""

from pathlib import Path

from pydantic import Field

from fatescreen.options.base import ARGUMENT, SCREEN, Seed
from fatescreen.options.crt import CRTOptions


class RunCRTOptions(CRTOptions):
    """Options of run-crt."""

    screen: Path = Field(description=SCREEN, json_schema_extra=ARGUMENT)
    adaptive: bool = Field(False, description="draw more (4,999, then 24,999) where p is small")
    skew_normal: bool = Field(False, description="skew-normal p-values")
    resume: bool = Field(True, description="go on from the finished targets in the folder")
    seed: Seed = Field(123, description="of every random draw")
