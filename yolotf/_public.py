"""Public names: the path people import them from, and the names that arguments had before."""

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


def public(thing: _Public) -> _Public:
    """A class or function as `yolotf.Name`: in tracebacks, reprs and pickles.

    Pickles and messages then outlive a move of the module. `yolotf/__init__.pyi` has to name it.
    """
    thing.__module__ = "yolotf"
    return thing


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line of the program that called yolotf, whatever decorators are in between."""
    level = 2  # of whoever calls this
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == "yolotf":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def also_named(**names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Takes arguments by a second name: that of older loaders, which is as good.

    `@also_named(weights_file="weights")` makes `f(weights_file=a)` mean `f(weights=a)`.
    """
    return _naming(names, lambda called, old, new: None)


def renamed(**new_names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Takes arguments by the names they had before, with a `DeprecationWarning`.

    `@renamed(score="score_threshold")` makes `f(score=0.5)` mean `f(score_threshold=0.5)`.
    """

    def warn(called: str, old: str, new: str) -> None:
        warn_caller(f"{called}(): {old}= is called {new}= now", DeprecationWarning)

    return _naming(new_names, warn)


def renamed_attributes(**new_names: str) -> Callable[[type[_Class]], type[_Class]]:
    """Gives a class's attributes the names they had before, too, with a `DeprecationWarning`.

    `@renamed_attributes(names="class_names")` makes `thing.names` mean `thing.class_names`, and
    `Thing(names=a)` mean `Thing(class_names=a)`.
    """

    def attribute(called: str, old: str, new: str) -> property:
        def value(self: object) -> object:
            warn_caller(f"{called}.{old} is called {new} now", DeprecationWarning)
            return getattr(self, new)

        value.__doc__ = f"Deprecated name of `{new}`."
        return property(value)

    def decorate(cls: type[_Class]) -> type[_Class]:
        cls.__init__ = renamed(**new_names)(cls.__init__)  # type: ignore[method-assign]
        for old, new in new_names.items():
            setattr(cls, old, attribute(cls.__name__, old, new))
        return cls

    return decorate


def _naming(
    names: Mapping[str, str], tell: Callable[[str, str, str], None]
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        called = function.__qualname__.removesuffix(".__init__").removesuffix(".__call__")

        @functools.wraps(function)
        def call(*arguments: _P.args, **options: _P.kwargs) -> _R:
            for old in options.keys() & names.keys():
                new = names[old]
                if new in options:
                    raise TypeError(f"{called}() got both {old}= and {new}=, which are the same")
                tell(called, old, new)
                options[new] = options.pop(old)
            return function(*arguments, **options)

        return call

    return decorate
