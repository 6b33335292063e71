"""Exit codes, messages and where they go, and the record."""

import json
import logging
import os
import signal
import subprocess
import sys
import warnings

import pytest
from pydantic import Field

from data_prep.errors import InputError, warn
from fatescreen.cli.command import Command
from fatescreen.options.base import Options, Out
from fatescreen.runs.folder import run_folder
from tests import ROOT

log = logging.getLogger("data_prep.a_test")


class Few(Options):
    """Do something."""

    out: Out
    number: int = Field(1, ge=1, description="a number")


def call(monkeypatch, capfd, work, *words):
    """Exit code (0 if the command returned), stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["a-test", *map(str, words)])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        Command("a-test", Few, work)()
        code = 0
    except SystemExit as done:
        code = done.code
    finally:
        signal.signal(signal.SIGTERM, handler)
    out, err = capfd.readouterr()
    return code, out, err


def raising(error):
    def work(options, console):
        """Fail."""
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("the key x is missing. Give it."), 2, "error: the key x is missing. Give it.\n"),
        (OSError(28, "No space left on device", "f"), 2, "No space left on device: 'f'. Free some space"),
        (PermissionError(13, "Permission denied", "f"), 2, "Choose another place"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (AssertionError("β is offset"), 1, "internal failure of a-test, not caused by your input: AssertionError: β is offset"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_exit_codes(monkeypatch, capfd, error, code, message):
    found, out, err = call(monkeypatch, capfd, raising(error), "--out", "o")
    assert found == code and message in err and err.count("error:") == 1 and out == ""
    assert ("Traceback" in err) == isinstance(error, AssertionError)


def test_wrong_settings_come_before_any_work(monkeypatch, capfd):
    for words, message in (
        (["--out", "o", "--number", "0"], "--number is '0'"),
        ([], "--out is missing"),
        (["--out", "o", "--verbose", "--quiet"], "not both"),
    ):
        code, _, err = call(monkeypatch, capfd, raising(RuntimeError("ran")), *words)
        assert code == 2 and message in err and "ran" not in err
    code, _, err = call(monkeypatch, capfd, raising(RuntimeError("ran")), "--ou", "o", "--number=0", "--nmber=1")
    assert code == 2 and "there is no option '--ou'. Did you mean '--out'?" in err and "Did you mean '--number'?" in err
    assert "--out is missing" in err and "--number is '0'" in err and "ran" not in err
    for words, message in (
        (["--number"], "--number: expected one argument"),
        (["--out", "o", "else"], "unexpected arguments: else"),
        (["--out=o", "--n=1"], "--n"),
    ):
        code, _, err = call(monkeypatch, capfd, raising(RuntimeError("ran")), *words)
        assert code == 2 and message in err and err.count("error:") == 1 and "ran" not in err


def chatty(options, console):
    """Print something."""
    log.debug("small print")
    log.info("a result")
    with console.step("a part"):
        warn("mind the gap")
        warn("mind the gap")
        warnings.warn("of another library", UserWarning, stacklevel=1)
    print(json.dumps(console.record(options, fact=1)["warnings"]), console.progress)


@pytest.mark.filterwarnings("default")  # as outside of tests
@pytest.mark.parametrize(
    ("flag", "shown", "hidden"),
    [("", {"a result"}, {"small print", "a part: "}), ("--verbose", {"small print", "a result", "a part: "}, set()), ("--quiet", set(), {"a result"})],
)
def test_how_much_is_shown(monkeypatch, capfd, flag, shown, hidden):
    code, out, err = call(monkeypatch, capfd, chatty, "--out", "o", *([flag] if flag else []))
    assert code == 0 and err == "warning: mind the gap\nwarning: mind the gap\n"
    assert all(text in out for text in shown) and not any(text in out for text in hidden)
    assert f'["mind the gap", "mind the gap"] {flag != "--quiet"}' in out


def test_a_terminated_run_leaves_nothing_partial(monkeypatch, capfd, tmp_path):
    def work(options, console):
        """Be terminated while writing."""
        with run_folder(options.out, console.command) as folder:
            folder.publish(lambda to: ((to / "a").write_text("half"), os.kill(os.getpid(), signal.SIGTERM)), {})

    code, _, _ = call(monkeypatch, capfd, work, "--out", tmp_path / "o")
    assert code == 143 and not (tmp_path / "o").exists()


def test_help_and_version(monkeypatch, capfd):
    code, out, _ = call(monkeypatch, capfd, chatty, "--help")
    assert code == 0 and "Do something." in out and "--number INTEGER" in out and "a number (at least 1; default: 1)" in out and "(required)" in out
    code, out, _ = call(monkeypatch, capfd, chatty, "--version")
    assert code == 0 and out.startswith("fatescreen")


SPEAKER = """
import logging, sys
from fatescreen.cli.command import Command
from data_prep.errors import warn
from fatescreen.options.base import Options, Out

class Few(Options):
    out: Out

def speak(options, console):
    logging.getLogger("data_prep").info("TNF-α")
    warn("β is offset")
    logging.getLogger("data_prep").info("done")
    open(options.out, "w").close()

sys.argv = ["a-test", "--out", sys.argv[1]]
Command("a-test", Few, speak)()
"""


@pytest.mark.parametrize("unread", ["stdout", "stderr", "both"])
def test_a_reader_that_leaves_does_not_end_the_run(tmp_path, unread):
    """As in `run-crt … | head -1`: no traceback, all results, exit code 0."""
    read, write = os.pipe()
    os.close(read)
    streams = {name: write if unread in (name, "both") else subprocess.PIPE for name in ("stdout", "stderr")}
    done = subprocess.run([sys.executable, "-c", SPEAKER, tmp_path / "result"], **streams)
    os.close(write)
    assert done.returncode == 0 and (tmp_path / "result").is_file()
    assert done.stderr in (None, "warning: β is offset\n".encode()) and done.stdout in (None, "TNF-α\ndone\n".encode())


def test_letters_that_the_terminal_has_not(tmp_path):
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", SPEAKER, tmp_path / "result"], capture_output=True, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"TNF-\\u03b1\ndone\n", b"warning: \\u03b2 is offset\n")


@pytest.mark.parametrize("name", ["fit_hierarchy"])
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["s.h5ad", "--seed", "-1"]])
def test_the_science_is_not_imported_before_the_options_are_right(name, words):
    """So that help and wrong options are answered at once."""
    code = f"import sys; sys.argv = ['x', *{words!r}]\nfrom fatescreen.cli.{name} import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "print(sorted({'torch', 'pyro', 'pandas', 'scipy', 'numba', 'anndata', 'matplotlib'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done


def test_options_of_the_arguments_that_a_message_names(monkeypatch, capfd):
    def work(options, console):
        warn("many guides.", "base_seed", "number")
        raise InputError("no folder.", "out_dir", "nothing_of_this_command")

    code, _, err = call(monkeypatch, capfd, work, "--out", "o")
    assert code == 2 and err == "warning: many guides. Option: --number.\nerror: no folder. Option: --out.\n"
