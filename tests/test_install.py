"""What `pip install` gives: the commands, and every file of the packages."""

import fnmatch
import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = PROJECT["project"]["scripts"]
SCRIPTS = {
    "simulate-screen": "simulate_screen",
    "fit-hierarchy": "fit_hierarchy",
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


def test_every_package_and_every_file_in_it_is_installed():
    settings = PROJECT["tool"]["setuptools"]
    held = {}
    for top in ("data_prep", "hierarchy", "crt"):
        for path in (p for p in (ROOT / top).rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            held.setdefault(".".join(path.parent.relative_to(ROOT).parts), []).append(path.name)
    assert set(held) == set(settings["packages"])
    data = settings["package-data"]
    left = {(package, name) for package, names in held.items() for name in names if not name.endswith(".py")}
    assert {(p, n) for p, n in left if not any(fnmatch.fnmatch(n, pattern) for pattern in data.get(p, []))} == set()
