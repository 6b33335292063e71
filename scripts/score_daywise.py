"""Run `score` from a checkout: python scripts/score_daywise.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.console import run  # noqa: E402
from hierarchy.cli import score  # noqa: E402

if __name__ == "__main__":
    run(score)
