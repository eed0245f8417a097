"""What every public callable does: misspelt keywords named, tracebacks short, warnings once."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from aimz_lab.dropped_interrupts import dropped_interrupts_come_again
from aimz_lab.errors import AimzLabError, AimzLabWarning, CallError
from aimz_lab.spelling import did_you_mean
from aimz_lab.tracebacks import is_warning_once, shorten, warning_once

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_OURS = (AimzLabError, AimzLabWarning)
_SPECIAL = (
    *("__init__", "__call__", "__getitem__", "__iter__"),
    *("__await__", "__enter__", "__exit__"),
)


@overload
def public(owner: C) -> C: ...
@overload
def public(owner: Callable[P, R]) -> Callable[P, R]: ...
def public(owner: Any) -> Any:
    """Decorate a function, or all public methods of a class, that users call.

    A keyword that it does not have becomes a :class:`~aimz_lab.errors.CallError` that names the
    nearest one; an argument that has to have a name, one that says so. Tracebacks of what it raises
    end at the user's line, see :func:`~aimz_lab.tracebacks.shorten`. An interrupt is not lost in a
    finalizer, and without words it says which call it ended. A call gives the same warning once.

    Args:
        owner: The function or class.

    Returns:
        The function, wrapped; or the class itself.
    """
    if not inspect.isclass(owner):
        return _wrapped(owner)
    for name, member in list(vars(owner).items()):
        if not name.startswith(("_", "on_")) or name in _SPECIAL:
            new = _member(member)
            if new is not member:
                setattr(owner, name, new)
    return owner


def _member(member: object) -> object:
    """A method, property, class or static method, wrapped; anything else as it is."""
    if inspect.isfunction(member):
        return _wrapped(member)
    if isinstance(member, (classmethod, staticmethod)):
        return type(member)(_wrapped(member.__func__))
    if isinstance(member, property):
        parts = (member.fget, member.fset, member.fdel)
        return property(*(part and _wrapped(part) for part in parts), doc=member.__doc__)
    return member


def _wrapped(function: Callable) -> Callable:
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def walk(*args: Any, **kwargs: Any) -> Any:
            handled = sys.exception()
            try:
                return (yield from function(*args, **kwargs))
            except BaseException as error:
                shorten(error, handled, _OURS)
                raise

        return walk

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        handled = sys.exception()
        try:
            if is_warning_once():
                return function(*args, **kwargs)
            with warning_once(), dropped_interrupts_come_again():
                return function(*args, **kwargs)
        except BaseException as error:
            if isinstance(error, TypeError) and error.__traceback__.tb_next is None:
                _explain_unknown(function, kwargs)
                _explain_unnamed(function, len(args))
                error.__traceback__ = None
            is_bare = isinstance(error, KeyboardInterrupt) and not error.args
            if is_bare and not is_warning_once():  # the call that the user wrote, none within
                error.args = (f"{_written_name(function)} was interrupted.",)
            shorten(error, handled, _OURS)
            raise

    return call


def keyword_names(function: Callable) -> set[str]:
    """Names of the arguments that a function takes by keyword alone."""
    found = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in found if parameter.kind is parameter.KEYWORD_ONLY}


def _explain_unknown(function: Callable, given: Mapping[str, Any]) -> None:
    """Raise an error for a keyword that a function does not have; nothing for another misfit."""
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.POSITIONAL_ONLY and name not in ("self", "cls")
    ]
    unknown = [name for name in given if name not in known]
    if not unknown:
        return
    name, meant = _written_name(function), did_you_mean(unknown[0], known)
    msg = f"{name} has no keyword {unknown[0]!r}.{meant} It takes {', '.join(known) or 'none'}."
    raise CallError(msg) from None


def _explain_unnamed(function: Callable, n_given: int) -> None:
    """Raise an error for more arguments without a name than a function takes; else nothing."""
    parameters = inspect.signature(function).parameters.values()
    places = [p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
    is_open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if is_open or n_given <= len(places):
        return
    takes = ", ".join(name for name in places if name not in ("self", "cls"))
    rest = next((p.name for p in parameters if p.kind is p.KEYWORD_ONLY), "")
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    owner = _written_name(function)
    if takes and rest:
        advice = f"takes only {takes} without a name; give the others by name, such as {rest}=."
    elif takes or not rest:
        advice = f"takes {takes or 'no arguments'}{', and no more' * bool(takes)}."
    else:
        example = "X=..., y=..." if any_name else f"{rest}=..."
        advice = f"takes its arguments by name: {owner}({example})."
    raise CallError(f"{owner} {advice}") from None


def _written_name(function: Callable) -> str:
    """The name that a user's line has for a function: of ``__init__`` the class."""
    return function.__qualname__.removesuffix(".__init__").rpartition("<locals>.")[2]
