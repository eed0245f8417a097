"""Expressions in formulas: names of columns, numbers, arithmetic, and functions of single rows."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from aimz_lab.errors import ArgumentError

STATEFUL = frozenset({"scale", "center", "standardize", "poly", "bs", "cs", "cr", "cc"})
"""Functions that learn numbers from the training table."""

SPLINES = frozenset({"poly", "bs", "cs", "cr", "cc"})
"""Those of them that give several columns."""

ELEMENTWISE = frozenset({"log", "log2", "log10", "exp", "exp2", "exp10", "I"})
_NUMPY = frozenset(
    {"abs", "arctan", "cbrt", "ceil", "clip", "cos", "exp", "expm1", "floor", "log", "log10"}
    | {
        "log1p",
        "log2",
        "maximum",
        "minimum",
        "sign",
        "sin",
        "sqrt",
        "square",
        "tan",
        "tanh",
        "where",
    }
)
CALLED = STATEFUL | ELEMENTWISE | {"C", "np", "contr"}
"""Names that formulas call; a column may be called so too, in backticks."""

_FUNCTIONS = (
    f"C, {', '.join(sorted(STATEFUL | ELEMENTWISE))}, and np.{', np.'.join(sorted(_NUMPY))}"
)
_MOST_ARGUMENTS = {"maximum": 2, "minimum": 2, "clip": 3, "where": 3}
"""Values that a function takes where it is more than one; NumPy would write into a further one."""

_CONTRASTS = frozenset({"treatment", "SAS", "sum", "helmert", "diff", "poly", "custom"})
_MOST_IN_POWER = 100
_COUNTS = frozenset({"df", "degree"})
_MOST_COLUMNS = 1_000
"""Most columns of a spline or a polynomial."""

_NODES = (
    ast.Expression,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.Call,
    ast.keyword,
)
_BETWEEN_ROWS = (ast.MatMult, ast.Is, ast.IsNot, ast.In, ast.NotIn)
"""Operators that Python does not apply row by row."""


class Expression:
    """A Python expression in a formula, once it is checked.

    Attributes:
        columns: The columns that it uses.
        categories: Those of them inside ``C()``.
        values: Those of them outside of it.
        compared: Those of them that are compared with a text, each with that text.
        thresholds: Those of them that are compared with a number, each with that number.
        sized: Those of them that stand in a comparison of numbers, also within arithmetic.
        by_order: Those of them that are compared by order with a text, as by ``>``, or have a
            polynomial contrast.
        called: Names of functions and modules that it uses.
        event: What a 1 says, such as ``"bought = yes"``, of a comparison; empty of a number.
    """

    def __init__(self, argument: str, expr: str, quoted: Mapping[str, str]) -> None:
        self._what = f"{expr!r} in the formula of {argument!r}"
        self._quoted = quoted
        self.columns: list[str] = []
        self.categories: set[str] = set()
        self.values: set[str] = set()
        self.compared: set[tuple[str, str]] = set()
        self.thresholds: set[tuple[str, float]] = set()
        self.sized: set[str] = set()
        self.by_order: set[str] = set()
        self.called: set[str] = set()
        self.event = ""
        try:
            tree = ast.parse(expr, mode="eval")
            self._read(tree.body)
            self.event = _event(tree.body) if _is_truth(tree.body) else ""
        except SyntaxError as error:
            raise ArgumentError(f"{self._what} is no expression: {error.msg}.") from error
        except (RecursionError, MemoryError) as error:  # CPython's words for nested too deep
            msg = (
                f"{shortly(expr)} in the formula of {argument!r} is nested too deep; compute parts "
                "of it as columns of the table."
            )
            raise ArgumentError(msg) from error

    def _read(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            self._read_call(node)
            return
        if not isinstance(node, _NODES) or isinstance(node, _BETWEEN_ROWS):
            msg = (
                f"{self._what} is not allowed. A formula has names of columns, numbers, arithmetic "
                f"and these functions of each row: {_FUNCTIONS}. Compute anything else as a column "
                "of the table."
            )
            raise ArgumentError(msg)
        if isinstance(node, ast.BinOp) and not _is_small(node):
            msg = (
                f"{self._what}: {ast.unparse(node)!r} is not allowed, as Python would compute it "
                "without a column, however large it is. Write the number itself."
            )
            raise ArgumentError(msg)
        self._check_truth(node)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = [side.id for side in sides if isinstance(side, ast.Name)]
            texts = [side.value for side in sides if _is_text(side)]
            if texts and all(isinstance(side, ast.Constant) for side in sides):
                msg = (
                    f"{self._what} compares no column, as {texts[0]!r} is a text. Write the name "
                    f"of a column without quotes, or in backticks: `{texts[0]}`."
                )
                raise ArgumentError(msg)
            if texts and not names:
                msg = (
                    f"{self._what}: {ast.unparse(node)!r} is not allowed, as computed values "
                    "are numbers and equal no text. Compare them with a number; a text is compared "
                    "with a column by its name, as in I(size == 'S')."
                )
                raise ArgumentError(msg)
            compared = {(self._quoted.get(n, n), text) for n in names for text in texts}
            self.compared |= compared
            numbers = [number for side in sides if (number := _number(side)) is not None]
            self.thresholds |= {(self._quoted.get(n, n), one) for n in names for one in numbers}
            if not texts:
                inside = [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
                self.sized |= {self._quoted.get(name, name) for name in inside}
            if not isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
                self.by_order |= {column for column, _ in compared}
        if isinstance(node, ast.Name):
            self.columns.append(self._quoted.get(node.id, node.id))
            self.values.add(self.columns[-1])
        for child in ast.iter_child_nodes(node):
            self._read(child)

    def _check_truth(self, node: ast.AST) -> None:
        """Refuse what Python answers for a whole column, and arithmetic of truth values."""
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            msg = (
                f"{self._what}: {ast.unparse(node)!r} is not allowed, as Python would compare "
                "whole columns. Write (1 < x) & (x < 3)."
            )
            raise ArgumentError(msg)
        is_negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        if is_negative and _is_truth(node.operand):
            msg = (
                f"{self._what}: {ast.unparse(node)!r} is not allowed, as pandas takes it for the "
                f"opposite. Write -1 * ({ast.unparse(node.operand)}), or ~ for the opposite."
            )
            raise ArgumentError(msg)
        is_inverse = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert)
        if is_inverse and not _is_truth(node.operand):
            msg = (
                f"{self._what}: {ast.unparse(node)!r} is not allowed, as it inverts bits of a "
                f"number. Write (1 - {ast.unparse(node.operand)})."
            )
            raise ArgumentError(msg)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _is_truth(node):
            msg = (
                f"{self._what}: {ast.unparse(node)!r} is not allowed, as the sum of two "
                "comparisons is True and not 2. Write 1 * before each to count them, or | for "
                "either."
            )
            raise ArgumentError(msg)

    def _read_call(self, call: ast.Call) -> None:
        name = ast.unparse(call.func)
        self.called.add(name.split(".")[0])
        module, _, function = name.rpartition(".")
        known = (
            name in STATEFUL | ELEMENTWISE | {"C"}
            if not module
            else module == "np" and function in _NUMPY
        )
        if not known:
            why = " It moves values between rows." if name == "lag" else ""
            msg = (
                f"The function {name} of {self._what} is not allowed.{why} These are: "
                f"{_FUNCTIONS}. Compute anything else as a column of the table."
            )
            raise ArgumentError(msg)
        if name == "C":
            self._read_category(call)
            return
        if name == "np.where" and len(call.args) < 3:
            msg = (
                f"{self._what}: {ast.unparse(call)!r} is not allowed. np.where takes 3 values, "
                "such as np.where(x > 0, x, 0)."
            )
            raise ArgumentError(msg)
        if name in SPLINES:
            self._check_columns(call)
        elif name in STATEFUL:
            self._check_options(call)
        elif call.keywords or len(call.args) > _MOST_ARGUMENTS.get(function, 1):
            msg = (
                f"{self._what}: {ast.unparse(call)!r} is not allowed. {name} takes "
                f"{_MOST_ARGUMENTS.get(function, 1)} value(s), and no option."
            )
            raise ArgumentError(msg)
        elif name not in ("I", "np.where") and any(map(_is_truth, call.args)):
            msg = (
                f"{self._what}: {ast.unparse(call)!r} is not allowed, as NumPy computes it of True "
                "and False with few digits. Write 1 * before the comparison, in brackets."
            )
            raise ArgumentError(msg)
        for child in call.args[:1] if name in STATEFUL else call.args:
            self._read(child)

    def _check_options(self, call: ast.Call) -> None:
        """Refuse options of ``scale`` and ``center`` that are no numbers, such as a column."""
        for given in (*call.args[1:], *(keyword.value for keyword in call.keywords)):
            if not _is_literal(given):
                msg = (
                    f"{self._what}: {ast.unparse(given)!r} is not allowed. An option is a number, "
                    "or True or False; divide by a column with /."
                )
                raise ArgumentError(msg)

    def _check_columns(self, call: ast.Call) -> None:
        """Refuse splines and polynomials of more columns than anyone can read."""
        for given in (*call.args[1:], *(keyword.value for keyword in call.keywords)):
            numbers = [n.value for n in ast.walk(given) if isinstance(n, ast.Constant)]
            whole = isinstance(given, (ast.Constant, ast.UnaryOp))
            if not _is_literal(given) or (
                whole and any(type(n) is int and n > _MOST_COLUMNS for n in numbers)
            ):
                msg = (
                    f"{self._what}: {ast.unparse(given)!r} is not allowed. Options are written as "
                    f"numbers, and there are at most {_MOST_COLUMNS:,} columns."
                )
                raise ArgumentError(msg)
        counts = [*call.args[1:2], *(one.value for one in call.keywords if one.arg in _COUNTS)]
        for given in counts:
            count = _number(given)
            if ast.unparse(given) != "None" and not (type(count) is int and count >= 0):
                msg = (
                    f"{self._what}: {ast.unparse(given)!r} is not allowed. A degree, or degrees of "
                    "freedom, is a whole number."
                )
                raise ArgumentError(msg)

    def _read_category(self, call: ast.Call) -> None:
        """Read ``C(column, contr.sum)``; contrasts are named functions of formulaic."""
        if not call.args or not isinstance(call.args[0], ast.Name):
            msg = (
                f"{self._what}: C() takes the name of a column. Compute the category as a column "
                "of the table."
            )
            raise ArgumentError(msg)
        for contrast in (*call.args[1:], *(keyword.value for keyword in call.keywords)):
            if not _is_contrast(contrast):
                text = ast.unparse(contrast)
                msg = f"{self._what}: {text} is no contrast; write contr.sum, contr.helmert, ..."
                raise ArgumentError(msg)
            if "contr.poly" in ast.unparse(contrast):
                self.by_order.add(self._quoted.get(call.args[0].id, call.args[0].id))
        column = self._quoted.get(call.args[0].id, call.args[0].id)
        self.columns.append(column)
        self.categories.add(column)


def _is_truth(node: ast.AST) -> bool:
    """Whether an expression is True or False in each row, and not a number."""
    if isinstance(node, ast.Call):
        is_where = ast.unparse(node.func) == "np.where"
        values = node.args[1:] if is_where else node.args
        is_same = is_where or ast.unparse(node.func) == "I"
        return is_same and bool(values) and all(map(_is_truth, values))
    if isinstance(node, ast.BinOp):
        return _is_truth(node.left) and _is_truth(node.right)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Invert)
    return isinstance(node, ast.Compare)


def _event(node: ast.AST) -> str:
    """Return what is true of a row where an expression is, in few words."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "I":
        return _event(node.args[0])
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq):
        return " = ".join(map(_side, (node.left, *node.comparators)))
    return ast.unparse(node)


