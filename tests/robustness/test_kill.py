"""Runs that are killed at any moment, then run again: the same bytes as a run that was left alone."""

import os
import random
import shutil
import signal
import time

import pytest

from crt import make_sceptre_style_synth
from data_prep import ScreenDesign, simulate_fate_screen
from tests.commands import changed, resumable, snapshot
from tests.robustness.cases_files import flipped

MOMENTS = 20


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """A command line of each command that resumes, with work for about a second."""
    folder = tmp_path_factory.mktemp("jobs")
    simulate_fate_screen(ScreenDesign(n_cells=800, n_genes=8, guides_per_gene=3, n_days=3), seed=2).adata.write_h5ad(folder / "fates.h5ad")
    make_sceptre_style_synth(N=2000, K=6, n_target_genes=40, guides_per_gene=2, moi_mean=3.0, seed=2).write_h5ad(folder / "usage.h5ad")
    return {
        "fit-hierarchy": ("fit-hierarchy", folder / "fates.h5ad", "--max-steps", 60),
        "run-crt": ("run-crt", folder / "usage.h5ad", "--n-resamples", 999, "--skew-normal"),
    }


@pytest.fixture(scope="module")
def undisturbed(jobs, nursery, tmp_path_factory):
    """Where each command writes, what it leaves there, and how long it takes."""
    found = {}
    for name, words in jobs.items():
        out = tmp_path_factory.mktemp("killed") / name
        for _ in range(2):  # the first also compiles
            shutil.rmtree(out, ignore_errors=True)
            began = time.monotonic()
            assert nursery.run(*words, "--out", out, between=0).code == 0
            seconds = time.monotonic() - began
        found[name] = out, snapshot(out), seconds
    return found


def moments(name, chosen):
    """Shares of a run, one at random in each twentieth; the last twentieth lies beyond its end, as runs differ."""
    rng = random.Random(name)
    return [round((i + rng.random()) * 1.05 / MOMENTS, 3) for i in range(MOMENTS) if i in chosen]


FEW = {"fit-hierarchy": (4, 10, 14, 18), "run-crt": (5, 9, 15, 18)}
TRIALS = [
    pytest.param(name, share, marks=() if i in FEW[name] else pytest.mark.slow, id=f"{name} at {share}")
    for name in FEW
    for i, share in zip(range(MOMENTS), moments(name, range(MOMENTS)), strict=True)
]


@pytest.mark.parametrize(("name", "share"), TRIALS)
def test_killed_and_resumed(name, share, jobs, undisturbed, nursery):
    out, whole, seconds = undisturbed[name]
    shutil.rmtree(out, ignore_errors=True)
    pid = nursery.start(*jobs[name], "--out", out, between=0)
    time.sleep(share * seconds)
    os.kill(pid, signal.SIGKILL)
    killed = nursery.wait(pid)
    assert killed.code in (-signal.SIGKILL, 0), killed
    again = nursery.run(*jobs[name], "--out", out, between=0)
    assert again.code == 0, again
    assert changed(whole, snapshot(out)) == {}


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop(name, number, code, jobs, undisturbed, nursery):
    """Nothing partial stays, and it goes on from there."""
    out, whole, seconds = undisturbed[name]
    shutil.rmtree(out, ignore_errors=True)
    pid = nursery.start(*jobs[name], "--out", out, between=0)
    while not (out / "checkpoint.pt").exists() and not list(out.glob("finished/[!.]*.npz")):
        time.sleep(0.005)
    os.kill(pid, number)
    stopped = nursery.wait(pid)
    assert stopped.code == code and "Traceback" not in stopped.said, stopped
    assert [path for path in snapshot(out) if not resumable(path)] == []
    assert nursery.run(*jobs[name], "--out", out, between=0).code == 0
    assert changed(whole, snapshot(out)) == {}


@pytest.mark.parametrize(
    ("name", "kept", "mend"),
    [("fit-hierarchy", "checkpoint.pt", "Delete it to start again"), ("run-crt", "finished/[!.]*.npz", "Delete it, and its targets are tested again")],
)
def test_what_a_killed_run_kept_is_damaged(name, kept, mend, jobs, undisturbed, nursery):
    """It is said, and after the mend the answer is the same."""
    out, whole, seconds = undisturbed[name]
    shutil.rmtree(out, ignore_errors=True)
    pid = nursery.start(*jobs[name], "--out", out, between=0)
    while not list(out.glob(kept)):
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    nursery.wait(pid)
    path = sorted(out.glob(kept))[0]
    path.write_bytes(flipped(path.read_bytes()))
    again = nursery.run(*jobs[name], "--out", out, between=0)
    assert again.code == 2 and str(path) in again.said and mend in again.said, again
    path.unlink()
    assert nursery.run(*jobs[name], "--out", out, between=0).code == 0
    assert changed(whole, snapshot(out)) == {}


@pytest.mark.parametrize("name", FEW)
def test_two_runs_into_one_folder(name, jobs, undisturbed, nursery):
    """The second is refused; the first does not notice."""
    out, whole, _ = undisturbed[name]
    shutil.rmtree(out, ignore_errors=True)
    first = nursery.start(*jobs[name], "--out", out, between=0)
    while not (out / ".lock").exists():
        time.sleep(0.002)
    second = nursery.run(*jobs[name], "--out", out, between=0)
    assert second.code == 2 and f"another run is writing in {out}" in second.said and "Wait until it ends" in second.said, second
    assert nursery.wait(first).code == 0
    assert changed(whole, snapshot(out)) == {}
