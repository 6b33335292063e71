"""Checks of the source against the rules of the tree: each takes sources and returns its offenders, one line each."""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

LIBRARIES = ("data_prep", "hierarchy", "crt")
PACKAGES = (*LIBRARIES, "fatescreen")
MAY_IMPORT = {
    "data_prep": {"data_prep"},
    "hierarchy": {"data_prep", "hierarchy"},
    "crt": {"data_prep", "crt"},
    "fatescreen": {"data_prep", "hierarchy", "crt", "fatescreen"},
    "scripts": {"data_prep", "hierarchy", "crt", "fatescreen"},
}
NAMES_OF_THE_SHELL = ("hierarchy/__init__.pyi", "crt/__init__.pyi")  # users know the reports, writers and figures from these packages
LONG_SIGNATURES = {
    "prepare_crt_inputs",
    "run_one_gene_union_crt",
    "run_all_genes_union_crt",
    "compute_ntc_group_null_pvals_parallel",
    "crt_pvals_for_ntc_groups_ensemble",
    "crt_pvals_for_ntc_groups_ensemble_skew",
    "stratified_permutation_sampler",
    "add_burden_covariate",
    "make_sceptre_style_synth",
    "qq_plot_ntc_pvals",
    "fit_mash",
}
MOST_ARGUMENTS, MOST_LINES, MOST_FILES = 8, 60, 16
CALLED_BY_LIBRARIES = {"forward", "backward", "settings_customise_sources"}  # torch calls them, and pydantic-settings
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A Python file: its path from the root of the repository, and its text."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text)

    @property
    def package(self) -> str:
        """Its top folder."""
        return self.path.split("/")[0]

    @property
    def module(self) -> str:
        """Its name in an import."""
        return ".".join(Path(self.path).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def sources(folder: str, *suffixes: str) -> tuple[Source, ...]:
    """Every source below a folder; with no suffix given, .py files."""
    found = sorted(p for suffix in suffixes or (".py",) for p in (ROOT / folder).rglob(f"*{suffix}") if "__pycache__" not in p.parts)
    return tuple(Source(p.relative_to(ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in found)


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function of a file, nested ones and methods too, with its dotted name."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, (*Function.__args__, ast.ClassDef)):
            name = f"{prefix}{node.name}."
            if not isinstance(node, ast.ClassDef):
                yield name[:-1], node
        yield from functions(node, name)


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function, bool]]:
    """Functions of a module and methods of its classes whose names have no leading underscore; whether each is a method with self or cls."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node, False
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, Function) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member, "staticmethod" not in map(ast.unparse, member.decorator_list)


def arguments(function: Function) -> list[ast.arg]:
    """All arguments; self and cls too."""
    given = function.args
    return [a for a in [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg] if a is not None]


def own_arguments(function: Function) -> list[ast.arg]:
    """All arguments but self and cls."""
    return [a for i, a in enumerate(arguments(function)) if i or a.arg not in ("self", "cls")]


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and module of every import in a file, also inside functions and by `import_module` of a plain name."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = source.module.split(".")
            package = package if Path(source.path).stem == "__init__" else package[:-1]
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])]) if node.level else str(node.module)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)


def imports_upward(source: Source) -> list[str]:
    """Imports of the project's own code that do not run the allowed way."""
    own = {*PACKAGES, "scripts", "tests", "benchmarks"}
    allowed = MAY_IMPORT[source.package] | ({"fatescreen"} if source.path in NAMES_OF_THE_SHELL else set())
    return [f"{source.path}:{line} imports {name}" for line, name in imports(source) if (top := name.split(".")[0]) in own and top not in allowed]


def options_named(source: Source) -> list[str]:
    """Lines that name a command-line option."""
    lines = enumerate(source.text.splitlines(), 1)
    return [f"{source.path}:{n} {name}" for n, line in lines for name in re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", line)]


def too_many_arguments(source: Source) -> list[str]:
    """Functions that take more arguments than allowed."""
    counted = ((name, node, len(own_arguments(node))) for name, node in functions(source.tree))
    return [f"{source.path}:{node.lineno} {name} takes {n}" for name, node, n in counted if n > MOST_ARGUMENTS and node.name not in LONG_SIGNATURES]


def lines_of(function: Function) -> int:
    """Lines from `def` to the end; without the docstring for the named long signatures."""
    first, n = function.body[0], function.end_lineno - function.lineno + 1
    if function.name in LONG_SIGNATURES and ast.get_docstring(function) is not None:
        n -= first.end_lineno - first.lineno + 1
    return n


def too_long(source: Source) -> list[str]:
    """Functions that are longer than allowed."""
    counted = ((name, node, lines_of(node)) for name, node in functions(source.tree))
    return [f"{source.path}:{node.lineno} {name} has {n} lines" for name, node, n in counted if n > MOST_LINES]


def sentences(text: str) -> list[str]:
    """The sentences of a text."""
    return [part for part in re.split(r"(?<=[.?!])\s+(?=[A-Z`])", text.strip()) if part]


def room_docstring(source: Source) -> list[str]:
    """A room's `__init__.py` whose docstring is not two sentences, apart from a tour of the package."""
    text = (ast.get_docstring(source.tree) or "").split("A tour::")[0]
    found = sentences(text)
    return [] if len(found) == 2 and all(part.endswith((".", "?")) for part in found) else [f"{source.path}: {len(found)} sentences"]


def bare_arrays(annotation: ast.AST | None) -> bool:
    """Whether an annotation names an array type without a shape."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return bare_arrays(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple) and len(annotation.slice.elts) == 2:
        kind, shape = annotation.value, annotation.slice.elts[1]
        if isinstance(kind, ast.Name) and kind.id in SHAPED and isinstance(shape, ast.Constant) and isinstance(shape.value, str):
            return False
    if isinstance(annotation, ast.Name):
        return annotation.id in ("Tensor", "ndarray", "NDArray", "ArrayLike")
    if isinstance(annotation, ast.Attribute):
        return annotation.attr in ("Tensor", "ndarray", "NDArray", "ArrayLike", "matrix")
    return annotation is not None and any(map(bare_arrays, ast.iter_child_nodes(annotation)))


SHAPED = {
    "Float",
    "Float32",
    "Float64",
    "Int",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "UInt",
    "UInt8",
    "UInt32",
    "UInt64",
    "Integer",
    "Bool",
    "Num",
    "Real",
    "Shaped",
}


def without_shapes(source: Source, allowed: Iterable[str] = ()) -> list[str]:
    """Arguments and returns of public functions, and fields of public classes, that are arrays without a shape or have no type."""
    found = []
    for name, node, method in public_functions(source.tree):
        for argument in arguments(node)[method:]:
            if argument.annotation is None:
                found.append((node.lineno, f"{name}({argument.arg}) has no type"))
            elif bare_arrays(argument.annotation):
                found.append((node.lineno, f"{name}({argument.arg}: {ast.unparse(argument.annotation)})"))
        if node.returns is None or bare_arrays(node.returns):
            found.append((node.lineno, f"{name} -> {'no type' if node.returns is None else ast.unparse(node.returns)}"))
    for cls in source.tree.body:
        if isinstance(cls, ast.ClassDef) and not cls.name.startswith("_"):
            for field in cls.body:
                if isinstance(field, ast.AnnAssign) and bare_arrays(field.annotation):
                    found.append((field.lineno, f"{cls.name}.{ast.unparse(field.target)}: {ast.unparse(field.annotation)}"))
    return [f"{source.path}:{line} {text}" for line, text in found if not any(text.startswith(name) for name in allowed)]


def section(docstring: str, heading: str) -> str | None:
    """The text of a numpydoc section; None where there is none."""
    found = re.search(rf"^{heading}\n-+\n(.*?)(?=^\w[\w ]*\n---|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return None if found is None else found.group(1)


def without_parameters(source: Source) -> list[str]:
    """Public functions of four or more arguments whose docstring does not describe each of them."""
    found = []
    for name, node, _ in public_functions(source.tree):
        names = [argument.arg for argument in own_arguments(node)]
        if len(names) < 4 or node.name in CALLED_BY_LIBRARIES:
            continue
        text = section(ast.get_docstring(node) or "", "Parameters")
        described = {part.strip().lstrip("*") for line in re.findall(r"^(\S.*)\n {4}\S", text or "", re.MULTILINE) for part in line.split(" : ")[0].split(",")}
        if lacking := [n for n in names if n not in described]:
            found.append(f"{source.path}:{node.lineno} {name}: {'no section' if text is None else ', '.join(lacking)}")
    return found


BANNED = {
    r"mend(s|ed|ing)?": "fix; how to fix it",
    r"(un)?said|says|saying": "report, message, text, label",
    r"mistrust\w*": "interpret with caution",
    r"free fates?": "non-reference fate",
    r"laws?": "distribution",
    r"(it|they|which|that|what) stands?(?! for| out)|stands? (in|on|at|as|beside|above|below|there|here|beneath)|stood": "is, is stored in, appears on",
    r"rest(s|ed|ing)? (up)?on": "is based on",
    r"what is known of": "the information about",
    r"(at most )?so many": "maximum number of",
    r"anew": "restarts, again",
    r"(go|goes|went|going) on": "continues, resumes",
    r"the p that counts": "the p-value used for inference",
    r"would have been seen": "minimum detectable rate",
    r"composition of nothing": "total usage is zero",
    r"effective\sfraction": "effective sample size ratio",
}
GAP = r"(?:\s+(?:[#>*|] *)?|_)"  # between the words of a phrase, also on two lines or in a name
IDIOM = re.compile(f"(?<![A-Za-z0-9])(?:{'|'.join(f'(?:{pattern.replace(chr(32), GAP)})' for pattern in BANNED)})(?![A-Za-z0-9])", re.IGNORECASE)


def idioms(path: str, text: str) -> list[str]:
    """Words that are not plain technical English, in code, comments and text."""
    return [f"{path}:{text.count(chr(10), 0, word.start()) + 1} {' '.join(word.group().split())}" for word in IDIOM.finditer(text)]


def unimported(modules: Iterable[str], importers: Iterable[Source], entries: Iterable[str]) -> list[str]:
    """Modules that no source imports and that are no entry points."""
    named = {part for source in importers for _, name in imports(source) for part in (name, name.rpartition(".")[0])}
    return [name for name in modules if name not in named and name not in set(entries)]


def defined(source: Source, public: Iterable[str] = ()) -> Iterator[tuple[int, str]]:
    """Functions, classes, methods and constants that a file defines, without methods that a decorator registers and public methods of `public` classes."""
    for node in source.tree.body:
        if isinstance(node, (*Function.__args__, ast.ClassDef)):
            yield node.lineno, node.name
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                open_to_users = node.name in public and isinstance(member, Function) and not member.name.startswith("_")
                if (
                    isinstance(member, Function)
                    and not open_to_users
                    and not any("validator" in ast.unparse(d) or "overrid" in ast.unparse(d) for d in member.decorator_list)
                ):
                    yield member.lineno, member.name
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((node.lineno, name.id) for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def uses(text: str) -> Iterator[str]:
    """Every name in a Python text but those that `def` and `class` give; the names in f-strings too."""
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and before not in ("def", "class"):
            yield token.string
        elif token.type == tokenize.STRING and token.string[:1] in "fF":  # one token before Python 3.12
            yield from re.findall(r"[A-Za-z_]\w*", token.string)
        before = token.string


def unused(definers: Iterable[Source], users: Iterable[Source], also: str = "", public: Iterable[str] = ()) -> list[str]:
    """What is defined and never used by name in `users`, nor a word of the text `also`, nor a public method of a class whose name is `public`."""
    counted: dict[str, int] = {}
    for source in users:
        for name in uses(source.text):
            counted[name] = counted.get(name, 0) + 1
    words = set(re.findall(r"\w+", also))
    found = []
    for source in definers:
        for line, name in defined(source, public):
            own = sum(1 for n in ast.walk(source.tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.id == name)
            special = name.startswith("__") or name in words or name in CALLED_BY_LIBRARIES
            if not special and counted.get(name, 0) <= own:
                found.append(f"{source.path}:{line} {name}")
    return found


def numbers(source: Source, value: int) -> list[str]:
    """Where a number is written."""
    found = (node for node in ast.walk(source.tree) if isinstance(node, ast.Constant))
    return [f"{source.path}:{node.lineno}" for node in found if type(node.value) is int and node.value == value]
