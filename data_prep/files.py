"""Files that are complete or absent: written under a temporary name, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data_prep.errors import InputError

PARTIAL = ".partial-"  # start of the names of incomplete files; a later run in the folder removes those of killed runs


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which is renamed to `path` if the block succeeds and deleted if it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{PARTIAL}{path.stem[:40]}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Reserve a folder for this run, and remove the incomplete files of killed runs; an error if another run has it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing in {folder}. Wait until it ends, or choose another folder.", "out") from None
    try:
        for left in folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: another run that opens the old file then finds that it was removed
        lock.release()


def writable_folder(path: str | Path) -> Path:
    """Make a folder if it does not exist, and check that files can be written in it."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        problem = "is not a folder" if isinstance(error, (FileExistsError, NotADirectoryError)) else f"can't be written in ({error.strerror})"
        raise InputError(f"the output folder {path} {problem}. Choose another folder.", "out") from error


def first_missing(out: Path) -> Path | None:
    """The topmost folder of a path that does not exist yet."""
    missing = [p for p in (out, *out.parents) if not p.exists()]
    return missing[-1] if missing else None


def remove_empty(folder: Path, top: Path | None) -> None:
    """Remove a folder and its parents, up to the folder `top` that this run made, as long as they are empty."""
    while top is not None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        if folder == top:
            return
        folder = folder.parent


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
