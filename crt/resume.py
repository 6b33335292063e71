"""Finished units on disk, from which an interrupted run resumes."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints
from zipfile import ZipFile

import numpy as np
import pandas as pd

from crt.cells.block import CellBlock
from crt.engine import UnitResult
from crt.inputs import CRTInputs
from crt.settings import UnitSettings
from data_prep.errors import InputError, first_few, warn
from data_prep.files import atomic, first_missing, locked, remove_empty, writable_folder

FORMAT = 3
EARLIER = "finished_earlier"  # the finished units of another run, set aside
_KINDS = {name: {bool: "b", int: "i", float: "f", str: "U"}.get(hint) for name, hint in get_type_hints(UnitResult).items()}  # None for arrays


def settings_record(settings: UnitSettings) -> dict[str, object]:
    """The settings as plain values, for the run record and the fingerprint."""
    record: dict[str, object] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "propensity_mode" and callable(value):
            record[field.name] = f"function {getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
        elif hasattr(value, "__dataclass_fields__"):
            record[field.name] = {"name": type(value).__name__, **{f.name: getattr(value, f.name) for f in fields(value)}}
        else:
            record[field.name] = list(value) if isinstance(value, tuple) else value
    return json.loads(json.dumps(record, default=_plain))


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)


def inputs_digest(inputs: CRTInputs) -> str:
    """A hash of everything in the inputs that results depend on."""
    digest = hashlib.blake2b(digest_size=16)
    g = inputs.guides
    for rows in inputs.host_blocks().each(_rows_digest):
        digest.update(rows)
    for array in (g.indptr, g.indices, inputs.ntc_cells):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    words = (inputs.control_group, inputs.program_names, inputs.covar_names, tuple(map(str, inputs.guide_names)), tuple(inputs.guide2gene.values()))
    digest.update(repr(words).encode())
    if inputs.covar_df_raw is not None:
        for name, column in inputs.covar_df_raw.items():
            digest.update(f"{name} {column.dtype}".encode())
            digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().data)
    return digest.hexdigest()


def _rows_digest(block: CellBlock) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(block.rows).view(np.uint8).data, digest_size=16).digest()


@contextmanager
def result_folder(folder: str | Path, inputs: CRTInputs, settings: UnitSettings, *, resume: bool | None = None) -> Iterator["ResultFolder"]:
    """The finished units in a folder, locked for this run; a run without finished units leaves no files there.

    Parameters
    ----------
    folder
        Folder of the run.
    inputs
        Screen.
    settings
        Settings of the test.
    resume
        Whether to use finished units of an earlier run with the same inputs and settings. Those of another run are an error if true; they are set aside with a
        warning if None, and deleted if false.
    """
    finished = Path(folder) / "finished"
    new = first_missing(finished)
    writable_folder(finished)
    try:
        with locked(finished):
            yield ResultFolder(Path(folder), finished, inputs, settings, resume=resume)
    finally:
        remove_empty(finished, new)


class ResultFolder:
    """The finished units of one run: `run_fingerprint.json` and `finished/*.npz`, each file written atomically.

    Files of an earlier run are replaced when this run saves its first units, not before: until then an option may turn out to be invalid.
    """

    def __init__(self, folder: Path, finished: Path, inputs: CRTInputs, settings: UnitSettings, *, resume: bool | None):
        self.folder, self.finished, self.n_programs = folder, finished, len(inputs.program_names)
        self.mine = {"format": FORMAT, "inputs": inputs_digest(inputs), "settings": settings_record(settings)}
        self.fingerprint = self.folder / "run_fingerprint.json"
        if self.fingerprint.is_dir():
            raise InputError(
                f"{self.fingerprint} is a folder, but a file of this run has this name. Remove it, or choose another folder with out_dir.", "out_dir"
            )
        self.resumes, self.aside = resume is not False and self.fingerprint.is_file(), False
        if self.resumes and (problem := self._other(_read_fingerprint(self.fingerprint), self.mine)):
            if resume:
                fix = "Choose another folder with out_dir, or restart there by setting resume to False."
                raise InputError(f"{self.folder} contains {problem}, so the run cannot resume. {fix}", "out_dir", "resume")
            warn(f"{self.folder} contains {problem}; this run starts at its beginning, and the finished targets are moved to {EARLIER}.")
            self.resumes, self.aside = False, True

    def _begin(self) -> None:
        """Assign the folder to this run; steps that may fail come before files are deleted."""
        with atomic(self.fingerprint) as temporary:
            temporary.write_text(json.dumps(self.mine, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            aside = self.folder / EARLIER
            if self.aside:
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir()
                shutil.copyfile(self.fingerprint, aside / self.fingerprint.name)
            for old in self.finished.glob("[!.]*.npz"):
                old.replace(aside / old.name) if self.aside else old.unlink()
        self.resumes = True

    def _other(self, theirs: Mapping[str, object], mine: Mapping[str, object]) -> str:
        """What the folder contains of another run; "" if it is of this one."""
        if theirs.get("inputs") != mine["inputs"] or theirs.get("format") != mine["format"]:
            return "results of another screen or of other input options"
        old, new = theirs.get("settings"), mine["settings"]
        assert isinstance(new, dict)
        if old == new:
            return ""
        old = old if isinstance(old, dict) else {}
        changed = first_few(f"{name}: {old.get(name)} there, {value} now" for name, value in new.items() if old.get(name) != value)
        return f"results with other settings ({changed})"

    def load(self) -> dict[str, UnitResult]:
        """The finished units by name; none where they belong to another run."""
        out: dict[str, UnitResult] = {}
        for path in sorted(self.finished.glob("*.npz")) if self.resumes else []:
            try:
                out |= {unit.name: unit for unit in _read_units(path, self.n_programs)}
            except Exception as error:  # numpy and zipfile raise many kinds for a foreign file
                raise InputError(f"{path} is damaged ({type(error).__name__}: {error}). Delete it, and its targets are tested again.") from error
        return out

    def save(self, results: Iterable[UnitResult]) -> None:
        """Write a batch of units as one file."""
        batch = list(results)
        name = hashlib.blake2b("\x00".join(r.name for r in batch).encode(), digest_size=12).hexdigest()
        columns = {name: np.array([getattr(r, name) for r in batch]) for name in _KINDS}
        with atomic(self.finished / f"{name}.npz") as temporary:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **columns)
            if not self.resumes:
                self._begin()


def _read_units(path: Path, n_programs: int) -> list[UnitResult]:
    """The units of one file. No code in the file is run (`allow_pickle=False`), and its checksums are verified."""
    with ZipFile(path) as whole:
        if damaged := whole.testzip():  # before numpy allocates an array of a size that it reads there
            raise ValueError(f"the checksum of {damaged} does not match its content")
    with np.load(path, allow_pickle=False) as arrays:
        values = {key: arrays[key] for key in arrays.files}
    if values.keys() != _KINDS.keys():
        raise ValueError("its columns are not those of finished targets")
    size = values["name"].size
    for key, value in values.items():
        shape, kind = ((size,), _KINDS[key]) if _KINDS[key] else ((size, n_programs), "b" if key == "fallback" else "f")
        if value.shape != shape or value.dtype.kind != kind:
            raise ValueError(f"{key} is {value.dtype} of shape {value.shape}, not {shape}")
    return [UnitResult(**{key: value[i].item() if _KINDS[key] else value[i] for key, value in values.items()}) for i in range(size)]


def _read_fingerprint(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}), so the finished targets cannot be reused. Restart by setting resume to False.", "resume") from error
    return found if isinstance(found, dict) else {}
