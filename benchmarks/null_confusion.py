"""Accuracy of the verdict of the null diagnostics, on screens with a known cause of miscalibration and on calibrated ones.

    python benchmarks/null_confusion.py [tuning|scoring=scoring] [resample|saddlepoint=resample] [seeds=20] [first seed=0]

Thresholds are set on the kinds of screens for tuning; those for scoring differ from them in causes, sizes or parameters. Most screens have 3,000 cells, 12
programs, 20 genes with 3 guides and 45 NTC guides; 4 partitions of the NTC guides; B = 499 with skew-normal calibration, or no resamples and the statistic
"cauchy". A verdict is correct if it names the cause and no other.
"""

import sys
import time
from collections import Counter

import crt_common
from null_screens import SCORING, TUNING, make

from crt import diagnose_null

LABELS = ("calibrated", "inconclusive", "A", "B", "C", "D", "unexplained", "several")


def main(kinds: str, method: str, seeds: int, first: int) -> None:
    """Print one row per kind of screen and one column per verdict."""
    rows, start, right, total = [], time.process_time(), 0, 0
    for name, kind in (TUNING if kinds == "tuning" else SCORING).items():
        truth = kind.exact or kind.truth if method == "saddlepoint" else kind.truth
        got: Counter[str] = Counter()
        for seed in range(first, first + seeds):
            settings = kind.saddlepoint(seed) if method == "saddlepoint" else kind.settings(seed)
            found = diagnose_null(make(kind.plan, seed), settings, group_size=kind.group_size, n_ensemble=4)
            got[found.verdict.label if found.verdict.label in LABELS else "several"] += 1
        right, total = right + got[truth], total + seeds
        rows.append([name, truth, *(got[label] or "" for label in LABELS), f"{100 * got[truth] / seeds:.0f} %"])
    crt_common.table(
        f"{kinds}, {method}: verdicts over {seeds} seeds from {first} ({right} of {total} correct; {time.process_time() - start:.0f} s)",
        ["screen", "truth", *LABELS, "correct"],
        rows,
    )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    texts, numbers = arguments[:2], [int(a) for a in arguments[2:]]
    main(*texts, *("scoring", "resample")[len(texts) :], *numbers, *(20, 0)[len(numbers) :])
