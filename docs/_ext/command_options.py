"""`{command-options}`: the options of a command as a table, from the model that the command itself uses."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fatescreen.options.base import Options
from fatescreen.options.describe import describe

ROOT = Path(__file__).resolve().parents[2]


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


def rows(options: type[Options]) -> list[tuple[str, str, str, str]]:
    """Option, description, accepted values, default; arguments first."""
    return [(option.name, option.help, option.must_be, option.default) for option in describe(options).values()]


class CommandOptions(SphinxDirective):
    """Description, usage and options of a command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A paragraph, a line of usage and a table."""
        command = self.arguments[0]
        options = options_of(command)
        script = script_of(command)
        for watched in ("pyproject.toml", script):
            self.env.note_dependency(str(ROOT / watched))
        arguments = [name for name, *_ in rows(options) if not name.startswith("--")]
        usage = f"{command} [OPTIONS] {' '.join(arguments)}".rstrip() + f"\npython {script} [OPTIONS] {' '.join(arguments)}".rstrip()
        return [nodes.paragraph(text=options.__doc__), nodes.literal_block(usage, usage, language="text"), table(rows(options))]


def table(cells: list[tuple[str, str, str, str]]) -> nodes.table:
    """Rows as a docutils table."""
    made = nodes.table(classes=["command-options"])
    group = nodes.tgroup(cols=4)
    group += [nodes.colspec(colwidth=width) for width in (24, 40, 26, 16)]
    head, body = nodes.thead(), nodes.tbody()
    head += _row([nodes.paragraph(text=text) for text in ("option", "description", "accepted values", "default")])
    for name, text, must_be, default in cells:
        shown = nodes.paragraph() if default in ("", "required", "yes", "no") else nodes.paragraph("", "", nodes.literal(default, default))
        if default in ("required", "yes", "no"):
            shown += nodes.Text(default)
        body += _row([nodes.paragraph("", "", nodes.literal(name, name)), _with_code(text), _with_code(must_be), shown])
    group += [head, body]
    made += group
    return made


def _with_code(text: str) -> nodes.paragraph:
    """Options and quoted values as code, so that no typographic dashes or quotation marks are made of them."""
    paragraph = nodes.paragraph()
    for i, part in enumerate(re.split(r"(--[a-z][\w-]*|'[^']+')", text)):
        paragraph += nodes.literal(part, part.strip("'")) if i % 2 else nodes.Text(part)
    return paragraph


def _row(cells: list[nodes.paragraph]) -> nodes.row:
    row = nodes.row()
    row += [nodes.entry("", cell) for cell in cells]
    return row


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
