"""The arguments of a call, made from its table if it has one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aimz_lab.data.tables import is_table
from aimz_lab.types import Arguments

if TYPE_CHECKING:
    from aimz_lab.tables.encoder import TableEncoder


class TableCall(NamedTuple):
    """The arguments of a call.

    Attributes:
        inputs: The kernel's input.
        outputs: Its output, or ``None``.
        kernel_kwargs: Further arguments of the kernel.
        by_row: Names of those with one entry per row.
        encoder: What made them; ``None`` if the call has no table.
    """

    inputs: Any
    outputs: Any
    kernel_kwargs: Arguments | None
    by_row: Iterable[str]
    encoder: TableEncoder | None = None

    def validation(self, held_out: Any) -> Any:
        """Return held-out data; a table is encoded as the training table.

        Args:
            held_out: A table, or anything else, which is returned as it is.
        """
        if self.encoder is None or not is_table(held_out):
            return held_out
        made: Mapping[str, Any] = self.encoder.encode(held_out).arguments
        return {name: value for name, value in made.items() if not isinstance(value, int)}
