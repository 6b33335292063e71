"""What a command shows and records: messages and warnings on the terminal, and the record of the run."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TextIO

from data_prep.errors import ScreenWarning
from fatescreen.cli.versions import versions
from fatescreen.options.arguments import with_options
from fatescreen.options.base import Options

log = logging.getLogger(__name__)
PACKAGES = ("data_prep", "hierarchy", "crt", "fatescreen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """One run of a command: what it shows, and the warnings it gave."""

    command: str
    options: type[Options]
    verbose: bool = False
    quiet: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def progress(self) -> bool:
        """Whether progress bars are wanted; they are drawn only on a terminal."""
        return not self.quiet

    def record(self, options: Options, **facts: Any) -> dict[str, Any]:
        """What `run.json` holds: the effective options, which can be passed back with --config, the versions and the warnings, then `facts`."""
        return {"command": self.command, "options": options.plain(), "versions": versions(), "warnings": list(self.warnings), **facts}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A part of the run, whose time is shown with --verbose."""
        began = perf_counter()
        yield
        log.debug("%s: %.2f s", name, perf_counter() - began)

    @contextmanager
    def messages(self) -> Iterator[None]:
        """Our log on stdout and our warnings on stderr; warnings of other libraries are hidden, as the user cannot act on them."""
        handler = _Lines(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        level = logging.DEBUG if self.verbose else logging.WARNING if self.quiet else logging.INFO
        for name in PACKAGES:
            logging.getLogger(name).setLevel(level)
            logging.getLogger(name).addHandler(handler)

        def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
            if isinstance(message, ScreenWarning):
                self.warnings.append(with_options(str(message), message.arguments, self.options))
                print_error(f"warning: {self.warnings[-1]}")

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", ScreenWarning)
                warnings.showwarning = show
                yield
        finally:
            for name in PACKAGES:
                logging.getLogger(name).removeHandler(handler)


def print_error(line: str) -> None:
    """A line on stderr, as long as somebody reads it."""
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        _discard(sys.stderr)


class _Lines(logging.StreamHandler[TextIO]):
    """Our log, line by line, as long as somebody reads it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Print no more where the reader has closed the stream."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            _discard(self.stream)
        else:
            super().handleError(record)


def _discard(stream: TextIO) -> None:
    """After `| head -1` further output is discarded and the run continues: its results are files."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
