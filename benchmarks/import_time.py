"""How long the commands take to answer --help, --version and wrong options, and what they import for it.

`python benchmarks/import_time.py` prints a row for each command and answer, and for the packages; with `python benchmarks/import_time.py run-crt`, the
modules that take longest to import (`python -X importtime`).
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
HEAVY = ("torch", "pyro", "numba", "scipy", "pandas", "anndata", "matplotlib", "pyarrow")
LIMIT = 0.7  # seconds of CPU time


def times(code, *args):
    """CPU seconds, and the microseconds and names of all modules that a fresh process imports; the fastest of three."""
    found = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([sys.executable, "-X", "importtime", "-c", code, *args], cwd=ROOT, capture_output=True, text=True)
        after = os.times()
        modules = [(int(total), name.strip()) for total, name in re.findall(r"^import time:\s+\d+ \|\s+(\d+) \|(.*)$", done.stderr, re.MULTILINE)]
        found.append((after.children_user - before.children_user + after.children_system - before.children_system, modules))
    return min(found)


def start(command, answer):
    module, _, function = COMMANDS[command].partition(":")
    return times(f"import sys; sys.argv[0] = '{command}'; from {module} import {function}; {function}()", answer)


def main(chosen):
    for command in chosen:
        for total, name in sorted(start(command, "--version")[1], reverse=True)[:25]:
            print(f"{total / 1e3:8.1f} ms  {name}")
    if chosen:
        return 0
    print("| process | CPU (s) | modules | heavy |\n|---|---|---|---|")
    slow = False
    rows = [(f"{command} {answer}", start(command, answer)) for command in COMMANDS for answer in ("--help", "--version", "--wrong")]
    rows += [(f"import {package}", times(f"import {package}")) for package in ("data_prep", "hierarchy", "crt", "fatescreen")]
    for name, (seconds, modules) in rows:
        heavy = [module for module in HEAVY if module in {found for _, found in modules}]
        slow |= seconds > LIMIT or bool(heavy)
        print(f"| `{name}` | {seconds:.2f} | {len(modules)} | {', '.join(heavy) or '–'} |", flush=True)
    return int(slow)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
