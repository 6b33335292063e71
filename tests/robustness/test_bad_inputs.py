"""Every wrong input: exit code 2, one message that names the thing and its mend, earlier results untouched, nothing left behind."""

import re

import pytest

from tests.commands import changed, command, snapshot
from tests.robustness import cases_files, cases_options, cases_screens
from tests.robustness.inputs import Desk

CASES = [*cases_screens.CASES, *cases_files.CASES, *cases_options.CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_clear_message_and_nothing_lost(case, whole, tmp_path):
    desk = Desk(whole, tmp_path, case.command)
    words = list(case.words(desk))
    places = [()] if "--out" in words else [("--out", desk.out), ("--out", tmp_path / "new" / "deeper")]
    before = snapshot(tmp_path)
    for out in places:
        done = command(case.command, *words, *out)
        assert done.code == 2, done
        assert len(re.findall("^error: ", done.err, re.MULTILINE)) == 1 and "Traceback" not in done.err, done.err
        said = done.err[done.err.index("error: ") :]
        assert [part for part in case.said if part not in said] == [], said
        assert changed(before, snapshot(tmp_path)) == {}
