"""Tests, in the rooms of what they test; `robustness` holds those of whole commands under bad inputs, faults and kills."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORACLES = ROOT / "tests" / "oracles"
GOLDEN = ROOT / "tests" / "golden"


def skip(reason: str) -> None:
    """Skip a test for what this machine lacks; where all must run (FATESCREEN_TESTS=all, as in CI), that is a failure."""
    (pytest.fail if os.environ.get("FATESCREEN_TESTS") == "all" else pytest.skip)(reason)
