"""Config files: the options of a run in YAML, or the run.json of an earlier run."""

from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import InputError

GIVE = "Give the path of a YAML file, or of the run.json of an earlier run."


class _Plain(yaml.SafeLoader):
    """Plain values only, so that no code is run, and no key twice (`yaml.safe_load`, which pydantic-settings uses, would keep the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping without repeated keys."""
        _refuse_repeated([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep)


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
