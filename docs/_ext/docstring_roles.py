"""Single backticks in docstrings: a link where they name something public, else code."""

import importlib
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PACKAGES = ("data_prep", "hierarchy", "crt")


def homes() -> dict[str, str]:
    """Every public name → where it is documented."""
    return {name: f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__}


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element) -> nodes.Node | None:
    """A bare public name, or one of its module, goes to its page; other words in backticks stay code."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    home = homes().get(target.split(".")[-1])
    if home and (target == target.split(".")[-1] or target.split(".")[0] in PACKAGES):
        found = env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, contnode)
        if found is not None:
            return found
    return contnode if node["reftype"] == "obj" else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Single backticks are references to Python names."""
    app.config.default_role = "py:obj"  # type: ignore[attr-defined]
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
