"""The public names of the packages: docstrings, examples, types. `fatescreen` is used through its commands; of it, the examples are run."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import crt
import data_prep
import fatescreen
import hierarchy
from tests.typed import user

PACKAGES = (data_prep, hierarchy, crt)
CONSTANTS = {"data_prep.NTC_LABELS", "crt.SAMPLERS"}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PUBLIC = {f"{package.__name__}.{name}": getattr(package, name, None) for package in PACKAGES for name in package.__all__}
OBJECTS = {name: thing for name, thing in PUBLIC.items() if name not in CONSTANTS}


def modules():
    for package in (*PACKAGES, fatescreen):
        yield package.__name__
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


def sections(docstring):
    """The text of each numpydoc section by its heading."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(section):
    """The names that a section of parameters or attributes describes, each with a description that is not empty."""
    lines = section.split("\n")
    heads = [i for i, line in enumerate(lines) if line and not line.startswith(" ")]
    bare = [lines[i] for i in heads if i + 1 >= len(lines) or not lines[i + 1].startswith("    ")]
    assert not bare, f"no description below: {bare}"
    return [name.strip().lstrip("*") for i in heads for name in lines[i].split(" : ")[0].split(",")]


def examples(docstring, name, globs):
    return doctest.DocTestParser().get_doctest(docstring, globs, name, None, None)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_names_are_unique_and_there(package):
    assert len(package.__all__) == len(set(package.__all__))
    assert all(hasattr(package, name) for name in package.__all__)
    assert package.__doc__ and "A tour::" in package.__doc__


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_name_is_described(name):
    thing = OBJECTS[name]
    found = sections(thing.__doc__ or "")
    assert ">>>" in found.get("Examples", ""), f"{name} has no example"
    if inspect.isclass(thing):
        fields = [f for f in getattr(thing, "__dataclass_fields__", {}) if not f.startswith("_")]
        assert documented(found.get("Attributes", "")) == fields or not fields
        public = [(n, m) for n, m in vars(thing).items() if not n.startswith("_") and (callable(m) or isinstance(m, (property, classmethod)))]
        assert all(inspect.getdoc(member) for _, member in public)
        return
    wanted = list(inspect.signature(thing).parameters)
    assert documented(found.get("Parameters", "")) == wanted
    assert "Returns" in found or inspect.signature(thing).return_annotation in (None, "None")


@pytest.mark.parametrize("name", OBJECTS)
def test_examples_run_when_pasted(name):
    """With nothing imported beforehand, so that a reader can paste them."""
    test = examples(OBJECTS[name].__doc__, name, {})
    shown = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=shown.append)
    assert not shown, "".join(shown)


def test_examples_of_other_functions_run():
    skip = {id(thing) for thing in OBJECTS.values()}
    runner, shown, n = doctest.DocTestRunner(optionflags=FLAGS), [], 0
    for name in modules():
        module = importlib.import_module(name)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module):
            thing = getattr(module, test.name.removeprefix(f"{name}."), None)
            if test.examples and id(thing) not in skip:
                runner.run(test, out=shown.append)
                n += 1
    assert n and not shown, "".join(shown)


def test_sections_have_no_description_on_the_line_of_the_name():
    """`name : text` would be read as a type."""
    wrong = []
    for name in modules():
        module = importlib.import_module(name)
        own = [thing for thing in vars(module).values() if getattr(thing, "__module__", None) == name and getattr(thing, "__doc__", None)]
        for thing in own:
            for heading, text in sections(thing.__doc__).items():
                if heading in ("Parameters", "Attributes"):
                    wrong += [f"{name}.{thing.__name__}: {line}" for line in text.split("\n") if re.match(r"[\w, ]+ : .* ", line)]
    assert not wrong


def test_a_users_typed_script_runs(tmp_path):
    effects, tests = user.main(tmp_path)
    assert list(effects.columns) == ["gene", "betahat_d0", "betahat_d1", "se_d0", "se_d1"] and len(tests) == 24
