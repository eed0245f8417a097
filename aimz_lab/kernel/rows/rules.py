"""Rules of the proof: when each JAX primitive keeps rows independent.

An array has at most one axis of rows, given by its number or ``None``. A rule holds if the
operation computes each entry along the result's axis of rows from the same entry of its operands,
and all entries alike, whatever their place and their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from aimz_lab.kernel.rows.index_rules import (
    dynamic_slice_rule,
    dynamic_update_slice_rule,
    gather_rule,
    scatter_rule,
    slice_rule,
)
from aimz_lab.kernel.rows.operation import Operation


def keeps_rows_apart(operation: Operation) -> bool:
    """Whether the rule of an operation holds; ``False`` for one without a rule.

    Args:
        operation: A plain operation, which runs no other program.
    """
    if all(axis is None for axis in (*operation.into, *operation.out)):
        return operation.same()
    rule = RULES.get(operation.one.primitive.name)
    return rule is not None and rule(operation)


def _elementwise(operation: Operation) -> bool:
    """Each operand is a scalar, or has the axes of the result, some of length 1."""
    ndim = operation.one.outvars[0].aval.ndim
    fits = all(operation.ndim(i) in (0, ndim) for i in range(len(operation.into)))
    return operation.same() and fits and {*operation.into} <= {None, *operation.out}


def _broadcast(operation: Operation) -> bool:
    name = "broadcast_dimensions"
    [axis] = operation.into
    return operation.same(name) and (
        axis is None or operation.param(name)[axis] == operation.out[0]
    )


def _iota(operation: Operation) -> bool:
    return operation.same("dimension") and operation.param("dimension") != operation.out[0]


def _reshape(operation: Operation) -> bool:
    """The axes in front of the rows hold as many entries as they did before."""
    before, after = operation.into[0], operation.out[0]
    permuted = operation.param("dimensions") is not None or not operation.same("dimensions")
    if permuted or before is None or after is None:
        return False
    shapes = operation.one.invars[0].aval.shape, operation.one.outvars[0].aval.shape
    return math.prod(shapes[0][:before]) == math.prod(shapes[1][:after])


def _transpose(operation: Operation) -> bool:
    return operation.same("permutation")


def _along(name: str) -> Callable[[Operation], bool]:
    """A rule for operations that mix entries only along the axes that a parameter names."""

    def rule(operation: Operation) -> bool:
        if not operation.same() or None in operation.into:
            return False
        return {*np.ravel(operation.param(name)).tolist()}.isdisjoint(operation.into)

    return rule


def _joined_along(name: str) -> Callable[[Operation], bool]:
    """A rule for operations that join arrays with rows along an axis that is not the rows'."""

    def rule(operation: Operation) -> bool:
        if not operation.same() or None in operation.into:
            return False
        return operation.param(name) != operation.out[0]

    return rule


def _dot_general(operation: Operation) -> bool:
    """Rows are not summed over; where both operands have rows, these are one batch axis."""
    contracted, batch = operation.param("dimension_numbers")
    summed = any(axis in axes for axis, axes in zip(operation.into, contracted, strict=True))
    if summed or not operation.same():
        return False
    left, right = operation.into
    if left is None or right is None:
        return True
    return left in batch[0] and batch[1][batch[0].index(left)] == right


def _pad(operation: Operation) -> bool:
    axis = operation.into[0]
    if axis is None or not operation.same("padding_config"):
        return False
    return tuple(operation.param("padding_config")[axis]) == (0, 0, 0)


def _matrices(operation: Operation) -> bool:
    """Each row has its own matrix, which is decomposed."""
    [axis] = operation.into
    return operation.same() and axis is not None and axis < operation.ndim(0) - 2


def _tile(operation: Operation) -> bool:
    """A row is repeated along other axes, or all rows are the same entry."""
    [axis], rows = operation.into, operation.out[0]
    new = operation.one.outvars[0].aval.ndim - operation.ndim(0)
    if rows is None or len(operation.param("reps")) != operation.one.outvars[0].aval.ndim:
        return False
    if axis is not None:
        return operation.same() and axis + new == rows and operation.param("reps")[rows] == 1
    alone = rows < new or operation.one.invars[0].aval.shape[rows - new] == 1
    return alone and operation.same_but_for("reps", rows)


def _top_k(operation: Operation) -> bool:
    [axis] = operation.into
    along = operation.one.params.get("axis", operation.ndim(0) - 1)
    return operation.same() and axis is not None and axis != along


def _triangular_solve(operation: Operation) -> bool:
    """Each row has its own matrix, or is one right-hand side of a shared matrix."""
    matrix, vectors = operation.into
    if not operation.same() or vectors is None or vectors != operation.out[0]:
        return False
    last = operation.ndim(1) - 1
    if matrix is None:
        return vectors != (last - 1 if operation.param("left_side") else last)
    return matrix == vectors < last - 1


def _convolution(operation: Operation) -> bool:
    """Rows are the images of the batch."""
    images, filters = operation.into[:2]
    numbers = operation.param("dimension_numbers")
    alone = operation.param("batch_group_count") == 1
    return operation.same() and alone and filters is None and images == numbers.lhs_spec[0]


_ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    bitcast_convert_type cbrt ceil clamp clz complex conj convert_element_type copy copy_p cos cosh
    digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac
    imag integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi ne
    neg nextafter not one_minus_square or polygamma polynomial population_count pow
    random_gamma_grad real reduce_precision regularized_incomplete_beta rem round rsqrt select_n
    shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient
    sub tan tanh xor zeta
"""

_SCATTERS = "scatter scatter-add scatter-mul scatter-min scatter-max scatter_sub"

_DECOMPOSITIONS = "cholesky eigh lu qr svd"

RULES: dict[str, Callable[[Operation], bool]] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "reshape": _reshape,
    "transpose": _transpose,
    "optimization_barrier": lambda operation: operation.into == operation.out,
    "squeeze": _along("dimensions"),
    "rev": _along("dimensions"),
    "sort": _along("dimension"),
    "split": _along("axis"),
    "unstack": _along("axis"),
    "concatenate": _joined_along("dimension"),
    "stack": _joined_along("axis"),
    "dot_general": _dot_general,
    "slice": slice_rule,
    "dynamic_slice": dynamic_slice_rule,
    "dynamic_update_slice": dynamic_update_slice_rule,
    "pad": _pad,
    "tile": _tile,
    "top_k": _top_k,
    "gather": gather_rule,
    **dict.fromkeys(_SCATTERS.split(), scatter_rule),
    **dict.fromkeys(_DECOMPOSITIONS.split(), _matrices),
    "triangular_solve": _triangular_solve,
    "conv_general_dilated": _convolution,
    **{name: _along("axes") for name in ("argmax", "argmin")},
    **{
        f"reduce_{how}": _along("axes") for how in ("sum", "prod", "max", "min", "and", "or", "xor")
    },
    **{f"cum{how}": _along("axis") for how in ("sum", "prod", "max", "min", "logsumexp")},
}
"""Rules by the names of JAX's primitives."""
