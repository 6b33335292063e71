"""Public names of a package that are imported when they are first used, so that importing the package stays cheap."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def exports(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, from its stub `__init__.pyi`.

    Type checkers read the same stub, so each name is written once. A name is imported when it is first used, and then kept (PEP 562).

    Parameters
    ----------
    package
        Name of the package, its `__name__`.
    file
        Its `__file__`.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    home = {alias.asname or alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(str(home[name])), name)
        setattr(importlib.import_module(package), name, value)
        return value

    return get, lambda: sorted(home), sorted(home)
