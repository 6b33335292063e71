"""Calibration of the standard errors: coverage, false calls and RMSE of the daywise effects on many kinds of simulated screens.

python benchmarks/hierarchy_calibration.py [seeds]   medians over the seeds; by default 20,000 cells, 100 genes × 6 guides, 4 days, 3 fates, MOI 5.5
"""

import sys

import numpy as np
from common import quiet, trial

from data_prep import ScreenDesign

KINDS = {
    "drawn from the model": {"effects": "model"},
    "drawn from the model, one-hot": {"effects": "model", "concentration": None},
    "day-local, precision 5": {"concentration": 5.0},
    "day-local, precision 50": {},
    "day-local, precision 500": {"concentration": 500.0},
    "day-local, one-hot": {"concentration": None},
    "1–12 guides per gene": {"guides_per_gene": (1, 12)},
    "few cells (2 %) on the last day": {"day_weights": (1.0, 1.0, 1.0, 0.06)},
    "MOI 1": {"moi": 1.0},
    "MOI 10": {"moi": 10.0},
    "2 fates": {"fates": ("EC", "MES")},
    "5 fates": {"fates": ("EC", "MES", "NEU", "MUS", "SKIN")},
    "1 day": {"n_days": 1},
    "2 days": {"n_days": 2},
    "8 days": {"n_days": 8},
}


def main(n_seeds):
    """Print one row for each kind of screen."""
    quiet()
    print("| screen | coverage of 90 %, all | nulls | nulls with abs(z) > 1.96 | RMSE | median SE | SE last / first day | w | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, options in KINDS.items():
        rows = []
        for seed in range(n_seeds):
            t = trial(ScreenDesign(**options), seed=seed)
            rows.append([t.coverage(), t.coverage(t.null), t.null_calls(), t.rmse(), np.median(t.sd), t.se_ratio(), t.fitted.weight, t.fitted.seconds])
        a = np.median(rows, 0)
        print(f"| {name} | {a[0]:.3f} | {a[1]:.3f} | {100 * a[2]:.1f} % | {a[3]:.4f} | {a[4]:.4f} | {a[5]:.2f} | {a[6]:.4g} | {a[7]:.2f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
