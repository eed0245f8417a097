"""The lines of Python that write moved priors into a kernel."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from aimz_lab.lab.explorers.moved_priors import Numbers
from aimz_lab.lab.explorers.prior_sites import PriorSite
from aimz_lab.lab.explorers.remade import Path, arguments_of

_FORMS = ("Probs", "Logits")
_AROUND = ("expand", "to_event", "mask")


def prior_lines(sites: Mapping[str, PriorSite], moved: Numbers) -> str:
    """Return the ``numpyro.sample`` lines of sites whose numbers were moved.

    They are the kernel's own, with other numbers; where its text cannot be had or be understood,
    they are written anew.

    Args:
        sites: The priors of the kernel.
        moved: The new numbers.
    """
    blocks = [_block(sites[name], its) for name, its in moved.items()]
    return "\n".join(blocks) or "# The priors are as the kernel has them."


def _block(site: PriorSite, numbers: Mapping[Path, Any]) -> str:
    statement = site.statement
    made = _rewritten(site, numbers) or _made(site, numbers)
    if not (made and statement.is_direct):
        said = ", ".join(f"{path[-1]}={number!r}" for path, number in numbers.items())
        return f"# {site.name!r} ~ {site.family} with {said}"
    shape = f", sample_shape={statement.sample_shape}" if statement.sample_shape else ""
    indent, lines = "", []
    for name, size, dim in statement.plates:
        lines.append(f"{indent}with numpyro.plate({name!r}, {size}, dim={dim}):")
        indent += "    "
    sample = f"numpyro.sample({site.name!r}, {made}{shape})"
    return "\n".join([*lines, f"{indent}{statement.target}{sample}"])


def _rewritten(site: PriorSite, numbers: Mapping[Path, Any]) -> str:
    """Return the kernel's expression with other numbers; empty if it cannot be understood."""
    if not site.statement.written:
        return ""
    tree = ast.parse(site.statement.written, mode="eval")
    call = tree.body
    while isinstance(call, ast.Call) and getattr(call.func, "attr", None) in _AROUND:
        call = call.func.value
    if not isinstance(call, ast.Call) or any(isinstance(a, ast.Starred) for a in call.args):
        return ""
    maker = getattr(dist, ast.unparse(call.func).rpartition(".")[2], None)
    if maker is None or any(keyword.arg is None for keyword in call.keywords):
        return ""
    names = list(inspect.signature(maker).parameters)
    for path, number in numbers.items():
        if path[-1] not in names:
            return ""
        _put(call, names, path[-1], number, site.shapes.get(path, ()))
    return ast.unparse(tree)


def _put(
    call: ast.Call, names: list[str], name: str, number: float, shape: tuple[int, ...]
) -> None:
    """Put a number in the place of an argument, in the shape that the argument had."""
    at = names.index(name)
    keyword = next((one for one in call.keywords if one.arg == name), None)
    before = call.args[at] if at < len(call.args) else keyword.value if keyword else None
    is_array = shape != () and not isinstance(before, ast.Constant | ast.UnaryOp)
    text = f"jnp.full({shape}, {number!r})" if is_array else repr(number)
    new = ast.parse(text, mode="eval").body
    if at < len(call.args):
        call.args[at] = new
    elif keyword is not None:
        keyword.value = new
    else:
        call.keywords.append(ast.keyword(name, new))


def _made(site: PriorSite, numbers: Mapping[Path, Any]) -> str:
    """Write a distribution anew; empty if not all of its numbers are known."""
    if site.written is None:
        return ""
    return f"{_text(site.written, {**site.numbers, **numbers}, ())}{site.statement.around}"


def _text(one: Distribution, numbers: Mapping[Path, Any], above: Path) -> str:
    kind = type(one).__name__
    form = next((f for f in _FORMS if kind.endswith(f) and hasattr(dist, kind[: -len(f)])), "")
    given = {
        key: _value(one, value, numbers, (*above, key))
        for key, value in arguments_of(one).items()
        if value is not None
    }
    written = ", ".join(f"{key}={text}" for key, text in given.items())
    return f"dist.{kind.removesuffix(form)}({written})"


def _value(one: Distribution, value: Any, numbers: Mapping[Path, Any], path: Path) -> str:
    if isinstance(value, Distribution):
        return _text(value, numbers, path)
    number = numbers.get(path)
    if number is None:
        return repr(value) if isinstance(value, str | int | float | tuple) else _array(value)
    shape = np.shape(value)
    wide = shape != () and (np.size(value) > 1 or int(np.prod(one.batch_shape)) == 1)
    return f"jnp.full({shape}, {number!r})" if wide else repr(number)


def _array(value: Any) -> str:
    array = np.asarray(value)
    digits = np.vectorize(lambda one: float(str(one)), otypes=[float])(array)
    return f"jnp.array({digits.tolist()!r})"
