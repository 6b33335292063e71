"""Run all benchmarks (`make bench`), or those named: python benchmarks/run_all.py hierarchy_speed crt_speed"""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
COMMANDS = (
    ("hierarchy_speed", "ratio"),
    ("hierarchy_speed", "longer"),
    ("hierarchy_speed", "growth"),
    ("hierarchy_calibration", "10"),
    ("hierarchy_families", "laplace"),
    ("hierarchy_families", "sbc"),
    ("hierarchy_families", "table"),
    ("hierarchy_sandwich",),
    ("hierarchy_centring",),
    ("mash_speed",),
    ("hits_calibration",),
    ("crt_speed",),
    ("crt_growth",),
    ("crt_calibration",),
    ("crt_power",),
    ("crt_hidden",),
    ("crt_detectable",),
    ("crt_moi",),
    ("null_confusion",),
    ("null_burden",),
    ("null_cost",),
    ("reading_memory",),
    ("import_time",),
    ("crt_tables",),
)


def main(chosen):
    """Run the chosen benchmarks, or all; exit with the code of the first failure."""
    for name, *args in COMMANDS:
        if chosen and name not in chosen:
            continue
        print(f"\n## python benchmarks/{name}.py {' '.join(args)}\n", flush=True)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-W", "ignore", HERE / f"{name}.py", *args])
        if done.returncode:
            sys.exit(done.returncode)
        print(f"\n({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main(set(sys.argv[1:]))
