"""How docstrings are rendered: single backticks are links or code; result classes have no signature; attributes are labelled as such."""

import dataclasses
import importlib
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment

FEW = 4  # maximum number of required fields of a class that users create themselves
OTHERS = {"anndata", "collections", "matplotlib", "numpy", "pandas", "pathlib", "pyro", "scipy", "torch", "typing"}  # libraries whose index is not linked
PACKAGES = ("data_prep", "hierarchy", "crt")


def homes() -> dict[str, str]:
    """Every public name and where it is documented."""
    return {name: f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__}


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element) -> nodes.Node | None:
    """Link a public name, with or without its module, to its page; shorten types of other libraries; leave other words in backticks as code."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    if target.split(".")[0] in OTHERS:
        return type(contnode)("", target.split(".")[-1])
    home = homes().get(target.split(".")[-1])
    if home and (target == target.split(".")[-1] or target.split(".")[0] in PACKAGES):
        found = env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", home, node, contnode)
        if found is not None:
            return found
    return contnode if node["reftype"] == "obj" else None


def without_signature(app: Sphinx, what: str, name: str, thing: Any, *_: Any) -> tuple[str, None] | None:
    """Hide the signature of a class with many required fields: a function makes it, and its attributes are listed anyway."""
    needed = [f for f in dataclasses.fields(thing) if f.default is f.default_factory is dataclasses.MISSING] if dataclasses.is_dataclass(thing) else []
    return ("", None) if len(needed) > FEW else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register both with the build."""
    app.config.default_role = "py:obj"  # type: ignore[attr-defined]
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", without_signature)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
