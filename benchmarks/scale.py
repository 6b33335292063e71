"""Screens of up to ten million cells: time, memory, clusters, lost workers. Each run is a process of its own.

python benchmarks/scale.py screens               write the screens, 4.6 GB
python benchmarks/scale.py crt                   run-crt with --memory by number of cells, and the same in memory up to a million cells
python benchmarks/scale.py fit                   fit-hierarchy likewise
python benchmarks/scale.py cluster               two workers of one thread against one process of one thread, in memory: 12 GiB at 10⁷ cells
python benchmarks/scale.py kill                  a worker killed at five random moments, both commands
python benchmarks/scale.py small --other PATH    small screens against another checkout, alternating

Options of all: --folder for the screens and the results (results/scale), --sizes 1e5,1e6,1e7, --memory 4GiB, --only crt or fit.

Peak memory is that of the largest process of a run, CPU time that of all its processes (wait4). Tables are compared by their bytes.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import crt_common

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {"crt": "run_crt.py", "fit": "fit_hierarchy.py"}
LARGE = {"crt": ("--no-guides-alone", "--no-centred", "--no-report"), "fit": ("--no-report",)}  # options of large screens: the tests or the fit alone
SCREENS = {"crt": "usage", "fit": "fates"}
NOT_COMPARED = ("run.json", "report.html")  # times and versions
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
IN_MEMORY = 1_000_000  # cells: larger screens are not run in memory
KILLS, REPEATS = 5, 5


@dataclass(frozen=True)
class Run:
    """A finished process."""

    code: int
    wall: float
    cpu: float
    peak: float  # GiB
    faults: int

    def row(self) -> list[object]:
        return [f"{self.wall:.1f}", f"{self.cpu:.1f}", f"{self.peak:.2f}", f"{self.faults:,}"]


HEADER = ["wall s", "CPU s", "peak GiB", "page faults"]


def started(arguments, threads: int, root: Path = ROOT) -> subprocess.Popen:
    environment = os.environ | dict.fromkeys(THREADS, str(threads)) | {"PYTHONPATH": str(root)}
    return subprocess.Popen([sys.executable, "-W", "ignore", *map(str, arguments), "--quiet"], env=environment, cwd=root, stdout=subprocess.DEVNULL)


def ended(process: subprocess.Popen, began: float) -> Run:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Run(process.returncode, time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20, used.ru_minflt + used.ru_majflt)


def run(arguments, threads: int, root: Path = ROOT) -> Run:
    began = time.perf_counter()
    found = ended(started(arguments, threads, root), began)
    if found.code:
        sys.exit(f"exit code {found.code} of {' '.join(map(str, arguments))}")
    return found


def command(kind: str, screen: Path, out: Path, *options: object, jobs: int = 1, root: Path = ROOT) -> list[object]:
    shutil.rmtree(out, ignore_errors=True)
    return [root / "scripts" / SCRIPTS[kind], screen, "--out", out, *(["--n-jobs", jobs] if kind == "crt" else []), *options]


def tables(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(out.iterdir()) if p.is_file() and p.name not in NOT_COMPARED}


def same(first: Path, second: Path) -> str:
    one, two = tables(first), tables(second)
    return "yes" if one == two else f"no: {', '.join(sorted(n for n in one.keys() | two.keys() if one.get(n) != two.get(n)))}"


def screen_of(given, kind: str, n: int) -> Path:
    """The screen of this size, written if it is not there."""
    folder = given.folder / f"{SCREENS[kind]}_{n}"
    path = folder / "screen.h5ad"
    if not path.exists():
        make(kind, n, path)
    return path


def make(kind: str, n: int, path: Path) -> Run:
    """Write a screen; of fates with the command, of usage by this file in a process of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fit":
        design = ["--genes", 3000, "--guides-per-gene", 6, "--ntc-guides", 600, "--days", 4, "--moi", 1, "--seed", 1]
        return run([ROOT / "scripts" / "simulate_screen.py", "--out", path.parent, "--cells", n, *design], 1)
    return run([__file__, "usage", "--folder", path, "--sizes", n], 1)


def write_usage(given) -> None:
    from data_prep.simulate.usage import UsageDesign, write_usage_screen

    write_usage_screen(given.folder, UsageDesign(N=given.sizes[0], K=60, n_target_genes=200, guides_per_gene=5, moi_mean=5.0), seed=1)


def screens(given) -> None:
    rows = []
    for kind in given.only:
        for n in given.sizes:
            path = given.folder / f"{SCREENS[kind]}_{n}" / "screen.h5ad"
            found = make(kind, n, path)
            rows.append([SCREENS[kind], f"{n:,}", f"{path.stat().st_size / 2**30:.2f}", *found.row()])
    title = "Screens: fates of 18,600 guides × 3,000 genes × 4 days at MOI 1; usage of 60 programs, 200 targets × 5 guides at MOI 5"
    crt_common.table(title, ["screen", "cells", "file, GiB", *HEADER], rows)


