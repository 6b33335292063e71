"""Parts of a page that come from the record of the run: warnings, settings, versions, files."""

from collections.abc import Mapping, Sequence
from typing import Any

from fatescreen.report.blocks import Block, PlainTable, Prose, Section

FOOTER = "Numbers on this page have five significant digits; the files in its folder have ten."


def warnings_of(record: Mapping[str, Any]) -> list[str]:
    """Warnings of the run, without repeats."""
    return list(dict.fromkeys(map(str, record.get("warnings") or ())))


def settings_section(record: Mapping[str, Any], *, fingerprint: str, files: Mapping[str, str], also: Mapping[str, Any] | None = None) -> Section:
    """Settings, versions, how to cite the run, and the files in the folder of the page.

    Parameters
    ----------
    record
        Record of the run; if it has `files`, those are listed, else all of `files`.
    fingerprint
        Digest of the input.
    files
        Description of each file that such a run can write, by name.
    also
        Settings that are not in the record's options.
    """
    versions = record.get("versions") or {}
    named = record.get("files")
    listed = {str(name): files.get(str(name), "") for name in named} if named else dict(files)
    options = plain(record.get("options") or {}) | plain(also or {})
    blocks: list[Block] = [
        PlainTable(caption="Run", head=("item", "value"), rows=[("command", str(record.get("command", ""))), ("input fingerprint", fingerprint)]),
        Prose(
            text=[
                f"To cite this run, give “fatescreen {versions.get('fatescreen', '')}, input fingerprint {fingerprint[:16]}” and the settings that differ "
                "from the defaults. The fingerprint is a hash of the input: the same input, seed and settings give the same results."
            ]
        ),
        PlainTable(caption="Settings", head=("setting", "value"), rows=[(name, value) for name, value in options.items()]),
        PlainTable(caption="Versions", head=("package", "version"), rows=[(str(k), str(v)) for k, v in versions.items()]),
        PlainTable(caption="Files in the folder of this page", head=("file", "content"), rows=list(listed.items())),
    ]
    return Section(id="settings", title="Settings, versions and files", blocks=blocks)


def own_settings(settings: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are not among the options of the record."""
    options = record.get("options") or {}
    return {name: value for name, value in settings.items() if name not in options}


def plain(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings as text, nested ones with dotted names."""
    out: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            out |= plain(value, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = _text(value)
    return out


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)
