"""The folder of a run."""

import json
import multiprocessing

import pytest

from data_prep.errors import InputError
from fatescreen.runs.folder import run_folder


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def publish(out, command="c", **texts):
    with run_folder(out, command) as folder:
        folder.publish(lambda to: [(to / name).write_text(text) for name, text in texts.items()], {"command": command})


def test_results_replace_those_of_the_earlier_run_and_nothing_else(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    publish(tmp_path, a="1", b="2")
    publish(tmp_path, a="3")
    assert snapshot(tmp_path).keys() == {"a", "mine.txt", "run.json"} and (tmp_path / "a").read_text() == "3"
    assert json.loads((tmp_path / "run.json").read_text()) == {"command": "c", "files": ["a"]}


def test_a_failure_while_writing_changes_nothing(tmp_path):
    publish(tmp_path, a="1")
    before = snapshot(tmp_path)

    def fails(to):
        (to / "a").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), run_folder(tmp_path, "c") as folder:
        folder.publish(fails, {})
    assert snapshot(tmp_path) == before


def test_a_folder_that_a_failed_run_made_is_gone_again(tmp_path):
    with pytest.raises(InputError, match="wrong"), run_folder(tmp_path / "new" / "deep", "c"):
        raise InputError("wrong")
    assert snapshot(tmp_path) == {}
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError, match="wrong"), run_folder(tmp_path / "old", "c"):
        raise InputError("wrong")
    assert snapshot(tmp_path) == {"old": None}


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".partial-results").mkdir()
    (tmp_path / ".partial-results" / "a").write_text("half")
    (tmp_path / ".partial-checkpoint-x1.pt").write_text("half")
    publish(tmp_path, a="1")
    assert snapshot(tmp_path).keys() == {"a", "run.json"}


def _hold(out, inside, leave):
    with run_folder(out, "c"):
        inside.set()
        leave.wait(30)


def test_a_second_run_is_refused_while_the_first_runs(tmp_path):
    context = multiprocessing.get_context("spawn")
    inside, leave = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, inside, leave))
    first.start()
    try:
        assert inside.wait(60)
        with pytest.raises(InputError, match="another run is writing"), run_folder(tmp_path, "c"):
            pass
    finally:
        leave.set()
        first.join(30)
    publish(tmp_path, a="1")


def test_results_of_another_command_are_not_replaced(tmp_path):
    publish(tmp_path, command="fit-hierarchy", a="1")
    with pytest.raises(InputError, match="holds results of fit-hierarchy, which run-crt would replace"), run_folder(tmp_path, "run-crt"):
        pass


@pytest.mark.parametrize("record", ["[]", "{", '{"files": ["../mine.txt", "/etc/passwd", ".", 3]}', '{"files": 7, "command": null}'])
def test_a_record_that_anyone_wrote_removes_nothing_outside(tmp_path, record):
    (tmp_path / "mine.txt").write_text("kept")
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(record)
    publish(out, a="1")
    assert (tmp_path / "mine.txt").read_text() == "kept" and snapshot(out).keys() == {"a", "run.json"}
