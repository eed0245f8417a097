"""Take outputs back to the scale of the table: the inverse of a formula like ``scale(log(y))``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

if TYPE_CHECKING:
    # The lab compares scores without formulaic too, which formulas need.
    from aimz_lab.tables.formulas import Part

Values = Float[np.ndarray, "..."]


class _Inverse(NamedTuple):
    """What undoes a function of formulas; it is monotone where the function is defined.

    Attributes:
        undo: Returns the values, by NumPy or JAX, whichever is its first argument.
        log_slope: Log of the size of its derivative at float64 values.
    """

    undo: Callable[[Any, Any], Any]
    log_slope: Callable[[Values], Values]


_INVERSES = {
    "log": _Inverse(lambda xp, x: xp.exp(x), lambda x: x),
    "log2": _Inverse(lambda xp, x: xp.exp2(x), lambda x: x * np.log(2) + np.log(np.log(2))),
    "log10": _Inverse(
        lambda xp, x: xp.power(10.0, x), lambda x: x * np.log(10) + np.log(np.log(10))
    ),
    "log1p": _Inverse(lambda xp, x: xp.expm1(x), lambda x: x),
    "exp": _Inverse(lambda xp, x: xp.log(x), lambda x: -np.log(x)),
    "expm1": _Inverse(lambda xp, x: xp.log1p(x), lambda x: -np.log1p(x)),
    "sqrt": _Inverse(lambda xp, x: xp.square(x), lambda x: np.log(2 * np.abs(x))),
    "identity": _Inverse(lambda xp, x: xp.positive(x), np.zeros_like),
}


class OnColumn(NamedTuple):
    """Values on the scale of their column, in double precision.

    Attributes:
        values: The values.
        log_jacobian: What the log density of each gains there: the log of the derivative of the
            formula, in nats.
    """

    values: Values
    log_jacobian: Values


@dataclass(frozen=True)
class OutcomeScale:
    """How values on the model's scale become values of the table's column.

    Attributes:
        column: Name of the column; of a comparison, what a 1 says.
        steps: Inverse steps, the first one first: ``("scale", a, b)`` means ``a * value + b``, any
            other names a function to invert.
    """

    column: str
    steps: tuple[tuple[str, float, float], ...] = ()

    def __str__(self) -> str:
        """Return what the values are, as results keep it."""
        return f"column {self.column}"

    @property
    def is_identity(self) -> bool:
        """Whether the model's scale is the column's own."""
        return not self.steps

    @property
    def is_linear(self) -> bool:
        """Whether the mean of values on the model's scale becomes that of the column."""
        return all(name == "linear" for name, _, _ in self.steps)

    @property
    def is_lossless(self) -> bool:
        """Whether single precision tells values apart that differ by a percent of a scale."""
        at_0, at_1 = 0.0, 1.0
        for name, a, b in self.steps:
            if name != "linear":
                return True
            at_0, at_1 = a * at_0 + b, a * at_1 + b
        size, limits = max(abs(at_0), abs(at_1)), np.finfo(np.float32)
        least = max(100 * size * float(limits.eps), float(limits.tiny))
        return size < float(limits.max) / 1e3 and abs(at_1 - at_0) > least

    def __call__(self, values: ArrayLike) -> ArrayLike:
        """Return values on the column's scale; NumPy arrays and JAX arrays of any shape."""
        for name, a, b in self.steps:
            values = a * values + b if name == "linear" else _INVERSES[name].undo(jnp, values)
        return values

    def on_column(self, values: Values) -> OnColumn:
        """Return values on the column's scale, with the change of their log density.

        Example:
            >>> half = OutcomeScale("y", (("linear", 2.0, 0.0), ("log", 1.0, 0.0)))
            >>> half.on_column(np.array([0.0]))  # log(y) / 2 of y = 1
            OnColumn(values=array([1.]), log_jacobian=array([-0.69314718]))
        """
        values = np.asarray(values, np.float64)
        gained = np.zeros_like(values)
        with np.errstate(all="ignore"):  # what is not finite is for the caller to judge
            for name, a, b in self.steps:
                if name == "linear":
                    gained -= np.log(np.abs(a))
                    values = a * values + b
                else:
                    gained -= _INVERSES[name].log_slope(values)
                    values = _INVERSES[name].undo(np, values)
        return OnColumn(values, gained)


