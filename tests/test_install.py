"""What `pip install` gives: the commands, and every file of the packages."""

import fnmatch
import importlib
import tomllib

import pytest

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = PROJECT["project"]["scripts"]
SCRIPTS = {
    "simulate-screen": "simulate_screen",
    "fit-hierarchy": "fit_hierarchy",
    "call-hits": "call_hits",
    "score-daywise": "score_daywise",
    "run-crt": "run_crt",
    "diagnose-null": "run_global_null_diagnostics",
}


def test_the_commands_are_those_of_the_scripts():
    assert COMMANDS.keys() == SCRIPTS.keys()
    assert {p.stem for p in (ROOT / "scripts").glob("*.py")} == set(SCRIPTS.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs_what_its_script_runs(command):
    module, function = COMMANDS[command].split(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert f"from {module} import {function}\n" in (ROOT / "scripts" / f"{SCRIPTS[command]}.py").read_text()


def test_every_file_of_the_packages_is_installed():
    """Modules by their packages, which setuptools finds; other files by the patterns of package data."""
    settings = PROJECT["tool"]["setuptools"]
    tops = [pattern.removesuffix("*") for pattern in settings["packages"]["find"]["include"]]
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"} == set(tops)
    data, lost = settings["package-data"], []
    for path in (p for top in tops for p in (ROOT / top).rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        home = next(folder for folder in path.parents if (folder / "__init__.py").exists())
        package, name = ".".join(home.relative_to(ROOT).parts), str(path.relative_to(home))
        if path.suffix != ".py" and not any(fnmatch.fnmatch(name, pattern) for pattern in [*data["*"], *data.get(package, [])]):
            lost.append(str(path))
    assert not lost
