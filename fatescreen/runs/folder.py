"""The folder of a run: one run at a time, results that replace earlier ones all together or not at all, nothing partial left behind."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import PARTIAL, first_missing, locked, remove_empty, writable_folder, write_text

RECORD = "run.json"
REPORT = "report.html"
COMMITTED = ".results"  # whole results on their way to their places; a run that finds them there, after a kill, brings them there first
EARLIER = "earlier"  # in it: what they replace


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A locked output folder; make one with `run_folder`."""

    path: Path

    def publish(self, write: Callable[[Path], None], record: Mapping[str, Any], *, report: Callable[[Mapping[str, Any]], str] | None = None) -> None:
        """Let `write` fill a new folder, then move its files here, over those of an earlier run of the command.

        `record` is what `run.json` holds, with the names of the files; that file goes last, so a folder with one is complete. `report` makes the text of
        `report.html` of it. Files of the earlier run that this one does not write are removed: they would not be of these settings. If writing or moving
        fails, nothing here has changed; a run that is killed once all is written has its results moved by the next one.
        """
        stage = self.path / f"{PARTIAL}results"
        stage.mkdir()
        try:
            write(stage)
            if report is not None:
                write_text(stage / REPORT, report({**record, "files": sorted(p.name for p in stage.iterdir())}))
            names = sorted(p.name for p in stage.iterdir())
            write_text(stage / RECORD, json.dumps({**record, "files": names}, indent=1, default=str, ensure_ascii=False) + "\n")
            for name in [*names, ""]:  # a folder's own entry last
                _to_disk(stage / name)
            _refuse_folders(self.path, [*names, RECORD])
            stage.rename(self.path / COMMITTED)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        _move_in(self.path)


@contextmanager
def run_folder(out: Path, command: str) -> Iterator[RunFolder]:
    """The folder `out`, made if need be, found writable, and locked; removed again if a failed run made it and left it empty.

    Raises
    ------
    InputError
        when it can't be written in, when another run is writing in it, or when it holds results of another command.
    """
    new = first_missing(out)
    folder = writable_folder(out)
    try:
        with locked(folder):
            _recover(folder)
            earlier = _record(folder).get("command")
            if earlier is not None and earlier != command:
                raise InputError(f"{out} holds results of {earlier}, which {command} would replace. Choose another --out.")
            yield RunFolder(path=folder)
    finally:
        remove_empty(folder, new)


def _move_in(folder: Path) -> None:
    """Move committed results to their places; when that fails, all is put back, and they are gone."""
    committed = folder / COMMITTED
    done: list[tuple[Path, Path]] = []

    def move(here: Path, there: Path) -> None:
        here.rename(there)
        done.append((here, there))

    try:
        earlier = committed / EARLIER
        earlier.mkdir(exist_ok=True)
        names = [p.name for p in committed.iterdir() if p != earlier and p.name != RECORD]
        for name in [RECORD, *sorted({*_earlier_files(folder), *names} - {RECORD})]:  # without a record, the folder is not complete
            if (folder / name).exists() and not (folder / name).is_dir():
                move(folder / name, earlier / name)
        for name in [*sorted(names), RECORD]:
            move(committed / name, folder / name)
        _to_disk(folder)
    except BaseException:
        for here, there in reversed(done):
            there.rename(here)
        (committed / RECORD).unlink(missing_ok=True)  # first: with it, they would be taken for whole
        shutil.rmtree(committed, ignore_errors=True)
        raise
    shutil.rmtree(committed, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Bring the results of a run that was killed while it moved them to their places, or clear away what it replaced."""
    committed = folder / COMMITTED
    if not committed.is_dir():
        return
    if (committed / RECORD).is_file():
        replaced = _record(committed / EARLIER) or _record(folder)
        for name in _files_of(_record(committed)):
            if (committed / name).is_file():
                (committed / name).replace(folder / name)
        for name in set(_files_of(replaced)) - set(_files_of(_record(committed))):
            (folder / name).unlink(missing_ok=True)
        (committed / RECORD).replace(folder / RECORD)
    shutil.rmtree(committed)


def _to_disk(path: Path) -> None:
    """Whole even when the power goes."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_folders(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if (folder / name).is_dir():
            raise InputError(f"{folder / name} is a folder, where a result must go. Remove it, or choose another --out.")


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _earlier_files(folder: Path) -> list[str]:
    return _files_of(_record(folder))


def _files_of(record: Mapping[str, Any]) -> list[str]:
    """Plain names only: a record is a file that anyone may have written."""
    files = record.get("files")
    return [name for name in files if isinstance(name, str) and name == Path(name).name and name not in (".", "..", RECORD)] if isinstance(files, list) else []
