"""Versions of what results may depend on."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("fatescreen", "torch", "pyro-ppl", "numpy", "pandas", "scipy", "numba", "anndata")


def versions() -> dict[str, str | None]:
    """Version of each package, and of Python."""
    return {name: installed(name) for name in PACKAGES} | {"python": platform.python_version()}


def installed(name: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
