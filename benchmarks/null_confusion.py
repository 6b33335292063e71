"""Accuracy of the verdict of the null diagnostics, on screens with a known cause of miscalibration and on calibrated ones.

    python benchmarks/null_confusion.py [seeds=20] [first seed=0]

Each screen has 3,000 cells, 8 programs and 20 genes with 3 guides; 4 partitions of the NTC guides, B = 499. A verdict is correct if it names the cause and no other.
"""

import sys
import time
from collections import Counter

import crt_common
from null_screens import KINDS, make

from crt import diagnose_null

LABELS = ("calibrated", "A", "B", "C", "D", "unexplained", "several")


def main(seeds: int, first: int) -> None:
    """Print one row per kind of screen and one column per verdict."""
    rows, start, right, total = [], time.process_time(), 0, 0
    for name, kind in KINDS.items():
        got: Counter[str] = Counter()
        for seed in range(first, first + seeds):
            found = diagnose_null(make(kind.plan, seed), kind.settings(seed), group_size=kind.group_size, n_ensemble=4)
            got[found.verdict.label if found.verdict.label in LABELS else "several"] += 1
        right, total = right + got[kind.truth], total + seeds
        rows.append([name, kind.truth, *(got[label] or "" for label in LABELS), f"{100 * got[kind.truth] / seeds:.0f} %"])
    crt_common.table(
        f"verdicts over {seeds} seeds from {first} ({right} of {total} correct; {time.process_time() - start:.0f} s)",
        ["screen", "truth", *LABELS, "correct"],
        rows,
    )


if __name__ == "__main__":
    arguments = [int(a) for a in sys.argv[1:]]
    main(*arguments, *(20, 0)[len(arguments) :])
