"""Run `simulate_screen` from a checkout: python scripts/simulate_screen.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.console import run  # noqa: E402
from data_prep.cli import simulate_screen  # noqa: E402

if __name__ == "__main__":
    run(simulate_screen)
