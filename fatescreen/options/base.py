"""What a command can be told: option models, from which the command line, the config file's schema and the run record are made."""

import difflib
import reprlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from data_prep.errors import InputError, first_few
from data_prep.read.guide_map import NTC_LABELS

ARGUMENT: Any = {"argument": True}  # json_schema_extra of a field that has no "--"
SCREEN = "the screen: .h5ad, .h5mu or .zarr"


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Count = Annotated[int, Field(ge=1)]


class Options(BaseModel):
    """The options of one command; each field is an option of the command line and a key of the config file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def of(cls, given: Mapping[str, Any], config: Mapping[str, Any] | None = None, *, source: str = "") -> Self:
        """Checked options: those given on the command line, else those of the config file `source`, else the defaults.

        Raises
        ------
        InputError
            naming every wrong option, what it must be, and the nearest that is right.
        """
        config = config or {}
        values = {**config, **given}
        known = {name: value for name, value in values.items() if name in cls.model_fields}
        wrong = {name: _said(cls, name, given, source, value) for name, value in values.items() if name not in known or _is_stray(cls, name, value)}
        wrong |= {name: f"{_place(cls, name, given, source, value)}. {said}" for name, value in known.items() if (said := _no_text(value))}
        try:
            checked = cls.model_validate(known)
        except ValidationError as error:
            for one in error.errors():
                name = str(one["loc"][0]) if one["loc"] else ""  # without one it is of several options together
                wrong.setdefault(name, _said(cls, name, given, source, values.get(name), kind=one["type"]) if name else str(one["ctx"]["error"]))
        if wrong:
            raise InputError("\n".join(wrong.values()))
        return checked

    def plain(self) -> dict[str, Any]:
        """The options as JSON-able values, with whole paths; as a config file they repeat the run."""
        values = self.model_dump()
        return {k: str(v.absolute()) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in values.items()}


class OutOptions(Options):
    """Where results go."""

    out: Path = Field(description="folder for the results")


class RunOptions(OutOptions):
    """What every run on a screen has."""

    report: bool = Field(True, description="write report.html")


class ScreenOptions(RunOptions):
    """Where the parts of a screen are."""

    guide_key: str = Field("guide", description="key of the guides of each cell, in obsm, layers or a MuData modality")
    guide_names_key: str = Field("guide_names", description="uns key of the guide names, where the guides are a bare matrix")
    guides: Path | None = Field(None, description="table of the guides in cells, in place of the key: of Cell Ranger, SCEPTRE, or cell-guide pairs")
    guide_map: Path | None = Field(None, description="table of guide_name, gene_name, is_ntc, or of SCEPTRE or Cell Ranger, in place of the map in uns")
    ntc_labels: Names = Field(NTC_LABELS, description="gene labels of non-targeting guides")
    covar_key: str = Field("covar", description="obsm key of the covariates")


class _Plain(yaml.SafeLoader):
    """Plain values only, so that no code is run, and every key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys stand once."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise InputError(f"{', '.join(twice)} stands twice. Keep one.")
        return super().construct_mapping(node, deep)


def read_config(path: Path, command: str, options: type[Options]) -> dict[str, Any]:
    """The options in a YAML file, or in the run.json of an earlier run of the same command; keys may have "-" or "_"."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Plain)
    except FileNotFoundError:
        raise InputError(f"the config file {path} does not exist. Give the path of a YAML file, or of the run.json of an earlier run.") from None
    except IsADirectoryError:
        raise InputError(f"the config file {path} is a folder. Give the path of a YAML file, or of the run.json of an earlier run.") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # YAML's own tags (!!bool, !!timestamp) raise many kinds
        raise InputError(f"the config file {path} is not YAML: {error}") from error
    if content is None:
        return {}
    if isinstance(content, dict) and "command" in content and "options" in content:  # a run.json
        if content["command"] != command:
            raise InputError(f"{path} is of a run of {content['command']}, not of {command}.")
        content = content["options"]
    if not isinstance(content, dict):
        raise InputError(f"the config file {path} holds a {type(content).__name__}; it must hold options, one 'name: value' on each line.")
    keys = [str(key).replace("-", "_") for key in content]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise InputError(f"{path}: {', '.join(twice)} stands twice. Keep one.")
    return dict(zip(keys, content.values(), strict=True))


def must_be(field: FieldInfo) -> str:
    """What a field accepts, in words."""
    return _words(field.annotation, field.metadata)


def kinds(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, without None; (annotation,) for anything else."""
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for kind in get_args(annotation) if kind is not type(None))
    return (annotation,)


