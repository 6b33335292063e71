"""Checks of annotated array shapes and types at every call, for the import hook of jaxtyping."""

import types
from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def of_arrays(hint: Any) -> bool:
    """Whether an annotation holds an array with a shape."""
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(of_arrays, get_args(hint)))


def shapes_checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotated arrays checked; other types are left to mypy, since bad input is to end in an `InputError`."""
    hints = {name: hint for name, hint in getattr(function, "__annotations__", {}).items() if of_arrays(hint)}
    if not isinstance(function, types.FunctionType) or not hints:
        return function
    function.__annotations__ = hints
    return beartype(function)
