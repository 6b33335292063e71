"""Random options, damaged files and random tables: a result, or an `InputError` and exit code 2; nothing else.

FATESCREEN_FUZZ=5000 is the number of random examples of each, in place of a few.
"""

import datetime
import os
import shutil
import uuid

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from fatescreen.options.call_hits import HitOptions
from fatescreen.options.config import read_config
from fatescreen.options.diagnose_null import DiagnoseOptions
from fatescreen.options.fit_hierarchy import FitOptions
from fatescreen.options.run_crt import RunCRTOptions
from fatescreen.options.score_daywise import ScoreOptions
from fatescreen.options.simulate_screen import SimulateOptions
from tests.commands import command
from tests.robustness.inputs import Workspace

EXAMPLES = int(os.environ.get("FATESCREEN_FUZZ", "0"))


def tries(few, share=1.0):
    """How many examples; the default run tries the same few every time."""
    return settings(
        max_examples=int(EXAMPLES * share) or few,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )


MODELS = {
    "fit-hierarchy": FitOptions,
    "run-crt": RunCRTOptions,
    "diagnose-null": DiagnoseOptions,
    "call-hits": HitOptions,
    "score-daywise": ScoreOptions,
    "simulate-screen": SimulateOptions,
}
NUMBERS = st.integers() | st.integers(-3, 40) | st.floats() | st.sampled_from([2**63, 10**400, -(10**4000), 1e308])
TEXTS = st.text(max_size=30) | st.sampled_from(["", "auto", "nan", "1-3", "1e400", "9" * 5000, "0x10", "gene_block", "a,b", ",", "\0", "\ud800", "~", "1_0"])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.dates() | st.binary(max_size=9) | st.just(datetime.timedelta(1))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=3) | st.tuples(inner), max_leaves=6)


@pytest.mark.parametrize("name", MODELS)
def test_options(name):
    model = MODELS[name]

    @tries(60, share=4)
    @given(st.dictionaries(st.sampled_from([*model.model_fields, "x", "out"]) | TEXTS, VALUES | TEXTS | NUMBERS, max_size=6), st.booleans())
    def any_values(values, right):
        required = {"screen": "s", "out": "o", "table": "t", "truth": "u"} if right else {}
        try:
            options = model.of({}, {k: v for k, v in required.items() if k in model.model_fields} | values, source="c.yaml")
            assert "c.yaml" not in str(options.plain().get("out", ""))
            json_text(options.plain())
            if isinstance(options, SimulateOptions):
                options.design()
        except InputError as error:
            assert str(error) and len(str(error)) < 20_000 and str(error).encode("utf-8", "backslashreplace")

    any_values()


def json_text(values):
    import json

    return json.dumps(values, ensure_ascii=False).encode("utf-8")


TAGS = [
    "!!bool",
    "!!int",
    "!!float",
    "!!timestamp",
    "!!binary",
    "!!set",
    "!!omap",
    "!!pairs",
    "!!python/name:os.system",
    "!x",
    "&a",
    "*a",
    "<<:",
    "?",
    "|",
    "%YAML",
]
WORDS = st.lists(
    st.sampled_from([*TAGS, *FitOptions.model_fields, ": ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "'", '"', "#", "---", "0", "1e9", "\t"]) | TEXTS,
    max_size=25,
)


def test_config_files(tmp_path):
    @tries(150, share=4)
    @given(WORDS.map("".join).map(lambda s: s.encode("utf-8", "surrogatepass")) | st.binary(max_size=60) | VALUES.map(dumped))
    def any_content(content):
        path = tmp_path / "c.yaml"
        path.write_bytes(content)
        try:
            FitOptions.of({"screen": "s", "out": "o"}, read_config(path, "fit-hierarchy"), source="c.yaml")
        except InputError as error:
            assert "c.yaml" in str(error)

    any_content()


def dumped(value):
    try:
        return yaml.safe_dump(value).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError):
        return b""


EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "set", "zero", "cut", "drop", "double", "insert"]), st.floats(0, 1), st.integers(1, 64), st.integers(0, 255)),
    min_size=1,
    max_size=8,
)


def damaged(content, edits):
    """The bytes after a few accidents."""
    held = bytearray(content)
    for kind, share, size, value in edits:
        at = int(share * len(held))
        if kind == "flip" and at < len(held):
            held[at] ^= 1 << value % 8
        elif kind == "set":
            held[at : at + 1] = bytes([value])
        elif kind == "zero":
            held[at : at + size] = bytes(len(held[at : at + size]))
        elif kind == "cut":
            held = held[:at]
        elif kind == "drop":
            del held[at : at + size]
        elif kind == "double":
            held[at:at] = held[at : at + size]
        elif kind == "insert":
            held[at:at] = bytes([value]) * size
    return bytes(held)


