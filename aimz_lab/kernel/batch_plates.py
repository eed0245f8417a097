"""Effect handlers for the plates of a batch: they take all its rows; too small ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import jax.numpy as jnp
from numpyro.primitives import Messenger

from aimz_lab.errors import KernelError


def with_whole_plates(kernel: Callable, row_argument: str) -> Callable:
    """Let the plates of a batch's rows take all of them, in their order.

    ``plate("data", X.shape[0], subsample_size=100)`` takes 100 random rows of those that the kernel
    is given. A batch is a random part of the rows already.

    Args:
        kernel: A kernel or a guide.
        row_argument: One of its per-row arguments.

    Returns:
        The kernel, under a handler; it takes its arguments by keyword.
    """

    def run(**arguments: Any) -> Any:
        return _whole_plates(kernel, arguments[row_argument].shape[0])(**arguments)

    return run


class _whole_plates(Messenger):
    """Let plates of ``n_rows`` entries take all of them."""

    def __init__(self, fn: Callable, n_rows: int) -> None:
        self._n_rows = n_rows
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Set the indices of a plate of the rows."""
        if msg["type"] == "plate" and msg["value"] is None and msg["args"][0] == self._n_rows:
            msg["value"] = jnp.arange(self._n_rows)
            msg["args"] = (self._n_rows, self._n_rows)


class refuse_too_small_plates(Messenger):
    """Effect handler that refuses a plate whose subsample is larger than the plate."""

    def process_message(self, msg: dict[str, Any]) -> None:
        """Raise if the message comes from such a plate.

        Raises:
            KernelError: If it does; NumPyro would take fewer entries.
        """
        if msg["type"] != "plate" or msg["value"] is not None:
            return
        size, subsample_size = msg["args"]
        if subsample_size > size:
            name = msg["name"]
            raise KernelError(too_small(name, size, subsample_size))


class refuse_taken_plate_names(Messenger):
    """Effect handler that refuses a plate with the name of a site or of another plate before it.

    NumPyro, guides and results know a plate by its name: they would take the size of the last one,
    and NumPyro's traces would lose the site. A site with the name of a plate is refused by NumPyro.
    """

    def __enter__(self) -> Self:
        self._sites: set[str] = set()
        self._sizes: dict[str, int] = {}
        return super().__enter__()

    def process_message(self, msg: dict[str, Any]) -> None:
        """Raise if the message comes from such a plate.

        Args:
            msg: NumPyro's message.

        Raises:
            KernelError: If it does.
        """
        name = msg.get("name")  # loops have none
        if msg["type"] in ("sample", "deterministic", "param"):
            self._sites.add(name)
        elif msg["type"] == "plate" and name in self._sites:
            text = (
                f"The kernel has a site and a plate of the name {name!r}; rename the plate, to "
                f"{name + '_plate'!r} for example."
            )
            raise KernelError(text)
        elif msg["type"] == "plate":
            size = msg["args"][0]
            before = self._sizes.setdefault(name, size)
            if before != size:
                text = (
                    f"The kernel has two plates {name!r}, of {before:,} and of {size:,} entries; a "
                    "plate is known by its name, so give each a name of its own."
                )
                raise KernelError(text)


def too_small(name: str, size: int, n_rows: int) -> str:
    """Return the message about a plate with fewer entries than there are rows."""
    return (
        f"The plate {name!r} has size={size:,}, but the data has {n_rows:,} rows. Give the plate "
        f"size={n_rows:,}, or leave its subsampling out, plate({name!r}, X.shape[0]): batches are "
        "scaled for you."
    )
