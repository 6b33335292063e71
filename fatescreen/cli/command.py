"""A command from the command line to its exit code."""

import errno
import io
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from data_prep.errors import InputError
from fatescreen.cli.console import Console, print_error
from fatescreen.cli.parse import parse
from fatescreen.options.arguments import with_options
from fatescreen.options.base import Options
from fatescreen.options.config import read_config

Opt = TypeVar("Opt", bound=Options)
SPACE = "Free some space, or choose another folder with --out; earlier results are unchanged."
PERMISSION = "Choose another place, or ask for permission to use this one."
ADVICE = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EFBIG: "The limit on the size of files is reached: raise it (ulimit -f), or choose another folder with --out; earlier results are unchanged.",
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EROFS: PERMISSION,
    errno.EISDIR: "Remove that folder, or choose another path.",
    errno.ENAMETOOLONG: "Choose a shorter path.",
    errno.ENOENT: "Give the path of an existing file.",
}


class NoResult(Exception):
    """A run that has no result though its input and options are valid, such as a fit that diverged; shown as one message, with exit code 1.

    Attributes
    ----------
    arguments
        Names of the arguments that may help, as in `InputError`.
    """

    def __init__(self, message: str, *arguments: str):
        """A message with advice, and the arguments that may help."""
        super().__init__(message)
        self.arguments = arguments


@dataclass(frozen=True, slots=True)
class Command(Generic[Opt]):
    """A command: its name, the model of its options, and its work. Calling it reads the command line, does the work, and exits unless all went well.

    The work imports the science itself, so that --help and wrong options are answered at once.
    """

    name: str
    options: type[Opt]
    work: Callable[[Opt, Console], None]

    def __call__(self) -> None:
        """Run; exit codes are 0 done, 1 no result or internal failure, 2 wrong input or options (one message), 130 interrupted, 143 terminated."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a gene's name may have letters that the terminal cannot show
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends as an error does, so that no partial file is left
        verbose = False
        try:
            given, words = parse(self.name, self.options)
            verbose = words.verbose
            if verbose and words.quiet:
                raise InputError("give either --verbose or --quiet, not both.")
            config = {} if words.config is None else read_config(Path(words.config), self.name)
            options = self.options.of(given, config, source=str(words.config))
            console = Console(command=self.name, options=self.options, verbose=verbose, quiet=words.quiet)
            with console.messages():
                self.work(options, console)
        except NoResult as error:
            sys.exit(_failed(with_options(str(error), error.arguments, self.options), 1))
        except (InputError, OSError) as error:  # an OSError is a file that can't be read or written, or a full disk
            if verbose:
                traceback.print_exc()
            sys.exit(_failed(self._advice(error), 2))
        except KeyboardInterrupt:
            sys.exit(_failed("interrupted", 130))
        except MemoryError:
            sys.exit(_failed("out of memory. Use a smaller screen, or a machine with more memory.", 1))
        except Exception as error:
            traceback.print_exc()
            sys.exit(_failed(f"internal failure of {self.name}, not caused by your input: {type(error).__name__}: {error}", 1))

    def _advice(self, error: InputError | OSError) -> str:
        if isinstance(error, InputError):
            return with_options(str(error), error.arguments, self.options)
        return f"{error}. {ADVICE.get(error.errno or 0, 'Check that the files can be read and that there is space to write.')}"


def _failed(message: str, code: int) -> int:
    print_error(f"error: {message}")
    return code
