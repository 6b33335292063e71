"""The folder of a run: one run at a time, results that replace earlier ones all together or not at all, nothing partial left behind."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import PARTIAL, locked, writable_folder, write_text

RECORD = "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A locked output folder; make one with `run_folder`."""

    path: Path

    def publish(self, write: Callable[[Path], None], record: Callable[[list[str]], Mapping[str, Any]]) -> None:
        """Let `write` fill a new folder, then move its files here, over those of an earlier run of the command.

        `record` is given the names of the files and gives what `run.json` holds; that file goes last, so a folder with one is complete. Files of the
        earlier run that this one does not write are removed: they would not be of these settings. If writing fails, nothing here has changed.
        """
        stage = self.path / f"{PARTIAL}results"
        stage.mkdir()
        try:
            write(stage)
            names = sorted(p.name for p in stage.iterdir())
            text = json.dumps({**record(names), "files": names}, indent=1, default=str, ensure_ascii=False)
            write_text(stage / RECORD, text + "\n")
            stale = set(_earlier_files(self.path)) - set(names)
            (self.path / RECORD).unlink(missing_ok=True)
            for name in [*names, RECORD]:
                (stage / name).replace(self.path / name)
            for name in sorted(stale):
                (self.path / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def run_folder(out: Path, command: str) -> Iterator[RunFolder]:
    """The folder `out`, made if need be, found writable, and locked; removed again if a failed run made it and left it empty.

    Raises
    ------
    InputError
        when it can't be written in, when another run is writing in it, or when it holds results of another command.
    """
    new = _first_missing(out)
    folder = writable_folder(out)
    try:
        with locked(folder):
            earlier = _record(folder).get("command")
            if earlier is not None and earlier != command:
                raise InputError(f"{out} holds results of {earlier}, which {command} would replace. Choose another --out.")
            yield RunFolder(path=folder)
    finally:
        _remove_empty(folder, new)


def _first_missing(out: Path) -> Path | None:
    """The highest folder of the path that is not there yet."""
    missing = [p for p in (out, *out.parents) if not p.exists()]
    return missing[-1] if missing else None


def _remove_empty(folder: Path, top: Path | None) -> None:
    """Remove `folder` and its parents up to `top`, which this run made, as far as they are empty."""
    while top is not None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        if folder == top:
            return
        folder = folder.parent


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _earlier_files(folder: Path) -> list[str]:
    """Plain names only: a record is a file that anyone may have written."""
    files = _record(folder).get("files")
    return [name for name in files if isinstance(name, str) and name == Path(name).name and name not in (".", "..")] if isinstance(files, list) else []
