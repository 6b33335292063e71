"""Tables of the options in docs/commands.md, from the models that the commands themselves use; `python docs/_ext/command_tables.py` writes them again."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from fatescreen.options.base import Options
from fatescreen.options.describe import describe

PAGE = ROOT / "docs" / "commands.md"
PART = re.compile(r"(?<=\n## )([a-z-]+)\n.*?(?=\n## |\Z)", re.DOTALL)


def entry_points() -> dict[str, str]:
    """Command → "module:function", as the package installs them."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def options_of(command: str) -> type[Options]:
    """The options of a command; their docstring describes the command."""
    module, name = entry_points()[command].split(":")
    return getattr(importlib.import_module(module), name).options


def script_of(command: str) -> str:
    """The file in scripts/ that runs a command's entry point."""
    module, function = entry_points()[command].split(":")
    found = [p for p in sorted((ROOT / "scripts").glob("*.py")) if f"from {module} import {function}\n" in p.read_text(encoding="utf-8")]
    return f"scripts/{found[0].name}"


def section(command: str) -> str:
    """Heading, description, usage and options of a command, in Markdown."""
    options = describe(options_of(command)).values()
    arguments = " ".join(["[OPTIONS]", *(option.name for option in options if not option.name.startswith("--"))])
    lines = [command, "", str(options_of(command).__doc__), "", "```text", f"{command} {arguments}", f"python {script_of(command)} {arguments}", "```", ""]
    lines += ["| option | description | accepted values | default |", "|---|---|---|---|"]
    for option in options:
        default = option.default if option.default in ("", "required", "yes", "no") else f"`{option.default}`"
        lines.append(f"| `{option.name}` | {_with_code(option.help)} | {_with_code(option.must_be)} | {default} |")
    return "\n".join(lines) + "\n"


def _with_code(text: str) -> str:
    """Options and quoted values as code, and no pipe that would end a cell."""
    return re.sub(r"(--[a-z][\w-]*)|(?<!\w)'([^']+)'(?!\w)", lambda found: f"`{found[1] or found[2]}`", text).replace("|", "\\|")


def updated(page: str) -> str:
    """The page with the sections of all commands as they are now."""
    return PART.sub(lambda found: section(found[1]) if found[1] in entry_points() else found[0], page)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
