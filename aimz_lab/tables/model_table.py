"""The table of a model: calls with a data frame become calls with the kernel's arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool

from aimz_lab.data.ranged_source import DaskTable, is_dask_table
from aimz_lab.data.tables import is_table, native_table
from aimz_lab.errors import (
    AimzLabError,
    ArgumentError,
    ArtifactError,
    CallError,
    DataError,
    DataTypeError,
    FitWarning,
)
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.drawn_arguments import is_only_observed
from aimz_lab.kernel.output_transform import why_not_itself
from aimz_lab.kernel.signature import KernelSignature, kernel_parameters
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.spelling import did_you_mean
from aimz_lab.tables.columns import Level, rows_of
from aimz_lab.tables.encoder import TableEncoder
from aimz_lab.tables.formula_values import columns_with_values
from aimz_lab.tables.lazy_table import EncodedRows
from aimz_lab.tables.outcome_scale import OutcomeScale, OutcomeScales
from aimz_lab.tables.site_names import Arguments as TrainedArguments
from aimz_lab.tables.site_names import SiteNames, name_sites
from aimz_lab.tables.table_call import Observed, TableCall, refuse_no_table
from aimz_lab.tables.table_spec import TableSpec
from aimz_lab.tracebacks import warn
from aimz_lab.types import Arguments, JsonObject, OutputScale


class TrainedKernel(Protocol):
    """What the names of axes need of a training.

    Attributes:
        spec: The kernel's structure, or ``None``.
        schema: Shapes of its arguments, or ``None``.
    """

    spec: KernelSpec | None
    schema: Any


class _Training(NamedTuple):
    spec: KernelSpec
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
            ArgumentError: If it names no argument of the kernel, or not its input; or if the
                output is made of interactions, or takes out terms.
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
        output = self.spec.parts.get(self.signature.output)
        if output is not None and output.has_interactions:
            msg = (
                f"The formula {output.text!r} of the output {output.argument!r} has interactions "
                "of columns, which are terms of a model. For one number a row write I(a * b) or "
                "I(a / b)."
            )
            raise ArgumentError(msg)
        if output is not None and output.takes_out:
            msg = (
                f"The formula {output.text!r} of the output {output.argument!r} takes out a term, "
                "and subtracts nothing. For a difference write I(a - 1)."
            )
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
        return is_table(native_table(inputs))

    @property
    def drops_rows(self) -> bool:
        """Whether rows of a table with missing values are left out."""
        return self.spec.missing == "drop"

    def input_columns(self) -> frozenset[str]:
        """Columns that arguments are made of, but for the output and numbers of levels."""
        output = self.signature.output
        return frozenset(
            column
            for name, part in self.spec.parts.items()
            if name != output and part.kind != "levels"
            for column in part.columns
        )

    def levels(self) -> dict[str, tuple[Level, ...]]:
        """Levels of the training table's columns that are categories."""
        columns = {} if self.encoder is None else self.encoder.columns
        return {name: one.levels for name, one in columns.items() if one.levels is not None}

    def column_scales(self, inputs: object) -> dict[str, tuple[OutcomeScale | None, ...]] | None:
        """Return the way back to the table of each column of the arguments, by argument.

        Args:
            inputs: The input of a call; ``None`` is returned if it is no table.
        """
        if self.encoder is None or not self.takes(inputs):
            return None
        return self.encoder.column_scales

    def learned(self, encoder: TableEncoder | None) -> ModelTable:
        """Return the same after a training, or before one."""
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
        can_lack: Callable[[str], bool] | None = None,
    ) -> TableCall:
        """Return the arguments of a call; encode its table, if it has one.

        Args:
            inputs: The first argument of the call: a table, or anything else.
            outputs: The second one, if the method has one.
            arguments: Further kernel arguments, by keyword.
            kernel_kwargs: Those whose names the method uses itself.
            by_row: Names of those with one entry per row.
            with_output: Whether the call needs the output.
            can_lack: Whether the kernel only observes an argument: without its columns, it is left
                out. ``None`` if it needs all of them.

        Raises:
            CallError: If an argument is made from the table and also passed.
            DataError: If the table cannot be encoded.
            DataTypeError: If a column holds something else than in training, or two texts of which
                nothing says which is 1; or if text comes in an array, and not in a table.
        """
        inputs = native_table(inputs)
        if not (is_table(inputs) or is_dask_table(inputs)):
            own = self.spec.columns if with_output else self.input_columns()
            refuse_no_table(inputs, self.spec, [one for one in self.spec.columns if one in own])
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
        encoder, output = self.encoder, self.signature.output
        left_out = self._without_columns(inputs, can_lack) if can_lack else set()
        left_out = frozenset(left_out if with_output else {output, *left_out})
        if is_dask_table(inputs):
            if encoder is None:
                raise DataTypeError(_UNTAUGHT)
            rows = EncodedRows(DaskTable(inputs), encoder, left_out)
            others = {**(kernel_kwargs or {}), **rows.numbers}
            return TableCall(rows, None, others, tuple(by_row), encoder)
        if encoder is None and with_output:
            encoder, (made, kept) = TableEncoder.learn_and_encode(self.spec, inputs)
        else:
            encoder = encoder or TableEncoder.learn(self.spec, inputs, quietly=True)
            made, kept = encoder.encode(inputs, leave_out=left_out)
        if self.encoder is None:
            _refuse_unsaid_ones(encoder, set(self.spec.parts) - {output})
        if kept is not None:
            _refuse_beside(given, len(inputs))
        X, y = made.pop(self.signature.input), made.pop(output, None)
        rows = tuple(name for name, value in made.items() if not isinstance(value, int))
        observed = None if with_output else self._observed(encoder, inputs, kept)
        arguments = {**(kernel_kwargs or {}), **made}
        return TableCall(X, y, arguments, (*by_row, *rows), encoder, kept, observed)

    def _without_columns(self, table: Any, can_lack: Callable[[str], bool]) -> set[str]:
        """Return the arguments of which a table has no column, and needs none.

        Raises:
            DataError: If it has one of nearly the name, which would be a slip.
        """
        there = set(map(str, table.columns))
        absent = [n for n, part in self.spec.parts.items() if there.isdisjoint(part.columns)]
        found = {name for name in absent if can_lack(name)}
        for name in sorted(found):
            for column in self.spec.parts[name].columns:
                if hint := did_you_mean(column, there.difference(self.spec.columns)):
                    msg = (
                        f"The table has no column {column!r}.{hint} Rename it; or take it out, for "
                        f"predictions that draw what the kernel observes as {name!r}."
                    )
                    raise DataError(msg)
        return found

    def data_of(self, arguments: Arguments) -> Arguments:
        """Return all arguments of the kernel, where its input is a table; else them as they are.

        Args:
            arguments: Kernel arguments by name.

        Raises:
            CallError: If an argument is made from the table and also passed.
            DataError: If the table cannot be encoded.
        """
        given = dict(arguments)
        inputs = given.pop(self.signature.input, None)
        if not self.takes(inputs):
            return arguments
        output = self.signature.output
        call = self.call(inputs, given.pop(output, None), {}, given, (), with_output=True)
        return {self.signature.input: call.inputs, output: call.outputs, **call.kernel_kwargs}

    def _observed(
        self, encoder: TableEncoder, table: Any, kept: np.ndarray | None
    ) -> Observed | None:
        """Return the output that a table has beside a prediction; ``None`` without its columns."""
        part = self.spec.parts.get(self.signature.output)
        if part is None or not set(part.columns) <= set(map(str, table.columns)):
            return None
        others = frozenset(self.spec.parts) - {self.signature.output}
        rows = table if kept is None else rows_of(table, kept)
        try:
            made, there = encoder.encode(rows, leave_out=others, quietly=True)
        except AimzLabError:  # a prediction needs no output, and this one is none
            return Observed(None)
        values = np.asarray(made[self.signature.output])
        return Observed(values) if there is None else Observed(None, (there, values))

    def complete_rows(self, inputs: Any, given: Arguments) -> CompleteRows:
        """Return the rows of a table that a training uses.

        They have all values, of the inputs and of the output. So calls that need the output and
        calls that do not have the same rows.

        Args:
            inputs: A table, or anything else, which is returned as it is.
            given: Further kernel arguments.

        Raises:
            CallError: If rows are left out that an argument beside the table has values for.
            DataError: If a column is not there, or all rows lack a value.
        """
        table = native_table(inputs)
        if self.spec.missing != "drop" or not is_table(table):
            return CompleteRows(inputs)
        _, kept, left_out = columns_with_values(self.spec, table, self.spec.columns)
        if kept is None:
            return CompleteRows(inputs)
        _refuse_beside(given, len(table))
        return CompleteRows(rows_of(table, kept), left_out, kept)

    def compared_rows(
        self, inputs: Any, *, are_trained: bool
    ) -> tuple[Any, Bool[np.ndarray, " row"] | None, str]:
        """Return the rows of a table that a training uses, or a prediction.

        Args:
            inputs: A table, or anything else, which is returned as it is.
            are_trained: Whether they are those of a training, which need the output too.

        Returns:
            The rows, which of all they are, ``None`` for all, and a phrase that says which ones are
            left out.

        Raises:
            DataError: If all rows lack a value.
        """
        table = native_table(inputs)
        if self.spec.missing != "drop" or not is_table(table):
            return inputs, None, ""
        names = self.spec.columns if are_trained else self.input_columns()
        names = [str(name) for name in table.columns if name in names]
        _, kept, left_out = columns_with_values(self.spec, table, names)
        if kept is None:
            return inputs, None, ""
        return rows_of(table, kept), np.isin(np.arange(len(table)), kept), left_out

    def training_call(
        self,
        inputs: Any,
        outputs: Any,
        arguments: Arguments,
        kernel_kwargs: Arguments | None,
        by_row: Iterable[str],
        *,
        anew: bool,
    ) -> TableCall:
        """Return the arguments of a training.

        Args:
            inputs: As in :meth:`call`.
            outputs: Likewise.
            arguments: Likewise.
            kernel_kwargs: Likewise.
            by_row: Likewise.
            anew: Whether the training begins anew, and not with the parameters of an earlier one.

        Raises:
            DataTypeError: If the table is one of Dask, which teaches nothing.

        Warns:
            FitWarning: If training goes on, and this table alone would have been encoded otherwise.
        """
        if is_dask_table(inputs):
            raise DataTypeError(_UNTAUGHT)
        table = self.learned(None) if anew else self
        call = table.call(inputs, outputs, arguments, kernel_kwargs, by_row, with_output=True)
        if table.encoder is not None and call.encoder is not None:
            _warn_of_first(table.encoder, native_table(inputs))
        return call

    def check_dims(self, spec: KernelSpec, schema: Any, encoder: TableEncoder | None) -> None:
        """Check ``TableSpec(dims=...)`` before a training.

        Args:
            spec: The kernel's structure.
            schema: Shapes of its arguments.
            encoder: The encoder of the table.

        Raises:
            ArgumentError: If it names no site, or an axis of another length.
        """
        if self.spec.dims and encoder is not None:
            arguments = TrainedArguments(schema.batch, schema.shared, schema.static)
            name_sites(self.signature.kernel, spec, encoder, arguments)

    def check_levels(self, spec: KernelSpec, encoder: TableEncoder | None) -> None:
        """Check that the kernel has a category for each level of its output, and no more.

        The numbers of levels follow from the column: without its second level, the third one had
        the number of the second category.

        Args:
            spec: The kernel's structure.
            encoder: The encoder of the table.

        Raises:
            DataError: If it has more or fewer.
        """
        site, part = (each.get(self.signature.output) for each in (spec.sites, self.spec.parts))
        if encoder is None or site is None or part is None or site.argument != site.name:
            return
        levels, count = encoder.levels_of(site.name), site.n_categories
        if count and levels and count != len(levels):
            column = part.columns[0]
            msg = (
                f"Column {column!r} has {len(levels)} levels in the table, "
                f"{', '.join(map(repr, levels[:10]))}{', ...' * (len(levels) > 10)}, and the "
                f"kernel {count} categories for {site.name!r}. Levels are numbered as they are in "
                "the column: if one of them has no row, list all of them, in their order: "
                f"df[{column!r}] = pd.Categorical(df[{column!r}], [...], ordered=True)."
            )
            raise DataError(msg)

    def predictive_call(
        self,
        inputs: Any,
        arguments: Arguments,
        kernel_kwargs: Arguments | None,
        options: Mapping[str, Any],
        scale: OutputScale,
        trained: TrainedKernel,
        group: str | None,
    ) -> tuple[Any, Arguments, np.ndarray | None, dict[str, Any]]:
        """Return the input, further arguments, kept rows and options of a predictive call.

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
            can_lack=lambda name: self._is_drawn_without(name, trained),
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
        if call.observed is not None:
            options["observed"] = call.observed
        options = self.names(trained).in_options(options)
        if call.encoder is not None and scale == "outcome" and group != "log_likelihood":
            options["output_scale"] = self._way_back(call.encoder, options, trained.spec)
        of_column = trained.spec is None or not trained.spec.output_transform
        table = self.learned(call.encoder or self.encoder)
        options["output_attrs"] = table.output_attrs() if of_column else {}
        return call.inputs, call.kernel_kwargs or {}, call.kept, options

    def _is_drawn_without(self, name: str, trained: TrainedKernel) -> bool:
        """Whether the kernel draws what it observes of an argument that is not the output."""
        kernel, spec, schema = self.signature.kernel, trained.spec, trained.schema
        parameter = kernel_parameters(kernel).get(name)
        is_optional = parameter is not None and parameter.default is None
        if spec is None or not is_optional or name == self.signature.output:
            return False
        if any(site.argument == name for site in spec.sites.values()):
            return True
        if schema is None:
            return False
        arguments = KernelArguments(schema.batch, schema.shared, schema.static)
        return is_only_observed(kernel, spec, name, arguments)

    def output_attrs(self) -> dict[str, object]:
        """Return attributes of results: what an output stands for.

        They are its column or its levels, with their order, and what a 1 says, if it is one of two
        levels.
        """
        output = self.signature.output
        part = self.spec.parts.get(output)
        if self.encoder is None or part is None:
            return {}
        event = self.encoder.event(output)
        found: dict[str, object] = {"output_event": event} if event else {}
        if part.kind == "levels":
            return {}
        if part.kind == "index":
            found["output_column"] = part.columns[0]
        else:
            scale = self.encoder.outcome_scale(output)
            if isinstance(scale, OutcomeScale) and scale.is_identity:
                found["output_column"] = scale.column
        levels = self.encoder.levels_of(output)
        order = self.encoder.level_order(output)
        found |= {"output_levels": list(map(str, levels))} if levels else {}
        return found | ({} if order is None else {"output_level_order": order})

    @property
    def output_formula(self) -> str:
        """The formula that makes the output; empty if it is no formula, or the column as it is."""
        part = self.spec.parts.get(self.signature.output)
        if self.encoder is None or part is None or part.kind != "formula":
            return ""
        if part.event:  # one may compare with other values than the next
            return part.text
        scale = self.encoder.outcome_scale(self.signature.output)
        return "" if scale is not None and scale.is_identity else part.text

    def output_label(self, scale: OutputScale) -> str:
        """Return the output's name with what its values are, where the table says more.

        Args:
            scale: ``"model"`` for the kernel's scale, ``"outcome"`` for that of the column.
        """
        output = self.signature.output
        part = self.spec.parts.get(output)
        if part is None or part.kind != "formula":
            return self.output_column(scale)
        if part.event:
            return part.event
        if scale == "model" or self.encoder is None:
            return output if part.text == output else f"{output} = {part.text}"
        column = self.output_column(scale)
        return output if column == output else f"{output} in units of {column}"

    def output_column(self, scale: OutputScale) -> str:
        """Return the column whose values or levels the output's are; its name if there is none.

        Args:
            scale: As in :meth:`output_label`.
        """
        output = self.signature.output
        part = self.spec.parts.get(output)
        if part is not None and part.kind == "index":
            return part.columns[0]
        if scale == "model" or self.encoder is None or part is None or part.kind != "formula":
            return output
        back = self.encoder.outcome_scale(output)
        return back.column if isinstance(back, OutcomeScale) else output

    def _way_back(
        self, encoder: TableEncoder, options: Mapping[str, Any], spec: KernelSpec | None
    ) -> OutcomeScale | OutcomeScales | None:
        """Return what takes the output to the scale of its column; ``None`` if it is there.

        Raises:
            ArgumentError: If the formula has no inverse, the kernel observes something else, or a
                value is set for the output.
        """
        output = self.signature.output
        part = self.spec.parts.get(output)
        if part is None or part.kind != "formula":
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
        if spec is not None and spec.output_transform:
            msg = (
                f"{why_not_itself(output, spec.output_transform)} Pass output_scale='model' for "
                f"predictions of {spec.output_transform}."
            )
            raise ArgumentError(msg)
        _check_way_back(back, output, spec)
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
        if self.takes(output) and arguments is None:
            output, arguments = None, {"X": output}
        if isinstance(arguments, Mapping) and self.takes(arguments.get("X")):
            # Both scenarios have one group, whichever rows they change.
            arguments = {"in_sample": True, **arguments}
        return output, arguments

    def axis_labels(self, spec: KernelSpec, schema: Any) -> dict[str, tuple[list[str] | None, ...]]:
        """Return the labels along each axis of the sites whose axes have names.

        Args:
            spec: The kernel's structure.
            schema: Shapes of its arguments.
        """
        names = self.names(_Training(spec, schema))
        found = {}
        for site, dims in names.dims.items():
            labels = [list(map(str, names.coords[d])) if d in names.coords else None for d in dims]
            if (rows := spec.row_axis(site)) is not None:
                labels.insert(rows, None)
            found[site] = tuple(labels)
        return found

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


_NO_AND_YES = frozenset(
    {("0", "1"), ("f", "t"), ("false", "true"), ("n", "y"), ("no", "yes"), ("off", "on")}
)
"""Pairs of texts that say themselves which is 0 and which is 1, in any case."""

_UNTAUGHT = (
    "This is a Dask table, and formulas learn their levels, means and scales from a table in "
    "memory. Train the model on a pandas DataFrame first, such as a sample of the rows; then "
    "predict from the Dask table."
)


def _warn_of_first(encoder: TableEncoder, table: Any) -> None:
    """Warn that a table is encoded by what an earlier one taught."""
    try:
        found = encoder.differences(TableEncoder.learn(encoder.spec, table, quietly=True))
    except AimzLabError:  # such as a column that is constant here
        found = ["a formula"]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        msg = (
            "Training goes on from its parameters, so this table is encoded with what the first "
            f"training table taught; it alone would give other values of {', '.join(found[:3])}"
            f"{more}. For a fresh start, make a new model."
        )
        warn(msg, FitWarning)


def _check_way_back(
    back: OutcomeScale | OutcomeScales, output: str, spec: KernelSpec | None
) -> None:
    """Refuse units in which the output cannot be told.

    Raises:
        ArgumentError: If single precision has too few digits for them, or the columns of the table
            are not the output's last axis.
    """
    columns = back.columns if isinstance(back, OutcomeScales) else (back,)
    lossy = [one.column for one in columns if not one.is_lossless]
    if lossy:
        msg = (
            f"Values of {lossy[0]!r} are too far from 0 for their spread, too large or too small: "
            f"in single precision, predictions of {output!r} in its units would be rounded. Take "
            "another unit or origin for the column, or pass output_scale='model'."
        )
        raise ArgumentError(msg)
    site = None if spec is None else spec.sites.get(output)
    if not isinstance(back, OutcomeScales) or site is None:
        return
    if site.shape[-1:] != (len(columns),) or len(site.shape) - 1 in site.row_axes:
        msg = (
            f"The table has {len(columns)} columns for {output!r}, and they are not the last axis "
            f"of the site, which has the shape {site.shape}; so its units are unknown. Pass "
            "output_scale='model'."
        )
        raise ArgumentError(msg)


class CompleteRows(NamedTuple):
    """The rows of a table that have all values.

    Attributes:
        table: The rows, or what was given if it is no table or lacks no value.
        left_out: Which rows are not among them, as a phrase; empty for none.
        kept: Their positions in the table; ``None`` for all.
    """

    table: Any
    left_out: str = ""
    kept: np.ndarray | None = None


def _refuse_unsaid_ones(encoder: TableEncoder, arguments: Iterable[str]) -> None:
    """Refuse two texts as 0 and 1 if they do not say themselves which is which.

    The later one in the alphabet would be 1, and the argument has no label that says so.

    Raises:
        DataTypeError: If an argument is made of such a column.
    """
    for argument in sorted(arguments):
        part, levels = encoder.spec.parts[argument], encoder.levels_of(argument)
        is_said = tuple(str(level).lower() for level in levels) in _NO_AND_YES
        if part.kind != "formula" or len(levels) != 2 or is_said:
            continue
        column, (zero, one) = part.text, levels
        msg = (
            f"Column {part.columns[0]!r} holds the texts {zero!r} and {one!r}, and nothing says "
            f'which of them is 1. Write {argument}="I({column} == {one!r})" or '
            f'{argument}="I({column} == {zero!r})"; or C({column}) for a matrix with a labelled '
            "column."
        )
        raise DataTypeError(msg)


def _refuse_beside(given: Mapping[str, Any], n_rows: int) -> None:
    """Refuse an argument by row beside a table of which rows were left out.

    Raises:
        CallError: If there is one.
    """
    for name, value in given.items():
        if np.ndim(value) and len(value) == n_rows:
            msg = (
                f"Rows of the table with missing values were left out, and {name!r} still has a "
                f"value for each of its {n_rows:,} rows. Make it a column of the table, and say "
                f"so: TableSpec(..., {name}='{name}')."
            )
            raise CallError(msg)
