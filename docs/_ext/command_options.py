"""`{command-options}`: a command's options as a table, from the model that the command itself is made of."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fatescreen.options.base import Options, must_be, option_name

ROOT = Path(__file__).resolve().parents[2]


def entry_points() -> dict[str, str]:
    """Command → "module:function", as the package installs them."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def options_of(command: str) -> tuple[type[Options], str]:
    """The options of a command and what it does: what its entry point hands to `run`."""
    module_name, function = entry_points()[command].split(":")
    module = importlib.import_module(module_name)
    seen: list[tuple[Any, ...]] = []
    real = module.run
    module.run = lambda *given: seen.append(given)
    try:
        getattr(module, function)()
    finally:
        module.run = real
    _, options, work = seen[0]
    return options, work.__doc__ or ""


def script_of(command: str) -> str:
    """The file in scripts/ that runs a command's entry point."""
    module, function = entry_points()[command].split(":")
    found = [p for p in sorted((ROOT / "scripts").glob("*.py")) if f"from {module} import {function}\n" in p.read_text(encoding="utf-8")]
    return f"scripts/{found[0].name}"


def rows(options: type[Options]) -> list[tuple[str, str, str, str]]:
    """Option, what it is, what it must be, default; arguments first."""
    fields = sorted(options.model_fields.items(), key=lambda item: option_name(*item).startswith("--"))
    return [(option_name(name, field), field.description or "", must_be(field), _default(field)) for name, field in fields]


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


class CommandOptions(SphinxDirective):
    """What the command does, how to call it, and its options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A paragraph, a line of usage and a table."""
        command = self.arguments[0]
        options, doc = options_of(command)
        script = script_of(command)
        for watched in ("pyproject.toml", script):
            self.env.note_dependency(str(ROOT / watched))
        arguments = [name for name, *_ in rows(options) if not name.startswith("--")]
        usage = f"{command} [OPTIONS] {' '.join(arguments)}".rstrip() + f"\npython {script} [OPTIONS] {' '.join(arguments)}".rstrip()
        return [nodes.paragraph(text=doc), nodes.literal_block(usage, usage, language="text"), table(rows(options))]


def table(cells: list[tuple[str, str, str, str]]) -> nodes.table:
    """Rows as a docutils table."""
    made = nodes.table(classes=["command-options"])
    group = nodes.tgroup(cols=4)
    group += [nodes.colspec(colwidth=width) for width in (24, 40, 26, 16)]
    head, body = nodes.thead(), nodes.tbody()
    head += _row([nodes.paragraph(text=text) for text in ("option", "what it is", "must be", "default")])
    for name, said, must, default in cells:
        shown = nodes.paragraph() if default in ("", "required", "yes", "no") else nodes.paragraph("", "", nodes.literal(default, default))
        if default in ("required", "yes", "no"):
            shown += nodes.Text(default)
        body += _row([nodes.paragraph("", "", nodes.literal(name, name)), _with_code(said), _with_code(must), shown])
    group += [head, body]
    made += group
    return made


def _with_code(text: str) -> nodes.paragraph:
    """Options and quoted values as code; they are no dashes and no quotations."""
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
