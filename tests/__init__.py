"""Tests, in the rooms of what they test; `robustness` holds those of whole commands under bad inputs, faults and kills."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ORACLES = ROOT / "tests" / "oracles"
GOLDEN = ROOT / "tests" / "golden"