def growth(given, kind: str) -> None:
    """Time and memory by number of cells, within a limit and in memory."""
    rows = []
    for n in given.sizes:
        screen, limited, whole = screen_of(given, kind, n), given.folder / f"{kind}_{n}_limited", given.folder / f"{kind}_{n}"
        found = run(command(kind, screen, limited, *LARGE[kind], "--memory", given.memory, jobs=2), 2)
        rows.append([f"{n:,}", given.memory, *found.row(), f"{found.wall / n * 1e6:.1f}", ""])
        print(*rows[-1], file=sys.stderr, flush=True)
        if n <= IN_MEMORY:
            found = run(command(kind, screen, whole, *LARGE[kind], jobs=2), 2)
            rows.append([f"{n:,}", "none", *found.row(), f"{found.wall / n * 1e6:.1f}", same(limited, whole)])
    crt_common.table(f"{SCRIPTS[kind]}, two threads", ["cells", "--memory", *HEADER, "wall s per 10⁶ cells", "same bytes"], rows)


def whole_size(given) -> int:
    """The largest screen that is run in memory."""
    return max((n for n in given.sizes if n <= IN_MEMORY), default=given.sizes[0])


def cluster(given) -> None:
    """One process of one thread, and two workers of one thread, on the largest screen."""
    rows, n = [], max(given.sizes)
    for kind in given.only:
        screen, alone, spread = screen_of(given, kind, n), given.folder / f"{kind}_alone", given.folder / f"{kind}_spread"
        one = run(command(kind, screen, alone, *LARGE[kind]), 1)
        two = run(command(kind, screen, spread, *LARGE[kind], "--scheduler", "local:2"), 1)
        rows += [[kind, "one process", *one.row(), "", ""], [kind, "two workers", *two.row(), f"{one.wall / two.wall:.2f}×", same(alone, spread)]]
    crt_common.table(f"{n:,} cells, threads of one core each", ["command", "where", *HEADER, "faster", "same bytes"], rows)


def workers_of(pid: int) -> list[int]:
    """The Dask workers of a process: what it has spawned, but for the tracker of multiprocessing."""
    try:
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
        return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except OSError:  # it has just ended
        return []


def kill(given) -> None:
    """A worker is killed at a random moment of the time that workers exist."""
    rows, moments = [], random.Random(0)
    for kind in given.only:
        n = whole_size(given)
        screen, whole, out = screen_of(given, kind, n), given.folder / f"{kind}_whole", given.folder / f"{kind}_killed"
        options = (*LARGE[kind], "--scheduler", "local:2")
        run(command(kind, screen, whole, *options), 1)
        undisturbed = run(command(kind, screen, whole, *options), 1)  # after all loops are compiled
        for _ in range(KILLS):
            began = time.perf_counter()
            process = started(command(kind, screen, out, *options), 1)
            while len(workers_of(process.pid)) < 2 and process.poll() is None:
                time.sleep(0.05)
            appeared = time.perf_counter() - began
            wait = moments.uniform(0.0, max(0.0, undisturbed.wall - appeared))
            time.sleep(wait)
            found = workers_of(process.pid)
            if found:
                os.kill(moments.choice(found), signal.SIGKILL)
            done = ended(process, began)
            outcome = same(whole, out) if done.code == 0 else f"exit code {done.code}"
            rows.append([kind, f"{appeared + wait:.1f}", "yes" if found else "no, it had ended", f"{undisturbed.wall:.1f}", f"{done.wall:.1f}", outcome])
    crt_common.table(f"{n:,} cells, --scheduler local:2", ["command", "moment, s", "killed", "undisturbed, s", "with the loss, s", "same bytes"], rows)


def small(given) -> None:
    """CPU and wall seconds of this checkout and of another one, alternating; the minimum of the repeats."""
    rows = []
    for kind in given.only:
        for n in (20_000, 100_000):
            screen, found = screen_of(given, kind, n), {ROOT: [], given.other: []}
            for repeat in range(1 + REPEATS):
                for root, runs in found.items():
                    one = run(command(kind, screen, given.folder / "small", root=root), 1, root)
                    runs += [one] if repeat else []  # the first compiles
            cpu, wall = ([min(getattr(one, name) for one in runs) for runs in found.values()] for name in ("cpu", "wall"))
            rows.append([kind, f"{n:,}", *(f"{t:.2f}" for t in (*cpu, *wall)), f"{cpu[0] / cpu[1]:.3f}"])
    header = ["command", "cells", "CPU s, here", "CPU s, other", "wall s, here", "wall s, other", "CPU, here / other"]
    crt_common.table(f"Small screens, one thread, minimum of {REPEATS}", header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["screens", "crt", "fit", "cluster", "kill", "small", "usage"])
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "scale")
    parser.add_argument("--sizes", type=lambda text: [int(float(n)) for n in text.split(",")], default=[10**5, 10**6, 10**7])
    parser.add_argument("--memory", default="4GiB")
    parser.add_argument("--only", type=lambda text: [text], default=["crt", "fit"], choices=[["crt"], ["fit"]])
    parser.add_argument("--other", type=lambda text: Path(text).resolve(), help="another checkout")
    parser.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder = given.folder.resolve()
    if given.task == "small" and given.other is None:
        parser.error("small needs --other, the path of another checkout")
    tasks = {"screens": screens, "cluster": cluster, "kill": kill, "small": small, "usage": write_usage}
    if given.task in tasks:
        tasks[given.task](given)
    else:
        growth(given, given.task)


if __name__ == "__main__":
    main()
