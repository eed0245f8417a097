"""Names of sites and plates, as variables and dimensions of results and as folders of stores.

The rule: a name stands in results as it is, with ``/`` written as ``.``
(:func:`~aimz_lab.kernel.spec.variable_name`). It is refused if it cannot be a folder of a store,
is taken by every result, or stands there for two things. A plate called ``chain`` or ``draw`` gives
way instead, and its dimension is called as if it had no plate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aimz_lab.errors import KernelError
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.types import SAMPLE_DIMS

LONGEST_NAME = 200
"""Most bytes of a name in UTF-8; file systems allow 255, of which results need some."""


def check_names(spec: KernelSpec) -> None:
    """Check the names of a kernel's sites and plates.

    Raises:
        KernelError: If one cannot stand in results, or two would be the same there.
    """
    sites = spec.of_kind("latent", "observed", "deterministic")
    plates = {plate.name for name in sites for plate in spec.sites[name].plates} - {*SAMPLE_DIMS}
    found: dict[str, str] = {}
    for kind, name in [*(("site", site) for site in sites), *(("plate", one) for one in plates)]:
        check_name(f"the kernel's {kind}", name)
        this = f"the {kind} {name!r}"
        other = found.setdefault(variable_name(name), this)
        if other != this:
            msg = (
                f"In results, where a '/' is written as '.', both {other} and {this} would be "
                f"called {variable_name(name)!r}; rename one."
            )
            raise KernelError(msg)


def check_name(what: str, name: object, error: type[Exception] = KernelError) -> None:
    """Check the name of a variable or a dimension of results.

    Args:
        what: Whose name it is, for the message.
        name: The name.
        error: The error to raise.

    Raises:
        KernelError: If it cannot stand in results.

    Example:
        >>> check_name("the kernel's site", "chain")
        Traceback (most recent call last):
        ...
        aimz_lab.errors.KernelError: The name 'chain' of the kernel's site ...
    """
    why = why_unusable(name)
    if why:
        short = f"{name[:60]}..." if isinstance(name, str) and len(name) > 80 else name
        msg = (
            f"The name {short!r} of {what} cannot stand in results: it {why}. Rename it, to "
            f"{_instead(name)!r} for example."
        )
        raise error(msg)


def why_unusable(name: object) -> str | None:
    """Say why a name cannot stand in results; ``None`` if it can."""
    if not isinstance(name, str):
        return f"is no text but {type(name).__name__}"
    written = variable_name(name)
    if not name:
        return "is empty"
    if written in SAMPLE_DIMS:
        return "is a dimension of every result"
    if written in (".", ".."):
        return f"would be {written!r}, which is no name of a folder"
    if written == "zarr.json" or written.startswith("__"):
        return "is one that Zarr keeps for itself, 'zarr.json' or beginning with '__'"
    if "\\" in written or not written.isprintable():
        return "has a backslash or a character that cannot be printed"
    if len(written.encode(errors="replace")) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} bytes"
    return None


def _instead(name: object) -> str:
    """Suggest a name."""
    plain = re.sub(r"\W+", "_", str(name)).strip("_")[:40] or "value"
    return plain if why_unusable(plain) is None else f"{plain}_1"


def same_but_for_case(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two different names that are one on a file system without upper and lower case."""
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(name.casefold(), name)
        if other != name:
            return other, name
    return None
