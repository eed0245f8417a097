"""Kernel arguments that are named like a keyword of the method they are passed to."""

from __future__ import annotations

import functools
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Union

import jax

from aimz_lab.data import ArrayDataset, ArrayLoader, is_batches
from aimz_lab.data.tables import is_table
from aimz_lab.errors import AimzLabWarning, CallError
from aimz_lab.kernel.signature import KernelSignature, kernel_parameters
from aimz_lab.spelling import near_names, with_words
from aimz_lab.tracebacks import warn
from aimz_lab.types import callable_name


class OwnKeywords:
    """Which of a kernel's arguments a method has a keyword for.

    A keyword goes to the method, and ``kernel_kwargs`` to the kernel. Where the kernel needs the
    argument too, or the method cannot mean the value, the call is refused; where both could be
    meant, there is a warning.

    Args:
        signature: The kernel.
        of_table: Arguments that a call with a data frame makes from it.
    """

    def __init__(self, signature: KernelSignature, of_table: Collection[str] = ()) -> None:
        self._of_table = frozenset(of_table)
        parameters = kernel_parameters(signature.kernel)
        passed = (signature.input, signature.output)
        self._kernel = callable_name(signature.kernel)
        self._required = {
            name: parameter.default is parameter.empty
            for name, parameter in parameters.items()
            if name not in passed
        }
        self._takes = list(parameters)
        self._told: set[str] = set()

    def check(self, method: Callable, given: Mapping[str, Any]) -> None:
        """Check the keywords of a call.

        Args:
            method: The method; its input is called ``X``.
            given: Its arguments by name, with ``kernel_kwargs`` among them.

        Raises:
            CallError: If the kernel needs an argument of that name, or the value is none that the
                method takes; or if neither kernel nor method has a keyword that is given.

        Warns:
            AimzLabWarning: Once for a name, if a value may be meant for the kernel.
        """
        self._check_known(method, given)
        own = self._required.keys() & _keywords(method).keys()
        if not own:
            return
        for name in sorted(own - set(given.get("kernel_kwargs") or {})):
            self._check(name, method.__name__, _keywords(method)[name], given)

    def _check_known(self, method: Callable, given: Mapping[str, Any]) -> None:
        for name in given.get("kwargs") or ():
            if name in self._takes:
                continue
            own = [*self._takes, *_keywords(method), "kernel_kwargs"]
            others = _options_of(type(given.get("self")))
            near = with_words(name, own) or near_names(name, [*own, *(others.keys() - set(own))])
            hint = ""
            if name in others:
                hint = _elsewhere(name, others)
            elif near:
                hint = _meant(near[0]) if near[0] in own else _elsewhere(near[0], others)
            msg = (
                f"The kernel {self._kernel!r} has no argument {name!r}, and {method.__name__} no "
                f"option of that name. The kernel takes {', '.join(self._takes)}.{hint}"
            )
            raise CallError(msg)

    def _check(
        self, name: str, method: str, keyword: inspect.Parameter, given: Mapping[str, Any]
    ) -> None:
        value = given.get(name, keyword.default)
        is_default = value is keyword.default
        fields = _fields(given.get("X"))
        if fields is not None and name in fields:
            return
        if name in self._of_table and is_table(given.get("X")):
            return
        how = f"pass the kernel's as kernel_kwargs={{{name!r}: ...}}"
        if self._required[name] and fields is not None:
            msg = (
                f"The kernel {self._kernel!r} needs the argument {name!r}, and {name}= is a "
                f"keyword of {method} itself; {how}."
            )
            raise CallError(msg)
        if is_default:
            return
        if not _accepts(keyword.annotation, value):
            msg = (
                f"{name}= is a keyword of {method}, which does not take {_described(value)}. The "
                f"kernel {self._kernel!r} has an argument of that name as well; {how}."
            )
            raise CallError(msg)
        if name not in self._told:
            self._told.add(name)
            warn(
                f"{name}={_described(value)} goes to {method}, which has a keyword of that name, "
                f"and the kernel {self._kernel!r} gets the default of its argument {name!r}. If "
                f"it is meant for the kernel, {how}; to have no doubt, pass both.",
                AimzLabWarning,
            )


def _meant(name: str) -> str:
    return f" Did you mean {name!r}?"


def _elsewhere(name: str, options: Mapping[str, list[str]]) -> str:
    """Say which methods have an option that this one lacks."""
    if name == "num_samples":
        return " The draws are those of the posterior: im.sample(num_samples=...) makes others."
    return f" It is an option of {', '.join(f'im.{method}' for method in options[name][:3])}."


@functools.cache
def _options_of(model: type) -> dict[str, list[str]]:
    """The public methods of a model by the names of their options."""
    found: dict[str, list[str]] = {}
    for method, function in vars(model).items():
        if inspect.isfunction(function) and not method.startswith("_"):
            for name, parameter in inspect.signature(function).parameters.items():
                if parameter.kind is parameter.KEYWORD_ONLY:
                    found.setdefault(name, []).append(method)
    return found


@functools.cache
def _keywords(method: Callable) -> dict[str, inspect.Parameter]:
    """The keywords of a method, with their types."""
    hints = typing.get_type_hints(method)
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "kernel_kwargs"
    }


def _fields(inputs: Any) -> Collection[str] | None:
    """Fields of the input beside an array; ``None`` for a source that does not say."""
    if isinstance(inputs, Mapping):
        return inputs.keys()
    dataset = inputs.dataset if isinstance(inputs, ArrayLoader) else inputs
    if isinstance(dataset, ArrayDataset):
        return dataset.fields
    return None if is_batches(inputs) else ()


def _accepts(hint: Any, value: Any) -> bool:
    """Whether a value can be of a type; yes where that is not known."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_accepts(part, value) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if hint is int or hint is float:
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is type(None):
        return value is None
    if isinstance(value, numbers.Number) or getattr(value, "shape", None):  # an array or a table
        return hint is Any or (hint is jax.Array and isinstance(value, jax.Array))
    if origin in (Iterable, Sequence):
        is_many = isinstance(value, origin)
        entries = value if is_many and isinstance(value, (list, tuple)) else ()
        return is_many and all(_accepts(parts[0], each) for each in entries)
    return isinstance(value, Mapping) if origin is Mapping else True


def _described(value: Any) -> str:
    text = repr(value)
    shape = getattr(value, "shape", None)
    if shape:
        return f"an array of shape {tuple(shape)}"
    return text if len(text) <= 60 else f"a {type(value).__name__}"
