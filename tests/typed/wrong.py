"""Calls whose types are wrong: `mypy --strict` must find each, or it reports an unused `type: ignore`. They are not run."""

import crt
import data_prep
import hierarchy


def wrong_settings() -> None:
    """Values of other types than the settings have."""
    hierarchy.FitSettings(seed="one")  # type: ignore[arg-type]
    crt.UnitSettings(side="up")  # type: ignore[arg-type]


def names_that_are_not_public() -> None:
    """Names of modules below a package are not names of the package."""
    crt.run_units  # type: ignore[attr-defined]  # noqa: B018
    data_prep.Fit  # type: ignore[attr-defined]  # noqa: B018
