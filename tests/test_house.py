"""The rules of the tree, one test each: imports run one way, functions are short, shapes are types, the English is plain."""

import importlib.metadata
import re
import subprocess
import sys
import textwrap
import tomllib

import pytest

from tests import ROOT, house
from tests.house import LIBRARIES, PACKAGES, Source, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROOMS = [source.path.removesuffix("/__init__.py") for package in PACKAGES for source in sources(package) if source.path.endswith("/__init__.py")]
PUBLIC = {alias.name for package in LIBRARIES for source in sources(package, "__init__.pyi") for node in source.tree.body for alias in node.names}
UNSHAPED = (
    "Coordinates.join(parts",  # tensors of several shapes
    "cholesky_packed ->",  # a list for each number of guides
)
TEXTS = [
    *[source for folder in (*PACKAGES, "scripts") for source in sources(folder, ".py", ".pyi", ".j2", ".js", ".css")],
    *[source for source in sources("docs", ".py", ".md", ".rst", ".R") if not source.path.startswith(("docs/_build/", "docs/api/generated/"))],
    *[source for source in sources("tests") if source.path not in ("tests/house.py", "tests/test_house.py")],
    *[Source(name, (ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")],
]


def listed(offenders):
    """A message with one offender a line."""
    return "\n".join(["", *offenders])


def none(check, folder, *suffixes):
    """No source of a folder offends."""
    files = len(sources(folder, *suffixes))
    offenders = [line for source in sources(folder, *suffixes) for line in check(source)]
    assert files and not offenders, listed(offenders)


@pytest.mark.parametrize("folder", house.MAY_IMPORT)
def test_imports_run_one_way(folder):
    """`data_prep` ← `hierarchy`, `crt` ← `fatescreen` ← `scripts`."""
    none(house.imports_upward, folder, ".py", ".pyi")


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["package", "all modules"])
@pytest.mark.parametrize(("package", "heavy"), [("data_prep", "matplotlib"), ("hierarchy", "matplotlib"), ("crt", "torch matplotlib")])
def test_imports_are_light(package, heavy, whole):
    """A fresh process imports the package, or every module of it."""
    modules = [source.module for source in sources(package)] if whole else [package]
    code = f"import sys, {', '.join(modules)}; print(*[name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout.split(), done


def test_help_and_wrong_options_import_nothing_heavy():
    """Of every command: what the command line and the options need, without what reads, fits, tests or draws."""
    modules = [entry.split(":")[0] for entry in PROJECT["scripts"].values()]
    described = "".join(f"; describe({module}.main.options)" for module in modules)
    heavy = "torch pyro numba scipy pandas anndata h5py matplotlib pyarrow"
    code = f"import sys, {', '.join(modules)}; from fatescreen.options.describe import describe{described}"
    done = subprocess.run([sys.executable, "-c", f"{code}; print(*[name for name in '{heavy}'.split() if name in sys.modules])"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0 and not done.stdout.split(), done


def test_threads_wait_passively():
    """The variable is read when torch is loaded, so `data_prep`, which everything imports, sets it before; a user's own value stays."""
    code = "import os, sys; os.environ.pop('OMP_WAIT_POLICY', None); import {}; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    for package in PACKAGES:
        done = subprocess.run([sys.executable, "-c", code.format(package)], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.split() == ["False", "PASSIVE"], done
    done = subprocess.run(
        [sys.executable, "-c", code.replace("pop('OMP_WAIT_POLICY', None)", "update(OMP_WAIT_POLICY='ACTIVE')").format("hierarchy")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["False", "ACTIVE"], done


@pytest.mark.parametrize("package", LIBRARIES)
def test_a_library_names_arguments_not_options(package):
    none(house.options_named, package)


@pytest.mark.parametrize("folder", [*PACKAGES, "scripts"])
def test_functions_take_few_arguments(folder):
    """Eight at most; the long signatures of the specification are wrappers."""
    none(house.too_many_arguments, folder)


@pytest.mark.parametrize("folder", [*PACKAGES, "scripts"])
def test_functions_are_short(folder):
    """60 lines at most, with signature and docstring."""
    none(house.too_long, folder)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_described_in_two_sentences(room):
    """What is in the room, and what is not."""
    offenders = house.room_docstring(Source(f"{room}/__init__.py", (ROOT / room / "__init__.py").read_text(encoding="utf-8")))
    assert not offenders, listed(offenders)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_few_files(room):
    files = sorted(path.name for path in (ROOT / room).glob("*.py"))
    assert len(files) <= house.MOST_FILES, files


@pytest.mark.parametrize("package", LIBRARIES)
def test_no_module_is_named_like_a_public_function(package):
    """The function would hide the module, or the other way round, by the order of imports."""
    assert not PUBLIC & {path.stem for path in (ROOT / package).iterdir()}


@pytest.mark.parametrize("package", LIBRARIES)
def test_arrays_have_shapes(package):
    """Arguments and returns of public functions and fields of public classes; compiled kernels have no annotations."""
    modules = [source for source in sources(package) if not source.path.startswith("crt/kernels/")]
    offenders = [line for source in modules for line in house.without_shapes(source, UNSHAPED)]
    assert not offenders, listed(offenders)


@pytest.mark.parametrize("package", PACKAGES)
def test_parameters_are_described(package):
    """Each of those of a public function of four or more."""
    none(house.without_parameters, package)


@pytest.mark.parametrize("folder", sorted({source.path.split("/")[0] for source in TEXTS}))
def test_plain_english(folder):
    """No idiom that ../shared/design/english.md replaces, in code, comments and documents."""
    offenders = [line for source in TEXTS if source.path.split("/")[0] == folder for line in house.idioms(source.path, source.text)]
    assert not offenders, listed(offenders)


def imported_outside():
    """Top names that the packages import and that are not theirs."""
    found = {name.split(".")[0] for package in PACKAGES for source in sources(package) for _, name in house.imports(source)}
    return found - {*PACKAGES} - sys.stdlib_module_names


def plain(name):
    """The name of a distribution, without version and extras, as installers compare them."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name)[0]).lower()


def test_every_dependency_is_imported_and_every_import_declared():
    gives = {name: set(map(plain, found)) for name, found in importlib.metadata.packages_distributions().items()}
    imported = {distribution for name in imported_outside() for distribution in gives.get(name, {name})}
    needed, extras = set(map(plain, PROJECT["dependencies"])), PROJECT["optional-dependencies"]
    optional = {plain(name) for extra, names in extras.items() if extra not in ("dev", "docs") for name in names}
    assert not needed - imported, f"nothing imports {needed - imported}"
    undeclared = [name for name in imported_outside() if not gives.get(name, {plain(name)}) & (needed | optional)]
    assert not undeclared, f"pyproject.toml does not declare {undeclared}"


def test_every_pinned_version_is_of_a_dependency():
    """Or of one that a dependency needs (xarray, by arviz)."""
    named = {plain(name) for names in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()] for name in names}
    pinned = {plain(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")}
    assert pinned - named <= {"xarray"}


def test_every_module_is_imported():
    """By another module; commands are started by their entry points."""
    every = [source for folder in (*PACKAGES, "scripts") for source in sources(folder, ".py", ".pyi")]
    modules = [source.module for package in PACKAGES for source in sources(package) if not source.path.endswith("__init__.py")]
    entries = [entry.split(":")[0] for entry in PROJECT["scripts"].values()]
    assert not (offenders := house.unimported(modules, every, entries)), listed(offenders)


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_defined_is_used(package):
    """By name, in the packages, their examples, the public names, scripts, benchmarks or the docs' extensions; not by tests alone."""
    users = [source for folder in (*PACKAGES, "scripts", "benchmarks", "docs") for source in sources(folder, ".py", ".pyi")]
    templates = "".join(source.text for source in sources("fatescreen", ".j2"))
    assert not (offenders := house.unused(sources(package), users, templates, PUBLIC)), listed(offenders)


def test_the_default_number_of_resamples_is_written_once():
    """1023 is also a part of IEEE numbers, in the kernels."""
    modules = [source for package in PACKAGES for source in sources(package) if not source.path.startswith("crt/kernels/")]
    offenders = [line for source in modules for line in house.numbers(source, 1023)]
    assert len(offenders) == 1, listed(offenders)


def source(text, path="crt/a/module.py"):
    return Source(path, textwrap.dedent(text))


LONG = "def f():\n" + "    a = 1\n" * 60
EIGHT = "a, b, c, d, e, f, g"
TWO = '"""One thing, and `another`.\n\nNo `third` one."""'


@pytest.mark.parametrize(
    ("check", "wrong", "right"),
    [
        (house.imports_upward, "def f():\n    from hierarchy.model import x", "from data_prep import x"),
        (house.imports_upward, "import fatescreen.cli", "import crt.engine"),
        (house.imports_upward, "importlib.import_module('hierarchy')", "importlib.import_module('data_prep')"),
        (house.imports_upward, "from tests import ROOT", "from . import b"),
        (house.options_named, "x = 'name it with --covar-key'", "x = 'yes — no -- 3--4 |---|'  # x--y"),
        (house.options_named, '"""Of `--seed`."""', "a = -b - -c"),
        (house.too_many_arguments, f"def f({EIGHT}, *h, i): pass", f"def f({EIGHT}, *, h): pass"),
        (house.too_many_arguments, f"class A:\n    def f(self, {EIGHT}, h, i): pass", f"class A:\n    def f(self, {EIGHT}, h): pass"),
        (house.too_many_arguments, f"def outer():\n    def f({EIGHT}, h, **i): pass", f"def add_burden_covariate({EIGHT}, h, i): pass"),
        (house.too_long, LONG, LONG.removesuffix("    a = 1\n")),
        (house.too_long, "class A:\n" + textwrap.indent(LONG, "    "), 'def prepare_crt_inputs():\n    """' + "\n" * 70 + '    """'),
        (house.room_docstring, '"""Only one."""', TWO),
        (house.room_docstring, "import x", '"""Both of e.g. numpy. And why?\n\nA tour::\n\n    x.\n"""'),
        (house.without_shapes, "def f(x: np.ndarray) -> None: pass", "def f(x: Float[np.ndarray, 'cells programs']) -> None: pass"),
        (house.without_shapes, "def f() -> tuple[int, Tensor | None]: pass", "def f() -> tuple[int, Float[Tensor, ' genes'] | None]: pass"),
        (house.without_shapes, "def f(x) -> None: pass", "def _f(x): pass"),
        (house.without_shapes, "def f(x: int): pass", "class _A:\n    def f(x): pass"),
        (house.without_shapes, "class A:\n    x: 'torch.Tensor'", "class A:\n    x: Int[Tensor, ' cells']\n    def __eq__(self, x): pass"),
        (house.without_shapes, "class A:\n    def f(self, x: Callable[[np.ndarray], int]) -> int: pass", "class A:\n    def f(self, x: int) -> int: pass"),
        (house.without_parameters, "def f(a, b, c, d): pass", "def f(a, b, c): pass"),
        (
            house.without_parameters,
            'def f(a, b, c, *d):\n    """F.\n\n    Parameters\n    ----------\n    a, b\n        Two.\n    c\n        One.\n    """',
            'def f(a, b, c, *d):\n    """F.\n\n    Parameters\n    ----------\n    a, b : int\n        A.\n    c\n        B.\n    *d\n        D.\n    """',
        ),
        (lambda s: house.numbers(s, 1023), "def f(B=1023): pass", "def f(B=1024): '1023'"),
    ],
)
def test_each_check_finds_what_it_looks_for(check, wrong, right):
    assert len(check(source(wrong, "crt/__init__.py" if check is house.room_docstring else "crt/a/module.py"))) >= 1
    assert check(source(right, "crt/__init__.py" if check is house.room_docstring else "crt/a/module.py")) == []


def test_a_stub_may_name_the_shell():
    text = "from fatescreen.figures.qq import qq_plot as qq_plot"
    assert house.imports_upward(source(text, "crt/__init__.pyi")) == [] and house.imports_upward(source(text, "data_prep/__init__.pyi"))


@pytest.mark.parametrize(
    "text",
    [
        "How to mend it",
        "the error is said",
        "said = 1",
        "it says so",
        "MISTRUST",
        "a free\n    fate",
        "# its law",
        "it stands\n# in obs",
        "rests on",
        "begins anew",
    ],
)
def test_idioms_are_found(text):
    assert house.idioms("x.py", f"a\n{text}\nb")[0].startswith("x.py:2 ")


@pytest.mark.parametrize("text", ["we recommend it", "lawful", "D stands for draws", "the restriction", "a freedom of fate", "outlaw", "a mender"])
def test_idioms_are_found_without_false_alarms(text):
    assert house.idioms("x.py", text) == []


def test_unused_things_are_found():
    module = source(
        "LOST = 1\nUSED = 2\ndef lost(): pass\ndef used(): return USED\nclass A:\n    def gone(self): pass\n    def __len__(self): pass", "crt/b.py"
    )
    user = source("from crt.b import used, A\nprint(f'{used()}', '''gone lost''')\n# LOST")
    assert [line.split()[1] for line in house.unused([module], [module, user], "")] == ["LOST", "lost", "gone"]
    assert house.unused([module], [module, user], "{{ LOST }} lost", public=["A"]) == []
    assert house.unimported(["crt.b", "crt.c", "crt.d"], [user, source("from crt import d")], []) == ["crt.c"]
