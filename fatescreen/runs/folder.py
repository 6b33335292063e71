"""The output folder of a run: one run at a time; results replace earlier ones all together or not at all; no partial file is left."""

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
COMMITTED = ".results"  # complete results that are being moved to their places; after a kill, the next run completes the move first
EARLIER = "earlier"  # subfolder of it with the files that they replace


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A locked output folder; `run_folder` makes one."""

    path: Path

    def publish(self, write: Callable[[Path], None], record: Mapping[str, Any], *, report: Callable[[Mapping[str, Any]], str] | None = None) -> None:
        """Let `write` fill a new folder, then move its files here, replacing those of an earlier run of the command.

        `run.json` holds `record` and the names of the files. It is moved last, so a folder that has one is complete. `report` makes the text of
        `report.html` from the record. Files of the earlier run that this run does not write are removed, because they belong to other settings. If writing
        or moving fails, nothing has changed. If the run is killed after everything is written, the next run moves the results.
        """
        stage = self.path / f"{PARTIAL}results"
        stage.mkdir()
        try:
            write(stage)
            if report is not None:
                write_text(stage / REPORT, report({**record, "files": sorted(p.name for p in stage.iterdir())}))
            names = sorted(p.name for p in stage.iterdir())
            write_text(stage / RECORD, json.dumps({**record, "files": names}, indent=1, default=str, ensure_ascii=False) + "\n")
            for name in [*names, ""]:  # the folder itself last
                _flush_to_disk(stage / name)
            _refuse_folders(self.path, [*names, RECORD])
            stage.rename(self.path / COMMITTED)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        _move_in(self.path)


@contextmanager
def run_folder(out: Path, command: str) -> Iterator[RunFolder]:
    """The folder `out`, created if it is missing, checked to be writable, and locked; removed again if a failed run created it and left it empty.

    Raises
    ------
    InputError
        If the folder is not writable, another run is writing to it, or it holds results of another command.
    """
    new = first_missing(out)
    folder = writable_folder(out)
    try:
        with locked(folder):
            _recover(folder)
            earlier = _record(folder).get("command")
            if earlier is not None and earlier != command:
                raise InputError(f"{out} holds results of {earlier}, which {command} would replace. Choose another folder.", "out")
            yield RunFolder(path=folder)
    finally:
        remove_empty(folder, new)


def _move_in(folder: Path) -> None:
    """Move committed results to their places; if that fails, put the earlier ones back and delete the new ones."""
    committed = folder / COMMITTED
    done: list[tuple[Path, Path]] = []

    def move(here: Path, there: Path) -> None:
        here.rename(there)
        done.append((here, there))

    try:
        earlier = committed / EARLIER
        earlier.mkdir(exist_ok=True)
        names = [p.name for p in committed.iterdir() if p != earlier and p.name != RECORD]
        for name in [RECORD, *sorted({*_earlier_files(folder), *names} - {RECORD})]:  # the record first: without it, the folder counts as incomplete
            if (folder / name).exists() and not (folder / name).is_dir():
                move(folder / name, earlier / name)
        for name in [*sorted(names), RECORD]:
            move(committed / name, folder / name)
        _flush_to_disk(folder)
    except BaseException:
        for here, there in reversed(done):
            there.rename(here)
        (committed / RECORD).unlink(missing_ok=True)  # first: with a record, the next run would take them for complete
        shutil.rmtree(committed, ignore_errors=True)
        raise
    shutil.rmtree(committed, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Complete the move of a run that was killed during it, or remove the files that it replaced."""
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


def _flush_to_disk(path: Path) -> None:
    """Make a file or folder survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_folders(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if (folder / name).is_dir():
            raise InputError(f"{folder / name} is a folder, but a result must be written there. Remove it, or choose another folder.", "out")


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _earlier_files(folder: Path) -> list[str]:
    return _files_of(_record(folder))


def _files_of(record: Mapping[str, Any]) -> list[str]:
    """Names of files in a record; only plain names, because anyone may have written the record."""
    files = record.get("files")
    return [name for name in files if isinstance(name, str) and name == Path(name).name and name not in (".", "..", RECORD)] if isinstance(files, list) else []
