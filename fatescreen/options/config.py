"""Config files: the options of a run in YAML 1.2, or the run.json of an earlier run."""

import re
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import InputError

GIVE = "Give the path of a YAML file, or of the run.json of an earlier run."


class _Plain(yaml.SafeLoader):
    """YAML 1.2 (its core schema), and no key twice; no code is run.

    PyYAML reads YAML 1.1, in which 010 is 8, 1:30 is 90, NO is false and 2020-01-01 a date.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping without repeated keys."""
        _refuse_repeated([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number: decimal, also with zeros in front, 0o17 or 0x1f."""
        return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


CORE = {  # YAML 1.2.2, 10.3.2
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
}
for _kind, (_pattern, _first) in CORE.items():
    _Plain.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), ["" if c == "\0" else c for c in _first])
_Plain.add_constructor("tag:yaml.org,2002:int", _Plain.construct_yaml_int)


def read_config(path: Path, command: str) -> dict[str, Any]:
    """The options in a config file of `command`; keys may be written with "-" or "_"."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Plain)
        if isinstance(content, dict) and "command" in content and "options" in content:  # a run.json
            if content["command"] != command:
                raise InputError(f"it is the record of {content['command']}, not of {command}.")
            content = content["options"]
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise InputError(f"it holds a {type(content).__name__}; it must hold options, one 'name: value' on each line.")
        keys = [str(key).replace("-", "_") for key in content]
        _refuse_repeated(keys)
        return dict(zip(keys, content.values(), strict=True))
    except FileNotFoundError:
        raise InputError(f"the config file {path} does not exist. {GIVE}") from None
    except IsADirectoryError:
        raise InputError(f"the config file {path} is a folder. {GIVE}") from None
    except InputError as error:
        raise InputError(f"the config file {path}: {error}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # tags of YAML (!!bool, !!timestamp) raise many kinds
        raise InputError(f"the config file {path} is not YAML: {error}") from error


def _refuse_repeated(keys: list[Any]) -> None:
    if repeated := sorted({str(key) for key in keys if keys.count(key) > 1}):
        raise InputError(f"{', '.join(repeated)} appears more than once. Keep one.")
