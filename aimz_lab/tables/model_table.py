"""The table of a model: calls with a data frame become calls with the kernel's arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from aimz_lab.data.tables import is_table
from aimz_lab.errors import ArgumentError, ArtifactError, CallError
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.tables.encoder import TableEncoder
from aimz_lab.tables.outcome_scale import OutcomeScale
from aimz_lab.tables.site_names import Arguments as TrainedArguments
from aimz_lab.tables.site_names import SiteNames, name_sites
from aimz_lab.tables.table_call import TableCall
from aimz_lab.tables.table_spec import TableSpec
from aimz_lab.types import Arguments, JsonObject, OutputScale


class TrainedKernel(Protocol):
    """What the names of axes need of a training.

    Attributes:
        spec: The kernel's structure, or ``None``.
        schema: Shapes of its arguments, or ``None``.
    """

    spec: KernelSpec | None
    schema: Any


@dataclass(frozen=True)
class ModelTable:
    """How a model reads tables.

    Attributes:
        signature: The kernel.
        spec: The description.
        encoder: What was learned from the training table, or ``None`` before it.
    """

    signature: KernelSignature
    spec: TableSpec
    encoder: TableEncoder | None = field(default=None, repr=False)
    _known: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the description against the kernel.

        Raises:
            ArgumentError: If it names no argument of the kernel, or not its input.
        """
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

    def as_plain(self) -> JsonObject:
        """Return the description, and what was learned, as JSON values."""
        return {
            "spec": self.spec.as_plain(),
            "encoder": None if self.encoder is None else self.encoder.as_plain(),
        }

    @classmethod
    def of_plain(cls, signature: KernelSignature, plain: JsonObject) -> ModelTable:
        """Return the same from its plain values, for a kernel.

        Raises:
            ArgumentError: If a formula is not allowed, or the kernel has other arguments.
            DataError: If a formula cannot be computed.
            ArtifactError: If these are not the values of one description.
        """
        encoder = plain["encoder"]
        made = cls(
            signature,
            TableSpec.of_plain(plain["spec"]),
            None if encoder is None else TableEncoder.of_plain(encoder),
        )
        if made.as_plain() != plain or (made.encoder and made.encoder.spec != made.spec):
            raise ArtifactError("it is not one description and what was learned by it")
        return made

    def takes(self, inputs: object) -> bool:
        """Whether a call with this input is one with a table."""
        return is_table(inputs)

    def input_columns(self) -> frozenset[str]:
        """Columns that the arguments are made of, but those of the output."""
        output = self.signature.output
        parts = [part for name, part in self.spec.parts.items() if name != output]
        return frozenset(column for part in parts for column in part.columns)

    def learned(self, encoder: TableEncoder) -> ModelTable:
        """Return the same after a training."""
        return replace(self, encoder=encoder)

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
        if not is_table(inputs):
            return TableCall(inputs, outputs, dict(kernel_kwargs or {}), tuple(by_row))
        given = {**arguments, **(kernel_kwargs or {})}
        doubled = [name for name in self.spec.parts if name in given]
        if outputs is not None:
            doubled.append(self.signature.output)
        if doubled:
            msg = (
                f"The table already gives {', '.join(map(repr, doubled))}, as the TableSpec says; "
                "leave the argument out."
            )
            raise CallError(msg)
        encoder = self.encoder or TableEncoder.learn(self.spec, inputs)
        output = self.signature.output
        left_out = frozenset() if with_output else frozenset({output})
        made = encoder.encode(inputs, leave_out=left_out).arguments
        X, y = made.pop(self.signature.input), made.pop(output, None)
        rows = tuple(name for name, value in made.items() if not isinstance(value, int))
        return TableCall(X, y, {**(kernel_kwargs or {}), **made}, (*by_row, *rows), encoder)

    def predictive_call(
        self,
        inputs: Any,
        arguments: Arguments,
        kernel_kwargs: Arguments | None,
        options: Mapping[str, Any],
        scale: OutputScale,
        trained: TrainedKernel,
        group: str | None,
    ) -> tuple[Any, Arguments, dict[str, Any]]:
        """Return the input, further arguments and options of a predictive call.

        Args:
            inputs: The first argument of the call.
            arguments: Further kernel arguments, by keyword.
            kernel_kwargs: Those whose names the method uses itself.
            options: Options of the call.
            scale: Whether the output is returned on the scale of its column.
            trained: Structure and schema of the last training.
            group: Name of the group of the result.

        Raises:
            CallError: If the draws came without a table, and this one says how it is read.
        """
        call = self.call(
            inputs,
            options.get("outputs"),
            arguments,
            kernel_kwargs,
            options.get("by_row", ()),
            with_output=group == "log_likelihood",
        )
        options = {**options, "by_row": call.by_row}
        untaught = self.encoder is None and group != "prior_predictive"
        if untaught and call.encoder is not None and call.encoder.has_learned:
            msg = (
                "The model was not trained on a table, and this one would be encoded by its own "
                "means, scales or levels, which need not be those of the draws. Train the model "
                "on a table first, or pass arrays here."
            )
            raise CallError(msg)
        if call.outputs is not None:
            options["outputs"] = call.outputs
        names = self.names(trained)
        options["dims"] = {**names.dims, **(options.get("dims") or {})}
        options["coords"] = {**names.coords, **(options.get("coords") or {})}
        if call.encoder is not None and scale == "outcome" and group != "log_likelihood":
            options["output_scale"] = self._way_back(call.encoder, options)
        return call.inputs, call.kernel_kwargs or {}, options

    def _way_back(self, encoder: TableEncoder, options: Mapping[str, Any]) -> OutcomeScale | None:
        """Return what takes the output to the scale of its column; ``None`` if it is there.

        Raises:
            ArgumentError: If the formula has no inverse, or a value is set for the output.
        """
        output = self.signature.output
        part = self.spec.parts.get(output)
        if part is None or part.kind != "formula" or part.is_matrix:
            return None
        back = encoder.outcome_scale(output)
        if back is None:
            msg = (
                f"The formula {part.text!r} of {output!r} has no known inverse, so predictions "
                "cannot be returned in units of the column. Pass output_scale='model' for those of "
                "the kernel."
            )
            raise ArgumentError(msg)
        if back.is_identity:
            return None
        for role in ("intervention", "condition"):
            if output in (options.get(role) or {}):
                msg = (
                    f"The {role} sets {output!r}, in units of the kernel, and the output would "
                    "come back in those of its column. Pass output_scale='model'."
                )
                raise ArgumentError(msg)
        return back

    def scenario(
        self, output: Any, arguments: Mapping[str, Any] | None
    ) -> tuple[Any, Mapping[str, Any] | None]:
        """Return the output and the arguments of a scenario; a table becomes an argument.

        Args:
            output: A tree, a table, or ``None``.
            arguments: Arguments of ``predict``, or ``None``.
        """
        if is_table(output) and arguments is None:
            output, arguments = None, {"X": output}
        if isinstance(arguments, Mapping) and is_table(arguments.get("X")):
            # Both scenarios have one group, whichever rows they change.
            arguments = {"in_sample": True, **arguments}
        return output, arguments

    def names(self, trained: TrainedKernel) -> SiteNames:
        """Return names of axes of sites: columns and levels of the training table."""
        if self.encoder is None or trained.schema is None or trained.spec is None:
            return SiteNames({}, {})
        schema = trained.schema
        if self._known.get("schema") is not schema:  # naming traces the kernel, so it is kept
            arguments = TrainedArguments(schema.batch, schema.shared, schema.static)
            names = name_sites(self.signature.kernel, trained.spec, self.encoder, arguments)
            self._known.update(names=names, schema=schema)
        return self._known["names"]
