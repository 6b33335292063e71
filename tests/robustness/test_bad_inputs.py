"""Every invalid input: exit code 2, one message that names the problem and how to fix it, earlier results untouched, no new files."""

import re

import pytest

from tests.commands import changed, command, snapshot
from tests.robustness import cases_files, cases_options, cases_screens
from tests.robustness.inputs import Workspace

CASES = [*cases_screens.CASES, *cases_files.CASES, *cases_options.CASES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_message_and_earlier_results_kept(case, valid_inputs, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, case.command)
    arguments = list(case.arguments(workspace))
    places = [()] if "--out" in arguments else [("--out", workspace.out), ("--out", tmp_path / "new" / "deeper")]
    before = snapshot(tmp_path)
    for out in places:
        done = command(case.command, *arguments, *out)
        assert done.code == 2, done
        assert len(re.findall("^error: ", done.err, re.MULTILINE)) == 1 and "Traceback" not in done.err, done.err
        message = done.err[done.err.index("error: ") :]
        assert [part for part in case.expected if part not in message] == [], message
        assert changed(before, snapshot(tmp_path)) == {}
