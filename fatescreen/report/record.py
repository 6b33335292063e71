"""The parts of a page that come from the run's record: warnings, settings, versions, files."""

from collections.abc import Mapping, Sequence
from typing import Any

from fatescreen.report.blocks import Block, PlainTable, Prose, Section


def warnings_of(record: Mapping[str, Any], *more: str) -> list[str]:
    """The run's warnings and further ones, each once."""
    return list(dict.fromkeys([*map(str, record.get("warnings") or ()), *more]))


def settings_section(record: Mapping[str, Any], *, fingerprint: str, files: Mapping[str, str], also: Mapping[str, Any] | None = None) -> Section:
    """Settings, versions, how to cite the run, and the files beside the page.

    `files` are name → what it is, of what such a run writes; where the record names its `files`, those are listed. `also` are settings that the record
    does not hold.
    """
    versions = record.get("versions") or {}
    named = record.get("files")
    listed = {str(name): files.get(str(name), "") for name in named} if named else dict(files)
    options = plain(record.get("options") or {}) | plain(also or {})
    blocks: list[Block] = [
        PlainTable(caption="Run", head=("what", "value"), rows=[("command", str(record.get("command", ""))), ("input fingerprint", fingerprint)]),
        Prose(
            text=[
                f"To cite this run, give “fatescreen {versions.get('fatescreen', '')}, input fingerprint {fingerprint[:16]}” and the settings that differ "
                "from the defaults. The fingerprint is a digest of everything that was read: the same input, seed and settings give the same results."
            ]
        ),
        PlainTable(caption="Settings", head=("setting", "value"), rows=[(name, value) for name, value in options.items()]),
        PlainTable(caption="Versions", head=("package", "version"), rows=[(str(k), str(v)) for k, v in versions.items()]),
        PlainTable(caption="Files beside this page", head=("file", "what it holds"), rows=list(listed.items())),
    ]
    return Section(id="settings", title="Settings, versions and files", blocks=blocks)


def own_settings(settings: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that the record's options do not name."""
    options = record.get("options") or {}
    return {name: value for name, value in settings.items() if name not in options}


def plain(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings as text, those within others by dotted names."""
    out: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            out |= plain(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = _said(value)
    return out


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)
