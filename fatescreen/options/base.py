"""Options of a command as a model, and the options that commands share: type, range and help of each are written here once."""

import difflib
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, CliPositionalArg, PydanticBaseSettingsSource, SettingsConfigDict

from data_prep.errors import InputError, first_few
from data_prep.read.keys import NTC_LABELS, ScreenKeys
from fatescreen.options.arguments import with_options
from fatescreen.options.describe import Option, describe

KEYS = ScreenKeys()


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _bytes(value: Any) -> Any:
    """A size such as 4GiB or 500MB in bytes; what is no such text is returned unchanged."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B", value.strip(), re.IGNORECASE) if isinstance(value, str) else None
    if found is None:
        return value
    number, prefix, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " "))


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Count = Annotated[int, Field(ge=1)]
SCREEN = "screen: a .h5ad, .h5mu or .zarr file"
Screen = Annotated[CliPositionalArg[Path], Field(description=SCREEN)]
Out = Annotated[Path, Field(description="folder for the results")]
GuideKey = Annotated[str, Field(description="key of the guides of each cell, in obsm, layers or a MuData modality")]
Memory = Annotated[
    Annotated[int, BeforeValidator(_bytes), Field(ge=1, json_schema_extra={"format": "size"})] | None,
    Field(description="most memory that the run may use: beyond it, data of the cells are in files inside the output folder while the run lasts"),
]
Scheduler = Annotated[
    str | None,
    Field(description="Dask scheduler on whose workers the cells are: its address, or local:N for N workers on this machine; one process if not given"),
]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1, description="random seed")]
Resume = Annotated[
    bool | None,
    Field(
        description="whether to resume an interrupted run from what it saved in the output folder: what another run saved is an error with --resume; if not "
        "given, it is set aside"
    ),
]


class Options(BaseSettings):
    """The options of one command: each field is an option of the command line and a key of the config file."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_parse_none_str="\0",  # "null" is a text like any other
        enable_decoding=False,  # "A,B" is no JSON
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: PydanticBaseSettingsSource, **__: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the values given: nothing is read from the environment.

        Parameters
        ----------
        settings_cls
            The model.
        init_settings
            The values given.
        _, __
            Other sources of pydantic-settings, which are not used.
        """
        return (init_settings,)

    @classmethod
    def of(cls, given: Mapping[str, Any], config: Mapping[str, Any] | None = None, *, source: str = "") -> Self:
        """Checked options: those given on the command line, else those of the config file `source`, else the defaults.

        Raises
        ------
        InputError
            The message names every wrong option, what it must be, and the nearest value that is accepted.
        """
        described, values = describe(cls), {**(config or {}), **given}
        known = {name: value for name, value in values.items() if name in described}

        def place(name: str) -> str:
            shown = described[name].name if name in given else f"{source}: {name}"
            return f"{shown} is {_short(values.get(name))}"

        wrong = {name: _unknown(name, described, "" if name in given else f"{source}: ") for name in values if name not in known}
        wrong |= {name: f"{place(name)}{problem}" for name, value in known.items() if (problem := _unusable(described[name], value))}
        try:
            checked = cls(**known)
        except ValidationError as error:
            for one in error.errors():
                name = str(one["loc"][0]) if one["loc"] else ""
                if not name:  # options that do not go together
                    text = with_options(str(one["ctx"]["error"]), getattr(one["ctx"]["error"], "arguments", ()), cls)
                elif one["type"] == "missing":
                    text = f"{described[name].name} is missing: {described[name].help}."
                else:
                    text = f"{place(name)}{_must_be(described[name], values.get(name))}"
                wrong.setdefault(name, text)
        if wrong:
            raise InputError("\n".join(wrong.values()))
        return checked

    def plain(self) -> dict[str, Any]:
        """The options as JSON-able values, with whole paths; as a config file they repeat the run."""
        values = self.model_dump()
        return {k: str(v.absolute()) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in values.items()}


class ScreenOptions(Options):
    """Where the parts of a screen are, and what every run on a screen writes."""

    out: Out
    report: bool = Field(True, description="whether to write report.html")
    guide_key: GuideKey = KEYS.guide
    guide_names_key: str = Field(KEYS.guide_names, description="uns key of the guide names, for guides stored as a matrix without column names")
    guides: Path | None = Field(None, description="table of the guides in cells, used instead of --guide-key: Cell Ranger's, SCEPTRE's, or cell-guide pairs")
    min_umi: Count | None = Field(
        None, description="least UMIs of a guide that a cell carries, for guides that are counts; 1 if each nonzero entry is a call; calls if not given"
    )
    guide_map: Path | None = Field(None, description="table of guide_name, gene_name, is_ntc, or SCEPTRE's or Cell Ranger's, used instead of the map in uns")
    ntc_labels: Names = Field(NTC_LABELS, description="gene labels that mark non-targeting guides")
    covar_key: str = Field(KEYS.covar, description="obsm key of the covariates")


def _unknown(name: str, described: Mapping[str, Option], place: str) -> str:
    names = [option.name for option in described.values()] if name.startswith("-") else list(described)
    near = difflib.get_close_matches(name, names, n=1)
    return f"{place}there is no option {_short(name)}. " + (f"Did you mean {near[0]!r}?" if near else f"The options are {first_few(names, 50)}.")


def _unusable(option: Option, value: Any) -> str:
    """Why a value is refused that pydantic would accept: True for the number 1, an empty path, text that no file can hold."""
    if (isinstance(value, bool) and "boolean" not in option.kinds) or (value == "" and "path" in option.kinds):
        return _must_be(option, value)
    texts = [text for text in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(text, str)]
    if any("\0" in text for text in texts):
        return ". It holds a zero byte. Leave it out."
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        return ". It is not UTF-8 text. Write it, or rename the file, in UTF-8."
    return ""


def _must_be(option: Option, value: Any) -> str:
    return f"; it must be {option.must_be}.{option.nearest(value)}"


def _short(value: Any) -> str:
    """A value as text, cut where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 200
    try:
        return short.repr(value)
    except ValueError:  # Python shows no whole number of over 4,300 digits
        return f"a {type(value).__name__} with thousands of digits"
