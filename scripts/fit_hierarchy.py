"""Run `fit_hierarchy` from a checkout: python scripts/fit_hierarchy.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.console import run  # noqa: E402
from hierarchy.cli import fit_hierarchy  # noqa: E402

if __name__ == "__main__":
    run(fit_hierarchy)