def _words(annotation: Any, metadata: list[Any]) -> str:
    parts = []
    for kind in kinds(annotation):
        if get_origin(kind) is Annotated:
            inner, *more = get_args(kind)
            more = [m for outer in more for m in (outer.metadata if isinstance(outer, FieldInfo) else [outer])]
            parts.append(_words(inner, [*metadata, *more]))
        elif get_origin(kind) is Literal:
            parts += [repr(choice) for choice in get_args(kind)]
        elif get_origin(kind) is tuple:
            parts.append("names, joined by commas or as a list of texts")
        else:
            names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
            parts.append(names[kind] + (_in_range(metadata) if kind in (int, float) else ""))
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _bounds(metadata: list[Any]) -> dict[str, Any]:
    return {name: getattr(m, name) for m in metadata for kind, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt")) if isinstance(m, kind)}


def limits(field: FieldInfo) -> str:
    """The range of a number, in words; empty where there is none."""
    return _in_range(field.metadata).removeprefix(", ")


def _in_range(metadata: list[Any]) -> str:
    said = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    parts = [said[name].format(value) for name, value in _bounds(metadata).items()]
    return f", {' and '.join(parts)}" if parts else ""


def _nearest(field: FieldInfo, value: Any) -> str:
    """The nearest value that is accepted, where there is one to name."""
    choices = [str(choice) for kind in kinds(field.annotation) if get_origin(kind) is Literal for choice in get_args(kind)]
    if near := difflib.get_close_matches(value if isinstance(value, str) else "", choices, n=1):
        return f" Did you mean {near[0]!r}?"
    bounds = _bounds(field.metadata)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return ""
    for name, outside in (("ge", lambda bound: number < bound), ("le", lambda bound: number > bound)):
        if name in bounds and outside(bounds[name]):
            return f" The nearest is {bounds[name]}."
    return ""


def _is_stray(options: type[Options], name: str, value: Any) -> bool:
    """Whether pydantic would take it for something else: True for the number 1, an empty path for the folder we are in."""
    takes = kinds(options.model_fields[name].annotation)
    return (isinstance(value, bool) and bool not in takes) or (value == "" and Path in takes)


def _said(options: type[Options], name: str, given: Mapping[str, Any], source: str, value: Any, kind: str = "") -> str:
    fields = options.model_fields
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        return f"{source}: there is no option {_cut(name)}. " + (f"Did you mean {near[0]!r}?" if near else f"The options are {first_few(fields, 50)}.")
    field = fields[name]
    shown = option_name(name, field)
    if kind == "missing":
        return f"{shown} is missing: {field.description}."
    return f"{_place(options, name, given, source, value)}; it must be {must_be(field)}.{_nearest(field, value)}"


def _place(options: type[Options], name: str, given: Mapping[str, Any], source: str, value: Any) -> str:
    """Which option it is, where, and its value, cut where it is long."""
    shown = option_name(name, options.model_fields[name]) if name in options.model_fields else name
    return f"{shown} is {_cut(value)}" if name in given else f"{source}: {name} is {_cut(value)}"


def _cut(value: Any) -> str:
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 200
    try:
        return short.repr(value)
    except ValueError:  # Python shows no whole number of over 4,300 digits
        return f"a {type(value).__name__} of very many digits"


def _no_text(value: Any) -> str:
    """Why a text can be neither a name nor a path, if it can't."""
    texts = [value] if isinstance(value, str) else [part for part in value if isinstance(part, str)] if isinstance(value, (list, tuple)) else []
    if any("\0" in text for text in texts):
        return "It holds a zero byte. Leave it out."
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        return "It is not UTF-8 text. Write it, or rename the file, in UTF-8."
    return ""


def option_name(name: str, field: FieldInfo) -> str:
    """What the command line calls a field."""
    return name.upper() if field.json_schema_extra == ARGUMENT else f"--{name.replace('_', '-')}"
