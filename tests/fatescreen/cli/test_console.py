"""Exit codes, what is said where, and the record."""

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
from fatescreen.cli.console import run
from fatescreen.options.base import OutOptions
from fatescreen.runs.folder import run_folder

log = logging.getLogger("data_prep.a_test")


class Few(OutOptions):
    """Options of a test's command."""

    n: int = Field(1, ge=1, description="a number")


def call(monkeypatch, capfd, work, *words):
    """Exit code (0 if the command returned), stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["a-test", *map(str, words)])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        run("a-test", Few, work)
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
    ("error", "code", "said"),
    [
        (InputError("the key x is missing. Give it."), 2, "error: the key x is missing. Give it.\n"),
        (OSError(28, "No space left on device", "f"), 2, "No space left on device: 'f'. Free some space"),
        (PermissionError(13, "Permission denied", "f"), 2, "Choose another place"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (AssertionError("β is offset"), 1, "a failure inside a-test, which is not your input's fault: AssertionError: β is offset"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_exit_codes(monkeypatch, capfd, error, code, said):
    found, out, err = call(monkeypatch, capfd, raising(error), "--out", "o")
    assert found == code and said in err and err.count("error:") == 1 and out == ""
    assert ("Traceback" in err) == isinstance(error, AssertionError)


def test_wrong_settings_come_before_any_work(monkeypatch, capfd):
    for words, said in ((["--out", "o", "--n", "0"], "--n is '0'"), ([], "--out is missing"), (["--out", "o", "--verbose", "--quiet"], "give one of")):
        code, _, err = call(monkeypatch, capfd, raising(RuntimeError("ran")), *words)
        assert code == 2 and said in err and "ran" not in err
    code, _, err = call(monkeypatch, capfd, raising(RuntimeError("ran")), "--ou", "o")
    assert code == 2 and "No such option: --ou" in err and "--out" in err


def chatty(options, console):
    """Say something."""
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
def test_how_much_is_said(monkeypatch, capfd, flag, shown, hidden):
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
    assert code == 0 and "Say something." in out and "--n INTEGER" in out and "a number (at least 1; default: 1)" in out and "(required)" in out
    code, out, _ = call(monkeypatch, capfd, chatty, "--version")
    assert code == 0 and out.startswith("fatescreen")


SPEAKER = """
import logging, sys
from fatescreen.cli.console import run
from data_prep.errors import warn
from fatescreen.options.base import OutOptions

def speak(options, console):
    logging.getLogger("data_prep").info("TNF-α")
    warn("β is offset")
    logging.getLogger("data_prep").info("done")
    open(options.out, "w").close()

sys.argv = ["a-test", "--out", sys.argv[1]]
run("a-test", OutOptions, speak)
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
