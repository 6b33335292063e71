"""One definition of the options that several public functions share."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def shared_options(options: Any, source: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Replace `**options` of a function by options of `source`, with their types, defaults and descriptions.

    Callers, `help` and the documentation see each option; the function is called with all of them.

    Parameters
    ----------
    options
        A `TypedDict` with the names of the options, by which the function annotates its `**options`.
    source
        The function or dataclass that defines and describes the options.
    """
    defined = inspect.signature(source).parameters
    described = dict(re.findall(r"^(\w+)\n((?:    .*\n)+)", inspect.cleandoc(source.__doc__ or "") + "\n", re.MULTILINE))
    entries = "".join(f"{name}\n{described.get(name, '')}" for name in options.__annotations__)

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        added = [defined[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in options.__annotations__]
        signature = own.replace(parameters=[*parameters, *added])

        @functools.wraps(function)
        def with_defaults(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            return function(*given.args, **given.kwargs)

        with_defaults.__doc__ = re.sub(r"^\*\*\w+\n(?:    .*\n)+", lambda _: entries, inspect.cleandoc(function.__doc__ or ""), flags=re.MULTILINE)
        with_defaults.__signature__ = signature  # type: ignore[attr-defined]
        return with_defaults

    return decorated
