"""The lines of Python that write moved priors into a kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from aimz_lab.lab.explorers.moved_priors import Numbers
from aimz_lab.lab.explorers.prior_sites import PriorSite
from aimz_lab.lab.explorers.remade import Path, arguments_of

_NUMERIC = int | float | np.ndarray | np.generic
_FORMS = ("Probs", "Logits")


def prior_lines(sites: Mapping[str, PriorSite], moved: Numbers) -> str:
    """Return the ``numpyro.sample`` lines of sites whose numbers were moved.

    Args:
        sites: The priors of the kernel.
        moved: The new numbers.
    """
    blocks = [_block(sites[name], its) for name, its in moved.items()]
    return "\n".join(blocks) or "# The priors are as the kernel has them."


def _block(site: PriorSite, numbers: Mapping[Path, Any]) -> str:
    statement = site.statement
    made = f"{distribution_text(site, numbers)}{statement.around}"
    if not statement.is_direct:
        return f"# {site.name}, which a function of a library samples:\n# prior = {made}"
    assigned = re.match(r"^([^=()#]+=)\s*(?:\w+\.)*sample\(", statement.line)
    target = f"{assigned[1].strip()} " if assigned else ""
    shape = f", sample_shape={statement.sample_shape}" if statement.sample_shape else ""
    lines = []
    for depth, (name, size, dim) in enumerate(statement.plates):
        lines.append(f"{'    ' * depth}with numpyro.plate({name!r}, {size}, dim={dim}):")
    indent = "    " * len(statement.plates)
    return "\n".join([*lines, f"{indent}{target}numpyro.sample({site.name!r}, {made}{shape})"])


def distribution_text(site: PriorSite, numbers: Mapping[Path, Any]) -> str:
    """Write a site's distribution with other numbers, without what stands around it.

    Args:
        site: The site.
        numbers: The new numbers; others are as the kernel has them.
    """
    if site.written is None:  # some follow from other sites, and stay the kernel's own words
        changed = ", ".join(f"{path[-1]}={number!r}" for path, number in numbers.items())
        kept = ", ".join(f"{name}=..." for name in site.fixed)
        return f"dist.{site.family}({kept}, {changed})"
    return _text(site.written, {**site.numbers, **numbers}, ())


def _text(one: Distribution, numbers: Mapping[Path, Any], above: Path) -> str:
    kind = type(one).__name__
    form = next((f for f in _FORMS if kind.endswith(f) and hasattr(dist, kind[: -len(f)])), "")
    name = f"dist.{kind.removesuffix(form)}"
    given = {
        key: _value(one, value, numbers, (*above, key))
        for key, value in arguments_of(one).items()
        if value is not None
    }
    plain = len(given) <= 2 and not form and all(k in type(one).arg_constraints for k in given)
    return f"{name}({', '.join(text if plain else f'{key}={text}' for key, text in given.items())})"


def _value(one: Distribution, value: Any, numbers: Mapping[Path, Any], path: Path) -> str:
    if isinstance(value, Distribution):
        return _text(value, numbers, path)
    number = numbers.get(path)
    if number is None:
        return repr(value) if isinstance(value, str | int | float) else _array(value)
    shape = np.shape(value)
    wide = shape != () and (np.size(value) > 1 or int(np.prod(one.batch_shape)) == 1)
    return f"jnp.full({shape}, {number!r})" if wide else repr(number)


def _array(value: Any) -> str:
    if isinstance(value, tuple):
        return repr(value)
    array = np.asarray(value)
    digits = np.vectorize(lambda one: float(str(one)), otypes=[float])(array)
    return f"jnp.array({digits.tolist()!r})"
