"""The command line: pydantic-settings makes an argparse parser from a model; names, ranges and defaults in --help come from `describe`."""

import argparse
from functools import partial
from typing import Any, NoReturn

from pydantic_settings import CliSettingsSource

from data_prep.errors import InputError
from fatescreen.cli.versions import installed
from fatescreen.options.base import Options
from fatescreen.options.describe import Option, describe


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Wrong usage is an input error like any other."""
        raise InputError(f"{message}. Write --option=value where a value begins with a dash; {self.prog} --help lists all options.")


def parse(command: str, options: type[Options]) -> tuple[dict[str, Any], argparse.Namespace]:
    """The options given, as texts and flags, unknown ones too; and `config`, `verbose` and `quiet`. Exits on --help and --version."""
    described = describe(options)
    parser = _parser(command, options, described)
    source: CliSettingsSource[Any] = CliSettingsSource(options, root_parser=parser, add_argument_method=partial(_add, described))
    words, unknown = parser.parse_known_intermixed_args()
    given = {name: value for name, value in source(parsed_args=words)().items() if value is not None}
    if dashed := [word.partition("=")[0] for word in unknown if word.startswith("-")]:
        return given | dict.fromkeys(dashed), words
    if unknown:
        parser.error(f"unexpected arguments: {' '.join(unknown)}")
    return given, words


def _parser(command: str, options: type[Options], described: dict[str, Option]) -> _Parser:
    positional = [option.name for option in described.values() if not option.name.startswith("-")]
    parser = _Parser(
        prog=command,
        usage=" ".join(["%(prog)s [OPTIONS]", *positional]),
        description=options.__doc__,
        allow_abbrev=False,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=40),
    )
    parser.add_argument("--version", action="version", version=f"fatescreen {installed('fatescreen')}", help="show the version and exit")
    parser.add_argument("--config", metavar="FILE", help="YAML file of options, or the run.json of an earlier run")
    parser.add_argument("--verbose", action="store_true", help="show more messages, and the time of each step")
    parser.add_argument("--quiet", action="store_true", help="show warnings and errors only")
    return parser


def _add(described: dict[str, Option], parser: argparse.ArgumentParser, *names: str, **settings: Any) -> None:
    """Add one option; a required one that is missing is reported with all other wrong options, not by argparse."""
    option = described[settings.get("dest", names[0])]
    notes = "; ".join(filter(None, (option.limits, f"default: {option.default}" if option.default not in ("", "required") else option.default)))
    settings["help"] = (f"{option.help} ({notes})" if notes else option.help).replace("%", "%%")
    if not option.name.startswith("-"):
        settings["nargs"] = "?"
    elif "metavar" in settings:
        settings["metavar"] = option.metavar
    parser.add_argument(*names, **settings)
