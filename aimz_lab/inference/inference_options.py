"""The options of guides, optimizers and losses, as far as they can be read from the objects."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version

from numpyro.infer import MCMC, SVI
from numpyro.infer.autoguide import AutoGuide
from numpyro.optim import _NumPyroOptim

from aimz_lab.inference.autoguides import autoguides_in
from aimz_lab.kernel.read_code import contents_of, is_library_function
from aimz_lab.kernel.value_text import plain_text

Option = tuple[str, object]
"""The name of an option and its value; of a library's function the value is its name."""

_CLASS_OPTIONS = ("scale_constraint", "scale_tril_constraint")
_NO_OPTIONS = {
    *("model", "args", "kwargs", "global_guide", "local_guide"),
    *("init_fn", "get_params_fn", "update_with_value"),
}
_OF_OPTAX = "optax_to_numpyro"
_AROUND = {"chain", "with_extra_args_support", _OF_OPTAX}
"""Functions that only put Optax's transformations together."""


def guide_options(guide: Callable | None) -> list[Option]:
    """Return what decides how the parameters of autoguides become draws, such as the rank.

    What only says where a training begins, such as ``init_scale``, is left out.

    Args:
        guide: A guide; of one that is no autoguide there is nothing.

    Example:
        >>> from numpyro.infer.autoguide import AutoLowRankMultivariateNormal
        >>> dict(guide_options(AutoLowRankMultivariateNormal(lambda: None, rank=3)))["rank"]
        3
    """
    found: list[Option] = []
    for i, one in enumerate(autoguides_in(guide)):
        of = f" of part {i}" if one is not guide else ""
        found.append((f"class{of}", type(one)))
        found += [(f"{name}{of}", value) for name, value in _options_of(one)]
    return found


def _options_of(guide: AutoGuide) -> Iterator[Option]:
    kinds = (kind for kind in type(guide).__mro__ if issubclass(kind, AutoGuide))
    names = (name for kind in kinds for name in inspect.signature(kind).parameters)
    for name in dict.fromkeys([*names, *_CLASS_OPTIONS]):
        if name in _NO_OPTIONS or name.startswith("init_") or name.endswith("_init"):
            continue
        attribute = name if hasattr(guide, name) else f"_{name}"
        if hasattr(guide, attribute):
            yield from _plain(name, getattr(guide, attribute))


def optimizer_name(inference: SVI | MCMC) -> tuple[str, str] | None:
    """Return an optimizer's name, and the library in which it has this name; ``None`` for chains.

    Of Optax the name is that of its transformations, which may differ from release to release.

    Args:
        inference: The inference object.

    Example:
        >>> import numpyro
        >>> optimizer_name(SVI(lambda: None, lambda: None, numpyro.optim.Adam(0.1), None))
        ('Adam', 'numpyro.optim')
    """
    optimizer = getattr(inference, "optim", None)
    if optimizer is None:
        return None
    if type(optimizer) is not _NumPyroOptim:
        return type(optimizer).__name__, "numpyro.optim"
    update = optimizer.update_fn
    parts = [each for _, each in _inside("", update, set()) if _is_step(each)]
    names = dict.fromkeys([_name_of(part) for part in parts] or [_name_of(update)])
    of = f"optax {version('optax')}" if _OF_OPTAX in names else update.__module__.partition(".")[0]
    return ", ".join(name for name in names if name not in _AROUND), of


def optimizer_options(inference: SVI | MCMC) -> list[Option]:
    """Return the options of an optimizer and of the loss, such as the step size or its schedule.

    Args:
        inference: The inference object; of chains there are none.

    Example:
        >>> import numpyro
        >>> svi = SVI(lambda: None, lambda: None, numpyro.optim.ClippedAdam(0.1), None)
        >>> options = dict(optimizer_options(svi))
        >>> options["clip_norm"], options["step_size"]
        (10.0, 0.1)
    """
    optimizer, loss = getattr(inference, "optim", None), getattr(inference, "loss", None)
    found: list[Option] = []
    for name, value in getattr(optimizer, "__dict__", {}).items():
        if name not in _NO_OPTIONS:
            found += _plain(name, value)
    if loss is not None:
        found.append(("loss", type(loss)))
        for name, value in getattr(loss, "__dict__", {}).items():
            found += _plain(f"loss.{name}", value)
    return found


def _plain(name: str, value: object) -> Iterator[Option]:
    """Yield an option; of a library's function also what it was made with."""
    for where, each in _inside(name, value, set()):
        yield where, _name_of(each) if _is_library_function(each) else each


def _inside(name: str, value: object, seen: set[int]) -> Iterator[Option]:
    """Yield a value, or the values in it: in collections, and in the closures of libraries."""
    inner: Iterable[Option] = ()
    if isinstance(value, types.ModuleType) or id(value) in seen:
        return
    if plain_text(value) is not None:
        yield name, value
    elif isinstance(value, tuple) and hasattr(value, "update"):  # a transformation of Optax
        inner = [(name, value.update)]
    elif isinstance(value, list | tuple):
        inner = [(name, part) for part in value]
    elif isinstance(value, Mapping):
        inner = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, functools.partial):
        inner = [*((name, part) for part in (value.func, *value.args)), *value.keywords.items()]
    else:
        yield name, value
        if _is_library_function(value):
            inner = zip(
                value.__code__.co_freevars, contents_of(value.__closure__ or ()), strict=True
            )
    for where, part in inner:
        yield from _inside(where, part, seen | {id(value)})


def _is_library_function(value: object) -> bool:
    return isinstance(value, types.FunctionType) and is_library_function(value)


def _name_of(function: types.FunctionType | type) -> str:
    """Return the name of a class, or of a function or the one that made it."""
    return function.__qualname__.partition(".<locals>")[0]


def _is_step(value: object) -> bool:
    """Whether it is a step of an optimizer, or makes one, as ``optax.adam`` does."""
    if not _is_library_function(value):
        return isinstance(value, type) and issubclass(value, _NumPyroOptim)
    is_recipe = value.__qualname__ == value.__name__ and "alias" in value.__module__
    return value.__name__.startswith("update") or is_recipe
