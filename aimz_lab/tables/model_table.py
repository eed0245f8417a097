"""The table of a model: calls with a data frame become calls with the kernel's arguments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aimz_lab.errors import ArgumentError, CallError
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.tables.columns import is_table
from aimz_lab.tables.encoder import TableEncoder
from aimz_lab.tables.table_spec import TableSpec
from aimz_lab.types import Arguments


class TableCall(NamedTuple):
    """Arguments of a call, made from its table if it has one.

    Attributes:
        inputs: The kernel's input.
        outputs: Its output, or ``None``.
        kernel_kwargs: Further arguments of the kernel.
        by_row: Names of those with one entry per row.
        encoder: What made them; ``None`` if the call has no table.
    """

    inputs: Any
    outputs: Any
    kernel_kwargs: Arguments
    by_row: tuple[str, ...]
    encoder: TableEncoder | None = None


@dataclass(frozen=True)
class ModelTable:
    """How a model reads tables.

    Attributes:
        signature: The kernel.
        spec: The description, or ``None``.
        encoder: What was learned from the training table, or ``None`` before it.
    """

    signature: KernelSignature
    spec: TableSpec | None = None
    encoder: TableEncoder | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the description against the kernel.

        Raises:
            ArgumentError: If it names no argument of the kernel, or not its input.
        """
        if self.spec is None:
            return
        if not isinstance(self.spec, TableSpec):
            msg = f"table= takes a TableSpec; got {type(self.spec).__name__}."
            raise ArgumentError(msg)
        known = parameter_names(self.signature.kernel)
        unknown = [name for name in self.spec.parts if name not in known]
        if unknown:
            msg = (
                f"The TableSpec makes {', '.join(map(repr, unknown))}, and the kernel's arguments "
                f"are {', '.join(known)}."
            )
            raise ArgumentError(msg)
        if self.signature.input not in self.spec.parts:
            msg = f"The TableSpec has to make the kernel's input, {self.signature.input!r}."
            raise ArgumentError(msg)

    def call(
        self,
        inputs: Any,
        outputs: Any,
        arguments: Arguments,
        kernel_kwargs: Arguments | None,
        by_row: Iterable[str],
        *,
        with_output: bool,
    ) -> TableCall:
        """Return the arguments of a call; encode its table, if it has one.

        Args:
            inputs: The first argument of the call: a table, or anything else.
            outputs: The second one, if the method has one.
            arguments: Further kernel arguments, by keyword.
            kernel_kwargs: Those whose names the method uses itself.
            by_row: Names of those with one entry per row.
            with_output: Whether the call needs the output.

        Raises:
            CallError: If an argument is made from the table and also passed.
            DataError: If the table cannot be encoded.
            DataTypeError: If a column holds something else than in training.
        """
        if self.spec is None or not is_table(inputs):
            return TableCall(inputs, outputs, dict(kernel_kwargs or {}), tuple(by_row))
        given = {**arguments, **(kernel_kwargs or {})}
        doubled = [name for name in self.spec.parts if name in given]
        if outputs is not None:
            doubled.append(self.signature.output)
        if doubled:
            msg = (
                f"{', '.join(map(repr, doubled))} come from the table, as the TableSpec says; do not "
                "pass them again."
            )
            raise CallError(msg)
        encoder = self.encoder or TableEncoder.learn(self.spec, inputs)
        output = self.signature.output
        left_out = frozenset() if with_output else frozenset({output})
        made = encoder.encode(inputs, leave_out=left_out).arguments
        X, y = made.pop(self.signature.input), made.pop(output, None)
        rows = tuple(name for name, value in made.items() if not isinstance(value, int))
        return TableCall(X, y, {**(kernel_kwargs or {}), **made}, (*by_row, *rows), encoder)