@dataclass(frozen=True)
class OutcomeScales:
    """The same for an outcome with several columns, along its last axis.

    Attributes:
        columns: The scale of each.
    """

    columns: tuple[OutcomeScale, ...]

    def __str__(self) -> str:
        """Return what the values are, as results keep it."""
        return f"columns {', '.join(one.column for one in self.columns)}"

    @property
    def is_identity(self) -> bool:
        """Whether the model's scale is that of every column."""
        return all(one.is_identity for one in self.columns)

    @property
    def is_linear(self) -> bool:
        """Whether the mean of values on the model's scale becomes that of the columns."""
        return all(one.is_linear for one in self.columns)

    def __call__(self, values: ArrayLike) -> ArrayLike:
        """Return values on the columns' scales."""
        arrays = [one(values[..., i]) for i, one in enumerate(self.columns)]
        return jnp.stack(arrays, axis=-1)

    def on_column(self, values: Values) -> OnColumn:
        """Return values on the columns' scales, with the change of their log density."""
        found = [one.on_column(values[..., i]) for i, one in enumerate(self.columns)]
        return OnColumn(*(np.stack(each, axis=-1) for each in zip(*found, strict=True)))


def outcome_scale(
    part: Part, state: Mapping[str, Mapping[str, Any]]
) -> OutcomeScale | OutcomeScales | None:
    """Return the inverse of a formula, column by column.

    Args:
        part: The formula.
        state: What its functions learned, by their text, as formulaic keeps it.

    Returns:
        The inverse; ``None`` if the formula has none. A comparison has no way back to its column,
        and needs none: its outcome is whether it holds.
    """
    if part.event:
        return OutcomeScale(part.event)
    # Only the term: a "- 1" beside it removes an intercept, and subtracts nothing.
    terms = [term for term in part.formula if str(term) != "1"]
    if any(len(term.factors) != 1 for term in terms) or part.has_intercept:
        return None
    found = [column_scale(part, next(iter(term.factors)).expr, state) for term in terms]
    scales = tuple(one for one in found if one is not None)
    if len(scales) < len(found):
        return None
    return OutcomeScales(scales) if part.is_matrix else scales[0]


def column_scale(
    part: Part, name: str, state: Mapping[str, Mapping[str, Any]]
) -> OutcomeScale | None:
    """Return the way back to the table of one column of a formula.

    Args:
        part: The formula.
        name: The column's name, as formulaic has it.
        state: What the formula's functions learned, by their text.

    Returns:
        The way; ``None`` of levels, splines, products and what else does not come from one number.
    """
    try:
        node = ast.parse(name, mode="eval").body
    except SyntaxError:  # an operator of formulas
        return None
    steps: list[tuple[str, float, float]] = []
    while not isinstance(node, ast.Name):
        found = _undo(node, state)
        if found is None:
            return None
        step, node = found
        steps.append(step)
    return OutcomeScale(part.plain_name(node.id), tuple(s for s in steps if s[0] != "identity"))


def _undo(
    node: ast.AST, state: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[str, float, float], ast.AST] | None:
    """Return the inverse of the outermost operation, and what is inside of it."""
    if isinstance(node, ast.BinOp):
        return _undo_arithmetic(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        return ("linear", -1.0 if isinstance(node.op, ast.USub) else 1.0, 0.0), node.operand
    if not isinstance(node, ast.Call) or not node.args:
        return None
    name = ast.unparse(node.func).removeprefix("np.")
    if name in ("scale", "center", "standardize"):
        learned = state.get(ast.unparse(node))
        if learned is None:
            return None
        by, at = (1.0 if learned[key] is None else learned[key] for key in ("scale", "center"))
        return ("linear", float(by), 0.0 if learned["center"] is None else float(at)), node.args[0]
    if name == "I":
        return ("identity", 1.0, 0.0), node.args[0]
    if name in _INVERSES and len(node.args) == 1:
        return (name, 1.0, 0.0), node.args[0]
    return None


def _undo_arithmetic(node: ast.BinOp) -> tuple[tuple[str, float, float], ast.AST] | None:
    left, right = _number(node.left), _number(node.right)
    if right is not None:
        known: dict[type, tuple[float, float]] = {
            ast.Add: (1.0, -right),
            ast.Sub: (1.0, right),
            ast.Mult: (1 / right if right else np.inf, 0.0),
            ast.Div: (right, 0.0),
        }
        inside = node.left
    elif left is not None:
        known = {
            ast.Add: (1.0, -left),
            ast.Sub: (-1.0, left),
            ast.Mult: (1 / left if left else np.inf, 0.0),
        }
        inside = node.right
    else:
        return None
    found = known.get(type(node.op))
    return None if found is None or not np.isfinite(found).all() else (("linear", *found), inside)


def _number(node: ast.AST) -> float | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return float(value) if isinstance(value, (int, float)) else None
