"""Runs that are killed at any moment and run again: the same bytes as an uninterrupted run."""

import os
import re
import shutil
import signal

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
    simulate_fate_screen(ScreenDesign(n_cells=300, n_genes=4, guides_per_gene=3, n_days=2), seed=2).adata.write_h5ad(folder / "fates.h5ad")
    make_sceptre_style_synth(N=2000, K=6, n_target_genes=40, guides_per_gene=2, moi_mean=3.0, seed=2).write_h5ad(folder / "usage.h5ad")
    return {
        "fit-hierarchy": ("fit-hierarchy", folder / "fates.h5ad", "--max-steps", 60),
        "run-crt": ("run-crt", folder / "usage.h5ad", "--method", "resample", "--n-resamples", 999, "--skew-normal"),
    }


@pytest.fixture(scope="module")
def undisturbed(jobs, fork_server, tmp_path_factory):
    """Where each command writes, what it leaves there, and how often it changes the disk."""
    found = {}
    for name, arguments in jobs.items():
        out = tmp_path_factory.mktemp("killed") / name
        assert fork_server.run(*arguments, "--out", out, between=0).code == 0  # compiles, whose files would be counted
        shutil.rmtree(out)
        ended = fork_server.run(*arguments, "--out", out, between=0, moment=[0])
        assert ended.code == 0, ended
        found[name] = out, snapshot(out), int(re.search(r"changes of the disk: (\d+)", ended.output)[1])
    return found


FEW = {"fit-hierarchy": (0, 9), "run-crt": (8, 20)}
TRIALS = [pytest.param(name, i, marks=() if i in FEW[name] else pytest.mark.slow, id=f"{name} at {i} of {MOMENTS}") for name in FEW for i in range(MOMENTS + 1)]


@pytest.mark.parametrize(("name", "i"), TRIALS)
def test_killed_and_resumed(name, i, jobs, undisturbed, fork_server):
    """At the first change of the disk, at some in between, and at the last but one twentieth; `MOMENTS` is after the last."""
    out, expected, changes = undisturbed[name]
    shutil.rmtree(out, ignore_errors=True)
    killed = fork_server.run(*jobs[name], "--out", out, between=0, moment=[1 + i * changes // MOMENTS])
    assert changes > 2 * MOMENTS and killed.code == (-signal.SIGKILL if i < MOMENTS else 0), killed
    again = fork_server.run(*jobs[name], "--out", out, between=0)
    assert again.code == 0, again
    assert changed(expected, snapshot(out)) == {}


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("fit-hierarchy", signal.SIGTERM, 143),
        ("run-crt", signal.SIGINT, 130),
        pytest.param("fit-hierarchy", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("run-crt", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_asked_to_stop(name, number, code, jobs, undisturbed, fork_server):
    """No partial results stay, and the next run resumes."""
    out, expected, changes = undisturbed[name]
    shutil.rmtree(out, ignore_errors=True)
    stopped = fork_server.run(*jobs[name], "--out", out, between=0, moment=[changes // 2, number])
    assert stopped.code == code and "Traceback" not in stopped.output, stopped
    kept = snapshot(out)
    assert kept and [path for path in kept if not resumable(path)] == []
    assert fork_server.run(*jobs[name], "--out", out, between=0).code == 0
    assert changed(expected, snapshot(out)) == {}


@pytest.mark.parametrize(
    ("name", "kept", "fix"),
    [("fit-hierarchy", "checkpoint.pt", "Delete it to start again"), ("run-crt", "finished/[!.]*.npz", "Delete it, and its targets are tested again")],
)
def test_damaged_checkpoint_of_a_killed_run(name, kept, fix, jobs, undisturbed, fork_server):
    """The message names the file; after the fix the results are the same."""
    out, expected, changes = undisturbed[name]
    shutil.rmtree(out, ignore_errors=True)
    fork_server.run(*jobs[name], "--out", out, between=0, moment=[changes // 2])
    path = sorted(out.glob(kept))[0]
    path.write_bytes(flipped(path.read_bytes()))
    again = fork_server.run(*jobs[name], "--out", out, between=0)
    assert again.code == 2 and str(path) in again.output and fix in again.output, again
    path.unlink()
    assert fork_server.run(*jobs[name], "--out", out, between=0).code == 0
    assert changed(expected, snapshot(out)) == {}


@pytest.mark.parametrize("name", FEW)
def test_two_runs_into_one_folder(name, jobs, undisturbed, fork_server):
    """The second is refused; the first, which is made to wait for it, does not notice."""
    out, expected, changes = undisturbed[name]
    shutil.rmtree(out, ignore_errors=True)
    first = fork_server.start(*jobs[name], "--out", out, between=0, moment=[changes // 2, signal.SIGSTOP])
    fork_server.wait_until_stopped(first)
    second = fork_server.run(*jobs[name], "--out", out, between=0)
    os.kill(first, signal.SIGCONT)
    assert second.code == 2 and f"another run is writing in {out}" in second.output and "Wait until it ends" in second.output, second
    assert fork_server.wait(first).code == 0
    assert changed(expected, snapshot(out)) == {}
