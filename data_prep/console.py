"""What every command shares: errors as one message, and exit codes."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

from data_prep.errors import InputError, ScreenWarning


def run(command: Callable[..., Any]) -> None:
    """Run a typer command: exit code 0 done, 2 the input or settings are wrong (one message), 130 interrupted."""
    warnings.showwarning = _show
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a file that can't be read or written, a full disk
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except AssertionError as error:  # a check of our own result failed
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _show(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None) -> None:
    """Our own warnings as one line; others from libraries are not the user's to mend."""
    if issubclass(category, ScreenWarning):
        print(f"warning: {message}", file=sys.stderr)
