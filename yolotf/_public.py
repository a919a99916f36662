"""Decorators of the public API: import paths, and deprecated names of arguments."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

_Public = TypeVar("_Public", bound=Any)
_Class = TypeVar("_Class")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def public(exported: _Public) -> _Public:
    """Makes a class or function appear as `yolotf.Name` in tracebacks, reprs and pickles.

    Pickles then still load when its module moves. `yolotf/__init__.pyi` must contain the name.
    """
    exported.__module__ = "yolotf"
    return exported


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line of the user's code that called yolotf, past any frames of yolotf."""
    level = 2  # the caller of this function
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == "yolotf":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def also_named(**names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorates a function to accept arguments by a second name, that of older loaders.

    `@also_named(weights_file="weights")` makes `f(weights_file=a)` mean `f(weights=a)`.
    """
    return _accepting(names, lambda function_name, old, new: None)


def renamed(**new_names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorates a function to accept old names of arguments, with a `DeprecationWarning`.

    `@renamed(score="score_threshold")` makes `f(score=0.5)` mean `f(score_threshold=0.5)`.
    """

    def warn(function_name: str, old: str, new: str) -> None:
        warn_caller(f"{function_name}(): {old}= is called {new}= now", DeprecationWarning)

    return _accepting(new_names, warn)


def renamed_attributes(**new_names: str) -> Callable[[type[_Class]], type[_Class]]:
    """Decorates a class to accept old names of attributes, with a `DeprecationWarning`.

    `@renamed_attributes(names="class_names")` makes `score.names` mean `score.class_names`, and
    `Score(names=a)` mean `Score(class_names=a)`.
    """

    def attribute(class_name: str, old: str, new: str) -> property:
        def value(self: object) -> object:
            warn_caller(f"{class_name}.{old} is called {new} now", DeprecationWarning)
            return getattr(self, new)

        value.__doc__ = f"Deprecated name of `{new}`."
        return property(value)

    def decorate(cls: type[_Class]) -> type[_Class]:
        cls.__init__ = renamed(**new_names)(cls.__init__)  # type: ignore[method-assign]
        for old, new in new_names.items():
            setattr(cls, old, attribute(cls.__name__, old, new))
        return cls

    return decorate


def _accepting(
    new_names: Mapping[str, str], report: Callable[[str, str, str], None]
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        function_name = function.__qualname__.removesuffix(".__init__").removesuffix(".__call__")

        @functools.wraps(function)
        def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
            for old in options.keys() & new_names.keys():
                new = new_names[old]
                if new in options:
                    raise TypeError(
                        f"{function_name}() got both {old}= and {new}=, which are the same"
                    )
                report(function_name, old, new)
                options[new] = options.pop(old)
            return function(*arguments, **options)

        return call

    return decorate
