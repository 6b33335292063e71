"""Option models on the command line: typer parses the words and writes --help, `Options.of` checks the values."""

import inspect
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from fatescreen.options.base import ARGUMENT, Options, kinds, limits, option_name

COMMON: dict[str, tuple[type, Any]] = {
    "config": (str, typer.Option("--config", metavar="FILE", help="YAML of options, or the run.json of an earlier run")),
    "verbose": (bool, typer.Option("--verbose", metavar=" ", help="say more, and how long each part took")),
    "quiet": (bool, typer.Option("--quiet", metavar=" ", help="say only warnings and errors")),
}


def parse(command: str, options: type[Options], doc: str) -> dict[str, Any]:
    """The options given, as texts and flags, and `config`, `verbose`, `quiet`; exits on --help, --version and wrong usage."""
    received: dict[str, Any] = {}
    try:
        typer_app(command, options, doc, received.update)(prog_name=command)
    except SystemExit as done:
        if done.code or not received:  # --help, --version, or wrong usage
            raise
    received.pop("version")
    return {name: value for name, value in received.items() if value is not None or name in COMMON}


def typer_app(command: str, options: type[Options], doc: str, receive: Callable[[dict[str, Any]], None]) -> typer.Typer:
    """The command; it hands what was given to `receive`."""

    def parsed(**values: Any) -> None:
        receive(values)

    fields = options.model_fields
    order = sorted(fields, key=lambda name: fields[name].json_schema_extra != ARGUMENT)
    shown = typer.Option("--version", metavar=" ", help="say the version and exit", callback=_show_version, is_eager=True)
    parameters = [_parameter(options, name, fields[name]) for name in order]
    parameters += [_keyword(name, kind | None, option) for name, (kind, option) in {**COMMON, "version": (bool, shown)}.items()]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parsed.__annotations__ = {p.name: p.annotation for p in parameters}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)  # rich cuts long names at 80 columns
    app.command(name=command, help=doc)(parsed)
    return app


def _parameter(options: type[Options], name: str, one: FieldInfo) -> inspect.Parameter:
    dashed = option_name(name, one)
    said: dict[str, Any] = {"help": f"{one.description}{_small_print(one)}", "show_default": False}
    if one.json_schema_extra == ARGUMENT:
        return _keyword(name, str | None, typer.Argument(metavar=dashed, **said))
    if kinds(one.annotation) == (bool,):
        return _keyword(name, bool | None, typer.Option(f"{dashed}/--no-{dashed[2:]}", metavar=" ", **said))
    return _keyword(name, str | None, typer.Option(dashed, metavar=_metavar(one), **said))


def _small_print(one: FieldInfo) -> str:
    """Range, and default or that it is required."""
    value = one.default
    default = ", ".join(value) if isinstance(value, tuple) else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    parts = [limits(one), "required" if one.is_required() else "" if value is None else f"default: {default}"]
    said = "; ".join(part for part in parts if part)
    return f" ({said})" if said else ""


def _keyword(name: str, kind: Any, info: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def _metavar(one: FieldInfo) -> str:
    words: list[str] = []
    for kind in kinds(one.annotation):
        inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if get_origin(inner) is Literal:
            words += [str(choice) for choice in get_args(inner)]
        else:
            words.append({int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT"}.get(inner, "A,B,..."))
    return "|".join(words)


def _show_version(asked: bool | None) -> None:
    if asked:
        try:
            print(f"fatescreen {version('fatescreen')}")
        except PackageNotFoundError:
            print("fatescreen, not installed")
        raise typer.Exit()
