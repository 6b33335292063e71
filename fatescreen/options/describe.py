"""Options in words: name, range, default and accepted values of each, from the JSON schema that pydantic makes of a model."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_settings import CliPositionalArg

_, POSITIONAL = get_args(CliPositionalArg[str])  # the mark of a field that has no "--"
RANGES = {"minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}", "exclusiveMaximum": "below {}"}
KINDS = {  # kind of value: in messages, and in --help
    "integer": ("a whole number", "INTEGER"),
    "number": ("a number", "NUMBER"),
    "string": ("text", "TEXT"),
    "path": ("a path", "PATH"),
    "size": ("a size such as 4GiB or 500MB", "SIZE"),
    "boolean": ("true or false", ""),
    "array": ("names, joined by commas or as a list of texts", "A,B,..."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a command, as help, messages and the documentation show it.

    Attributes
    ----------
    name
        Name on the command line: --seed, or SCREEN.
    help
        Noun phrase that describes it.
    default
        Default as text: "required", "yes", "no", a value, or "" for none.
    accepts
        JSON schemas of the alternatives that are accepted.
    """

    name: str
    help: str
    default: str
    accepts: tuple[Mapping[str, Any], ...]

    @property
    def kinds(self) -> list[str]:
        """Kinds of the alternatives: keys of `KINDS`."""
        return [schema.get("format", schema["type"]) for schema in self.accepts]

    @property
    def choices(self) -> list[str]:
        """Values that are accepted by name."""
        return [str(value) for schema in self.accepts for value in _values(schema)]

    @property
    def limits(self) -> str:
        """Range of a number; "" where there is none."""
        return " and ".join(_limits(schema) for schema in self.accepts if _limits(schema))

    @property
    def metavar(self) -> str:
        """Placeholder for the value in --help."""
        return "|".join("|".join(map(str, _values(schema))) or KINDS[kind][1] for schema, kind in zip(self.accepts, self.kinds, strict=True))

    @property
    def must_be(self) -> str:
        """What is accepted, in words."""
        parts: list[str] = []
        for schema, kind in zip(self.accepts, self.kinds, strict=True):
            parts += [repr(value) for value in _values(schema)] or [", ".join(filter(None, (KINDS[kind][0], _limits(schema))))]
        return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)

    def nearest(self, value: object) -> str:
        """A suggestion of the nearest value that is accepted; "" where there is none."""
        if isinstance(value, str) and (near := difflib.get_close_matches(value, self.choices, n=1)):
            return f" Did you mean {near[0]!r}?"
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return ""
        low = [schema["minimum"] for schema in self.accepts if number < schema.get("minimum", number)]
        high = [schema["maximum"] for schema in self.accepts if number > schema.get("maximum", number)]
        return f" The nearest is {(low + high)[0]}." if low + high else ""


@cache
def describe(options: type[BaseModel]) -> dict[str, Option]:
    """Every option of a command by its field, positional arguments first."""
    found = {}
    for name, schema in options.model_json_schema()["properties"].items():
        field = options.model_fields[name]
        found[name] = Option(
            name=name.upper() if POSITIONAL in field.metadata else f"--{name.replace('_', '-')}",
            help=field.description or "",
            default="required" if field.is_required() else _default(field.default),
            accepts=tuple(one for one in schema.get("anyOf", [schema]) if one["type"] != "null"),
        )
    return dict(sorted(found.items(), key=lambda item: item[1].name.startswith("--")))


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)


def _values(schema: Mapping[str, Any]) -> list[Any]:
    return schema.get("enum", [schema["const"]] if "const" in schema else [])


def _limits(schema: Mapping[str, Any]) -> str:
    return " and ".join(text.format(schema[key]) for key, text in RANGES.items() if key in schema)
