"""What every command shares: one clear message, exit codes, what is said and where, and its record."""

import errno
import io
import logging
import os
import platform
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO, TypeVar

from data_prep.errors import InputError, ScreenWarning
from fatescreen.cli.parse import parse
from fatescreen.options.base import Options, read_config

log = logging.getLogger(__name__)
PACKAGES = ("data_prep", "hierarchy", "crt", "fatescreen")
VERSIONS = ("fatescreen", "torch", "pyro-ppl", "numpy", "pandas", "scipy", "numba", "anndata")
Opt = TypeVar("Opt", bound=Options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """One run of a command: how much it says, and the warnings it gave."""

    command: str
    quiet: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def progress(self) -> bool:
        """Whether bars are wanted; they are drawn only on a terminal."""
        return not self.quiet

    def record(self, options: Options, **facts: Any) -> dict[str, Any]:
        """What `run.json` holds: the effective options, which can be passed back with --config, the versions and the warnings, then `facts`."""
        return {"command": self.command, "options": options.plain(), "versions": versions(), "warnings": list(self.warnings), **facts}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A part of the run, whose time --verbose tells."""
        began = perf_counter()
        yield
        log.debug("%s: %.2f s", name, perf_counter() - began)


def run(command: str, options: type[Opt], work: Callable[[Opt, Console], None]) -> None:
    """Run a command and exit: 0 done, 1 a failure inside, 2 the input or settings are wrong (one message), 130 interrupted, 143 terminated."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a gene's name may have letters that the terminal has not
    given = parse(command, options, work.__doc__ or "")
    config, verbose, quiet = given.pop("config"), given.pop("verbose"), given.pop("quiet")
    console = Console(command=command, quiet=bool(quiet))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends as an error does, so that nothing partial stays
    try:
        if verbose and quiet:
            raise InputError("give one of --verbose and --quiet.")
        with _said(console, verbose=bool(verbose)):
            values = {} if config is None else read_config(Path(config), command, options)
            work(options.of(given, values, source=str(config)), console)
    except (InputError, OSError) as error:  # an OSError is a file that can't be read or written, or a full disk
        if verbose:
            traceback.print_exc()
        sys.exit(_fail(error if isinstance(error, InputError) else _os_error(error), 2))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))
    except MemoryError:
        sys.exit(_fail("out of memory. Read a smaller screen, or take a machine with more.", 1))
    except Exception as error:
        traceback.print_exc()
        sys.exit(_fail(f"a failure inside {command}, which is not your input's fault: {type(error).__name__}: {error}", 1))


def versions() -> dict[str, str | None]:
    """Versions of what results may depend on."""
    return {name: _version(name) for name in VERSIONS} | {"python": platform.python_version()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


class _Lines(logging.StreamHandler[TextIO]):
    """Our log, line by line, as long as somebody reads it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say no more where the reader has gone."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            _unread(self.stream)
        else:
            super().handleError(record)


def _tell(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        _unread(sys.stderr)


def _unread(stream: TextIO) -> None:
    """After `| head -1` what is still said goes nowhere, and the run goes on: its results are files."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def _said(console: Console, *, verbose: bool) -> Iterator[None]:
    """Our logs to stdout, our warnings to stderr; other libraries' warnings are not the user's to mend."""
    handler = _Lines(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = logging.DEBUG if verbose else logging.WARNING if console.quiet else logging.INFO
    for name in PACKAGES:
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).addHandler(handler)

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, ScreenWarning):
            console.warnings.append(str(message))
            _tell(f"warning: {message}")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", ScreenWarning)
            warnings.showwarning = show
            yield
    finally:
        for name in PACKAGES:
            logging.getLogger(name).removeHandler(handler)


def _fail(message: object, code: int) -> int:
    _tell(f"error: {message}")
    return code


def _os_error(error: OSError) -> str:
    """What to do about the commonest."""
    space = "Free some space, or choose another --out; earlier results are as they were."
    permission = "Choose another place, or ask for the right to use this one."
    mend = {
        errno.ENOSPC: space,
        errno.EDQUOT: space,
        errno.EFBIG: "Files may not grow so large here: raise the limit (ulimit -f), or choose another --out; earlier results are as they were.",
        errno.EACCES: permission,
        errno.EPERM: permission,
        errno.EROFS: permission,
        errno.EISDIR: "Remove that folder, or choose another path.",
        errno.ENAMETOOLONG: "Choose a shorter path.",
        errno.ENOENT: "Give the path of a file that is there.",
    }
    return f"{error}. {mend.get(error.errno or 0, 'Can the files be read, and is there space to write?')}"
