"""A full disk, a read-only folder, a failing write: the folder holds either all old or all new results and nothing else."""

import errno
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from data_prep.errors import InputError
from fatescreen.runs.folder import run_folder
from tests.commands import changed, command, resumable, snapshot
from tests.robustness.inputs import Workspace

NOBODY = 65534


def assert_one_message(ended, *parts):
    """Code 2 and one message."""
    assert ended.code == 2 and ended.output.count("error: ") == 1 and "Traceback" not in ended.output, ended
    assert [part for part in parts if part not in ended.output] == [], ended


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("fit-hierarchy", 3000),
        ("run-crt", 200),
        ("score-daywise", 200),
        pytest.param("fit-hierarchy", 200, marks=pytest.mark.slow),
        pytest.param("run-crt", 3000, marks=pytest.mark.slow),
        pytest.param("diagnose-null", 3000, marks=pytest.mark.slow),
    ],
)
def test_files_may_not_grow(name, largest, valid_inputs, fork_server, tmp_path):
    """As on a full disk: every write beyond a size fails."""
    workspace = Workspace(valid_inputs, tmp_path, name)
    before = snapshot(tmp_path)
    more = {"fit-hierarchy": ["--seed", 5], "run-crt": ["--no-resume", "--seed", 5], "diagnose-null": ["--seed", 5], "score-daywise": ["--level", 0.8]}
    for out in (workspace.out, tmp_path / "new"):
        ended = fork_server.run(name, *workspace.valid_arguments(), *more.get(name, []), "--out", out, largest_file=largest)
        assert_one_message(ended, "or choose another folder with --out")
        assert changed(before, snapshot(tmp_path)) == {}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["fit-hierarchy", "run-crt", "simulate-screen"])
def test_full_disk(name, valid_inputs, small_disk):
    filling = small_disk / "filling"
    out = small_disk / "out"
    for free in (0, 4096, 16384):
        filling.write_bytes(b"")
        with filling.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        os.truncate(filling, max(0, filling.stat().st_size - free))
        before = snapshot(small_disk)
        done = command(name, *valid_inputs.arguments(name), "--out", out)
        assert done.code == 2 and done.err.count("error: ") == 1, done
        assert "No space left" in done.err and "Free some space" in done.err or "or choose another folder with --out" in done.err.lower(), done
        assert out.exists() is any(map(resumable, snapshot(out)))
        assert [path for path in snapshot(out) if not resumable(path)] == []
        shutil.rmtree(out, ignore_errors=True)
        assert changed(before, snapshot(small_disk)) == {}


@pytest.fixture
def readable(tmp_path):
    """A user who may read and run, and write nowhere: another one where we are root, else ourselves."""
    folder = tmp_path
    opened = []
    while folder != folder.parent:  # pytest's folders are for their owner alone
        mode = stat.S_IMODE(folder.stat().st_mode)
        if folder.owner() == Path.home().owner() and mode & 0o055 != 0o055:
            folder.chmod(mode | 0o055)
            opened.append((folder, mode))
        folder = folder.parent
    yield NOBODY if os.geteuid() == 0 else None
    for folder, mode in opened:
        folder.chmod(mode)


def test_no_right_to_write(valid_inputs, fork_server, readable, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, "simulate-screen")
    before = snapshot(tmp_path)
    for folder in (workspace.out, workspace.inputs):
        folder.chmod(0o555)
    for out in (workspace.out, workspace.inputs / "new" / "deeper"):
        assert_one_message(
            fork_server.run("simulate-screen", *workspace.valid_arguments(), "--out", out, user=readable),
            str(out),
            "Permission denied",
            "Choose another folder. Option: --out",
        )
    assert changed(before, snapshot(tmp_path)) == {}
    for folder in (workspace.out, workspace.inputs):
        folder.chmod(0o755)


@pytest.mark.parametrize("option", ["SCREEN", "--guide-map", "--cache", "--config"])
def test_no_right_to_read(option, valid_inputs, fork_server, readable, tmp_path):
    closed, out = tmp_path / "closed", tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    shutil.copy(valid_inputs.files / "fates.h5ad", closed)
    screen = shutil.copy(valid_inputs.files / "fates.h5ad", tmp_path / "fates.h5ad")
    closed.chmod(0)
    before = {name: None for name in snapshot(out)}
    arguments = [closed] if option == "SCREEN" else [screen, option, closed]
    assert_one_message(fork_server.run("fit-hierarchy", *arguments, "--out", out, user=readable), str(closed))
    assert snapshot(out) == before


class Faults:
    """The n-th call that changes the disk fails; with `dead`, so do all after it, as if the process had been killed there."""

    def __init__(self, monkeypatch, dead):
        self.left, self.dead, self.on = 0, dead, False
        for name in ("fsync", "rename", "replace", "mkdir", *(("unlink", "rmdir") if dead else ())):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))
        opens = os.open
        monkeypatch.setattr(
            os, "open", lambda path, flags, *rest, **more: (self._count() if flags & os.O_CREAT else None, opens(path, flags, *rest, **more))[1]
        )

    def _count(self):
        if self.on:
            self.left -= 1
            if self.left == 0 or (self.dead and self.left < 0):
                raise Killed if self.dead else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _failing(self, function):
        return lambda *args, **more: (self._count(), function(*args, **more))[1]


class Killed(BaseException):
    """The end of a process, which nothing in it can catch."""


def publish(folder, results):
    with run_folder(folder, "a-command") as held:
        held.publish(lambda to: [(to / name).write_text(text) for name, text in results.items()], {"command": "a-command"})


OLD, NEW = {"a.csv": "1", "b.csv": "2", "stale.csv": "3"}, {"a.csv": "4", "b.csv": "2", "new.csv": "5"}


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("dead", [False, True], ids=["a write fails", "killed"])
def test_every_moment_of_publishing(earlier, dead, tmp_path, monkeypatch):
    def fresh(name, results):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mine.txt").write_text("not of the run")
        if results:
            publish(folder, results)
        return folder

    old, new = snapshot(fresh("old", OLD if earlier else {})), snapshot(fresh("new", NEW))
    if earlier:
        publish(tmp_path / "old", NEW)
        assert changed(new, snapshot(tmp_path / "old")) == {}  # and the stale file is gone
    outcomes, n = set(), 0
    with monkeypatch.context() as patch:
        faults = Faults(patch, dead)
        while faults.left <= 0:
            n += 1
            folder = fresh(f"trial{n}", OLD if earlier else {})
            faults.left, faults.on = n, True
            try:
                publish(folder, NEW)
            except (OSError, InputError, Killed):
                pass
            faults.on = False
            if dead:
                with run_folder(folder, "a-command"):  # the next run finds what the killed one left
                    pass
            found = snapshot(folder)
            found.pop(".lock", None)
            assert found in (old, new), (n, changed(old, found), changed(new, found))
            outcomes.add("new" if found == new else "old")
    assert n > 10 and {"old", "new"} <= outcomes