def _side(node: ast.AST) -> str:
    return node.value if _is_text(node) else ast.unparse(node)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _number(node: ast.AST) -> float | None:
    """Return the number that an expression writes down, perhaps with a sign; else ``None``."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        sign, node = -1 if isinstance(node.op, ast.USub) else 1, node.operand
    is_number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return sign * node.value if is_number else None


def _is_contrast(node: ast.AST) -> bool:
    """Whether this is ``contr.sum``, or a call of it with numbers, texts or lists of them."""
    if isinstance(node, ast.Call):
        given = (*node.args, *(keyword.value for keyword in node.keywords))
        return _is_contrast_name(node.func) and all(map(_is_literal, given))
    return _is_contrast_name(node)


def _is_contrast_name(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "contr"
        and node.attr in _CONTRASTS
    )


def _is_literal(node: ast.AST) -> bool:
    allowed = (ast.Constant, ast.List, ast.Tuple, ast.UnaryOp, ast.USub, ast.UAdd, ast.Load)
    return all(isinstance(inner, allowed) for inner in ast.walk(node))


def _is_small(node: ast.BinOp) -> bool:
    """Whether an operation needs no more memory or time than its rows do.

    An operation on a column does not; one on constants does not if it is one of arithmetic on
    numbers, and no power but of literals.
    """
    if any(isinstance(inner, ast.Name) for inner in ast.walk(node)):
        return True
    if not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)):
        return False
    sides = (node.left, node.right)
    if isinstance(node.op, ast.Pow):
        values = [side.value for side in sides if isinstance(side, ast.Constant)]
        return len(values) == 2 and all(
            isinstance(value, (int, float)) and abs(value) <= _MOST_IN_POWER for value in values
        )
    return not any(
        isinstance(inner, (ast.List, ast.Tuple))
        or (isinstance(inner, ast.Constant) and not isinstance(inner.value, (int, float)))
        for side in sides
        for inner in ast.walk(side)
    )


def shortly(text: str) -> str:
    """Return a text, or the beginning of a long one, in quotes."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