def of_screen(called):
    def lay(workspace, _):
        path = workspace.inputs / called
        shutil.copy(workspace.valid_arguments()[0], path)
        return [path], [path, *workspace.valid_arguments()[1:]]

    return lay


def of_zarr(workspace, _):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the format that is written
        path = workspace.screen(lambda a: None, ".zarr")
    return sorted(p for p in path.rglob("*") if p.is_file()), [path, *workspace.valid_arguments()[1:]]


def of_map(workspace, _):
    path = shutil.copy(workspace.valid_inputs.files / "map.csv", workspace.inputs / "map.csv")
    return [path], [*workspace.valid_arguments(), "--guide-map", path]


def of_cache(workspace, fork_server):
    path = workspace.inputs / "cache.pt"
    arguments = [*workspace.valid_arguments(), "--cache", path]
    assert fork_server.run(workspace.name, *arguments, "--out", workspace.out).code == 0
    return [path], arguments


def of_checkpoint(workspace, fork_server):
    fork_server.run(workspace.name, *workspace.valid_arguments(), "--out", workspace.out, between=0, moment=[10])
    return [workspace.out / "checkpoint.pt"], workspace.valid_arguments()


def of_finished(workspace, _):
    return [*workspace.out.glob("finished/*.npz"), workspace.out / "run_fingerprint.json", workspace.out / "run.json"], workspace.valid_arguments()


LAYOUTS = {
    "h5ad for the hierarchy": ("fit-hierarchy", of_screen("s.h5ad")),
    "h5ad for the test": ("run-crt", of_screen("s.h5ad")),
    "zarr": ("fit-hierarchy", of_zarr),
    "guide map": ("fit-hierarchy", of_map),
    "cache": ("fit-hierarchy", of_cache),
    "checkpoint": ("fit-hierarchy", of_checkpoint),
    "finished targets": ("run-crt", of_finished),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_damaged_files(kind, valid_inputs, fork_server, tmp_path):
    """In a process of its own, so that a crash of the HDF5 library would be seen."""
    (name, lay), h5ad = LAYOUTS[kind], kind.startswith("h5ad")
    workspace = Workspace(valid_inputs, tmp_path, name)
    files, arguments = lay(workspace, fork_server)
    contents = [path.read_bytes() for path in files]
    kept, damaged_file = tmp_path / "kept", files[:1]
    shutil.copytree(workspace.out, kept)

    @tries(6)
    @given(st.integers(0, 10_000), EDITS)
    def any_damage(which, edits):
        shutil.rmtree(workspace.out)
        shutil.copytree(kept, workspace.out)
        which %= len(files)
        for path, content in ((damaged_file[0], contents[files.index(damaged_file[0])]), (files[which], damaged(contents[which], edits))):
            path.write_bytes(content)
        damaged_file[0] = files[which]
        ended = fork_server.wait(fork_server.start(name, *arguments, "--out", workspace.out, memory=8 * 2**30), seconds=10 if h5ad else 600)
        if ended.code not in (0, 2) and (keep := os.environ.get("FATESCREEN_FUZZ_KEEP")):
            shutil.copy(files[which], f"{keep}/{kind.replace(' ', '_')}-{uuid.uuid4()}{files[which].suffix}")
        library = h5ad and (ended.code is None or ended.code < 0)  # libhdf5 loops or crashes on some damaged files; no code of ours runs then
        assert ended.code in (0, 2) or library, (ended.code, ended.output[-3000:])
        assert "Traceback" not in ended.output

    any_damage()


CELLS = st.sampled_from(["", "GENE0", "GENE1", "d0", "d1", "MES", "0.1", "-1", "nan", "inf", "1e999", "x", '"', "é", "\0", "gene", "0", "1"]) | TEXTS
HEADINGS = st.lists(st.sampled_from(["gene", "betahat_d0", "se_d0", "betahat_d1", "se_d1", "fate", "day", "theta", "x", ""]), max_size=7)


def csv(rows):
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def test_score_tables(valid_inputs, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, "score-daywise")
    right = [path.read_bytes() for path in workspace.valid_arguments()]
    random = st.tuples(HEADINGS, st.lists(st.lists(CELLS, max_size=7), max_size=5)).map(lambda parts: csv([parts[0], *parts[1]]))

    @tries(60, share=4)
    @given(*(random | st.just(content) | EDITS.map(lambda edits, content=content: damaged(content, edits)) for content in right))
    def any_tables(table, truth):
        arguments = [workspace.file("table.csv", table), workspace.file("truth.csv", truth)]
        done = command("score-daywise", *arguments)
        assert done.code in (0, 2) and "Traceback" not in done.err, done

    any_tables()
