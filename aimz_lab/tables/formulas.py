"""Formulas of table columns: what they may contain, and which columns they use.

A formula is evaluated as Python by formulaic. Only names of columns, numbers, arithmetic, and
functions that treat each row alone are allowed: a saved formula then never runs other code, and a
row is encoded alike in every table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Literal

from formulaic import Formula, SimpleFormula
from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import ASTNode, Term, Token

from aimz_lab.errors import ArgumentError
from aimz_lab.tables.expressions import SPLINES, Expression, shortly

_SEVERAL = SPLINES | {"C"}
"""Functions that may give several columns."""

_MOST_TERMS = 10_000

_CODED = re.compile(r"(index|levels)\(\s*(`[^`]+`|[^\W\d]\w*)\s*\)")
_QUOTED = re.compile(r"`([^`]+)`")
Kind = Literal["formula", "index", "levels"]


@dataclass(frozen=True)
class Part:
    """How one kernel argument is made.

    Attributes:
        argument: Name of the kernel's argument.
        text: Its formula.
        code: The formula with a stand-in for each quoted column.
        quoted: The stand-ins, with their columns.
        event: What a 1 says, such as ``"bought = yes"``, if the formula is one comparison.
        kind: A formula; the index of a column's levels; or the number of its levels.
        columns: The table's columns that it uses.
        categories: Those of them that are categories: in ``C()``, ``index()`` or ``levels()``.
        values: Those of them that are also used outside of these.
        computed: Those of them that functions or arithmetic compute with, as numbers.
        compared: Those of them that are compared with a text, each with that text.
        by_order: Those of them that are compared by order with a text, as in ``I(size > 'S')``, or
            have a polynomial contrast.
        thresholds: Those of them that are compared with a number, each with that number.
        sized: Those of them that stand in a comparison of numbers, also within arithmetic.
        is_matrix: Whether the argument has an axis of columns.
    """

    argument: str
    text: str
    kind: Kind
    columns: tuple[str, ...]
    categories: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()
    compared: frozenset[tuple[str, str]] = frozenset()
    by_order: frozenset[str] = frozenset()
    thresholds: frozenset[tuple[str, float]] = frozenset()
    sized: frozenset[str] = frozenset()
    is_matrix: bool = False
    code: str = ""
    quoted: Mapping[str, str] = field(default_factory=dict)
    event: str = ""

    @property
    def formula(self) -> SimpleFormula:
        """The parsed formula, which nothing changes."""
        return _formula(self.code)

    def plain_name(self, text: str) -> str:
        """Return a text of formulaic with the quoted columns in place of their stand-ins."""
        for stand_in, column in self.quoted.items():
            text = text.replace(stand_in, column)
        return text

    @property
    def has_interactions(self) -> bool:
        """Whether one of its terms is a product of several."""
        is_formula = self.kind == "formula"
        return is_formula and any(len(term.factors) > 1 for term in self.formula)

    @property
    def takes_out(self) -> bool:
        """Whether it takes out terms, as ``x - 1`` does outside of a function."""
        if self.kind != "formula":
            return False
        return any(node.operator.symbol == "-" for node in _nodes(_tree(self.code)))

    @property
    def has_intercept(self) -> bool:
        """Whether the user asked for a column of ones."""
        return _has_intercept(self.code)


@lru_cache(maxsize=64)
def _formula(code: str) -> SimpleFormula:
    # A model asks for the same few formulas in each call, and a long one takes 10 ms to parse.
    return Formula(code)


def parse_part(argument: str, text: str | Sequence[str]) -> Part:
    """Read the formula of one kernel argument.

    Args:
        argument: Name of the kernel's argument.
        text: The formula; or a sequence of its terms, for a matrix even of one column.

    Returns:
        What it uses.

    Raises:
        ArgumentError: If it is no formula, or contains what is not allowed.
    """
    is_list = not isinstance(text, str)
    if is_list:
        terms, text = text, _joined(argument, text)
        for term in terms:  # one that takes out a term would reach into the others
            own: dict[str, str] = {}
            _parsed(argument, term, _QUOTED.sub(partial(_stand_in, own, term), term), own)
    if not is_list and (match := _CODED.fullmatch(text.strip())):
        column = match[2].strip("`")
        return Part(argument, text.strip(), match[1], (column,), frozenset({column}))
    quoted: dict[str, str] = {}
    code = _QUOTED.sub(partial(_stand_in, quoted, text), text)
    formula = _parsed(argument, text, code, quoted)
    if is_list:
        codes = [_QUOTED.sub(partial(_stand_in, quoted, text), term) for term in terms]
        _check_list(argument, terms, [_own_terms(code) for code in codes], formula, quoted)
    factors = {factor.expr: factor for term in formula for factor in term.factors}
    columns: dict[str, None] = {}
    categories, values, called = set[str](), set[str](), set[str]()
    computed, compared, by_order = set[str](), set[tuple[str, str]](), set[str]()
    thresholds, sized = set[tuple[str, float]](), set[str]()
    events = list[str]()
    for expr, factor in factors.items():
        if factor.eval_method.value == "lookup":
            columns[quoted.get(expr, expr)] = None
            values.add(quoted.get(expr, expr))
        elif factor.eval_method.value == "python":
            used = Expression(argument, expr, quoted)
            columns.update(dict.fromkeys(used.columns))
            categories |= used.categories
            values |= used.values
            computed |= used.values - {column for column, _ in used.compared}
            compared |= used.compared
            by_order |= used.by_order
            thresholds |= used.thresholds
            sized |= used.sized
            called |= used.called
            events.append(used.event)
    _check_unquoted(argument, text, columns.keys() - quoted.values(), called)
    if not columns:
        msg = f"The formula {text!r} of {argument!r} uses no column of the table."
        raise ArgumentError(msg)
    part = Part(
        argument,
        text,
        "formula",
        tuple(columns),
        frozenset(categories),
        frozenset(values),
        frozenset(computed),
        frozenset(compared),
        frozenset(by_order),
        frozenset(thresholds),
        frozenset(sized),
        is_matrix=is_list or _is_matrix(formula, asks_for_intercept=_has_intercept(code)),
        code=code,
        quoted=quoted,
    )
    return part if part.is_matrix or not events else replace(part, event=part.plain_name(events[0]))


def _check_unquoted(argument: str, text: str, names: Iterable[str], called: set[str]) -> None:
    """Refuse columns that formulaic would take for something of its own.

    Raises:
        ArgumentError: If a column is called like a function of the formula, or like the intercept.
    """
    clash = sorted({*names} & {*called, "Intercept"})
    if clash:
        what = "the column of ones" if clash[0] == "Intercept" else "a function of the formula"
        msg = (
            f"In the formula {text!r} of {argument!r}, the column {clash[0]!r} is called like "
            f"{what}; write it in backticks, `{clash[0]}`."
        )
        raise ArgumentError(msg)


def _parsed(argument: str, text: str, code: str, quoted: Mapping[str, str]) -> SimpleFormula:
    """Parse a formula of one side.

    Args:
        argument: Name of the kernel's argument.
        text: The formula.
        code: The formula with stand-ins for quoted columns.
        quoted: These columns, by their stand-ins.

    Raises:
        ArgumentError: If it cannot be parsed, has several sides, would take for ever, or has
            arithmetic outside of a function.
    """
    try:
        tree = _tree(code)
        count = _terms(tree)
        if numbers := _of_numbers(tree, quoted):
            raise ArgumentError(f"The formula {text!r} of {argument!r} {numbers}")
        if count > _MOST_TERMS:
            msg = (
                f"The formula {shortly(text)} of {argument!r} has more terms when it is multiplied "
                f"out than the {_MOST_TERMS:,} that are computed; write those that you want."
            )
            raise ArgumentError(msg)
        formula = Formula(code)
    except RecursionError as error:
        msg = (
            f"The formula {shortly(text)} of {argument!r} is nested too deep; compute parts of it "
            "as columns of the table."
        )
        raise ArgumentError(msg) from error
    except (FormulaicError, SyntaxError) as error:
        # The message marks the place with colours of a terminal.
        reason = re.sub(r"[⧛⧚]|\x1b?\[[\d;]*m", "", str(error).split("\n")[0]).strip(" .")
        msg = (
            f"The formula {text!r} of {argument!r} cannot be read: {reason}. Outside of functions, "
            "operators are those of terms; arithmetic and comparisons stand in I(), such as "
            "I(x / 30) and I(x > 0)."
        )
        raise ArgumentError(msg) from error
    if not isinstance(formula, SimpleFormula):
        msg = (
            f"The formula {text!r} of {argument!r} has several sides; write one formula for each "
            "kernel argument, such as X='scale(age)', y='earnings'."
        )
        raise ArgumentError(msg)
    if arithmetic := _arithmetic(tree):
        msg = f"The formula {text!r} of {argument!r} {arithmetic}"
        raise ArgumentError(msg)
    return formula


def _arithmetic(tree: ASTNode | Token) -> str:
    """Say which arithmetic a formula has outside of its functions; empty for none.

    Operators there are those of terms: ``x**2`` is the interactions of ``x`` with itself, which is
    ``x``; and ``x - z`` is the terms but ``z``, which is ``x`` too.
    """
    for node in _nodes(tree):
        symbol = node.operator.symbol
        if symbol == "~":
            return "has a ~ in front; leave it out, and write I(won == 0) for the opposite of won."
        if symbol not in ("**", "^", "*", "/", ":", "-"):
            continue
        result, *sides = [{*part.to_terms()} for part in (node, *node.args)]
        if symbol == "-":
            if sides[-1] - sides[0] - {"1"}:
                return "takes out a term that it does not have; for a difference write I(x - z)."
        elif result in sides:
            return (
                "multiplies terms that it has already, which adds nothing outside of a function; "
                "for a power of numbers write I(x**2)."
            )
    return ""


def _of_numbers(tree: ASTNode | Token, quoted: Mapping[str, str]) -> str:
    """Say which arithmetic with numbers a formula has outside of its functions; empty for none.

    Formulaic refuses some of it, and takes ``1 / x`` and ``(x + z) / 30`` for terms without the
    number. A 1 that is added is the column of ones, and a 0 takes it out.
    """
    for node in _nodes(tree):
        symbol, sides = node.operator.symbol, node.args
        numbers = [side.token for side in sides if _is_number(side)]
        how = f"write it in a function, {_in_function(node, quoted)}."
        if symbol in ("**", "^"):
            if not (_is_number(sides[-1]) and re.fullmatch(r"[1-9]\d*", sides[-1].token)):
                return f"has a power of numbers; {how}"
        elif symbol in ("*", "/", ":") and numbers:
            verb = "divides" if symbol == "/" else "multiplies"
            return f"{verb} by a number, and terms have none; {how}"
        elif symbol in ("+", "-") and not {"0", "1"}.issuperset(numbers):
            return f"has a number as a term, and terms are columns; {how}"
    return ""


def _in_function(node: ASTNode, quoted: Mapping[str, str]) -> str:
    """Return how to write the arithmetic of an operator."""
    symbol = {"^": "**", ":": "*"}.get(node.operator.symbol, node.operator.symbol)
    if symbol not in ("+", "-") and all(isinstance(side, Token) for side in node.args):
        one, other = (_with_columns(side.token, quoted) for side in node.args)
        return f"I({one} {symbol} {other})"
    return f"as in I(x {symbol} 2)"


def _tree(code: str) -> ASTNode | Token:
    return DefaultFormulaParser().get_ast(code)


def _nodes(tree: ASTNode | Token) -> Iterator[ASTNode]:
    """Yield the operators of a formula, each with what it is applied to."""
    nodes = [tree]
    while nodes:  # a formula may be nested deeper than Python calls
        node = nodes.pop()
        if isinstance(node, ASTNode):
            nodes += node.args
            yield node


def _is_number(part: ASTNode | Token) -> bool:
    if not isinstance(part, Token):
        return False
    if re.fullmatch(r"\d+(\.\d*)?[eE]\d+", part.token):  # a name for formulaic
        return True
    return part.kind is Token.Kind.VALUE and part.token[0] not in "'\""


def _terms(node: ASTNode | Token | None) -> float:
    """Return at least as many terms as a formula has when it is multiplied out."""
    if not isinstance(node, ASTNode):
        return 1
    counts = [_terms(part) for part in node.args]
    symbol = node.operator.symbol
    if symbol == "*":
        return math.prod(count + 1 for count in counts)
    if symbol == ":":
        return math.prod(counts)
    if symbol in ("**", "^"):
        power = node.args[1]
        if not _is_number(power):
            return 1  # formulaic refuses it
        if re.fullmatch(r"\d{1,2}", power.token) is None:
            return math.inf
        return counts[0] ** int(power.token)
    return sum(counts)


def _stand_in(quoted: dict[str, str], text: str, match: re.Match[str]) -> str:
    """Return a name for a quoted column: formulaic would give two columns one name."""
    for name, column in quoted.items():
        if column == match[1]:
            return name
    name = f"quoted_{len(quoted)}_"
    while name in text:  # a column may be called so
        name = f"{name}_"
    quoted[name] = match[1]
    return name


def _joined(argument: str, terms: Iterable[str]) -> str:
    terms = list(terms) if isinstance(terms, (list, tuple)) else []
    if not terms or not all(isinstance(term, str) for term in terms):
        msg = f"{argument!r} needs a formula, or a list of terms: ['scale(age)', 'C(region)']."
        raise ArgumentError(msg)
    return " + ".join(terms)


def _with_columns(code: str, quoted: Mapping[str, str]) -> str:
    for stand_in, column in quoted.items():
        code = code.replace(stand_in, f"`{column}`")
    return code


def _own_terms(code: str) -> list[Term]:
    return [term for term in Formula(code) if str(term) != "1" or _has_intercept(code)]


def _check_list(
    argument: str,
    texts: Sequence[str],
    own: Sequence[list[Term]],
    formula: SimpleFormula,
    quoted: Mapping[str, str],
) -> None:
    """Refuse a list of terms whose columns would not come in its order.

    Args:
        argument: Name of the kernel's argument.
        texts: The list.
        own: The terms of each of its entries.
        formula: The terms of all of them, those of fewer factors first.
        quoted: Columns by their stand-ins.

    Raises:
        ArgumentError: If an entry adds no term to those before it, or comes at another place.
    """
    listed: list[Term] = []
    for text, terms in zip(texts, own, strict=True):
        added = [term for term in terms if term not in listed]
        if terms and not added:
            msg = f"The list of {argument!r} has {text!r} already; leave it out the second time."
            raise ArgumentError(msg)
        listed += added
    ordered = [term for term in formula if term in listed]
    if ordered != listed:
        better = [_with_columns(str(term), quoted) for term in ordered]
        msg = (
            f"The columns of {argument!r} would come in another order than its list: first a "
            f"column of ones, then terms of one column, then their products. Write {better}."
        )
        raise ArgumentError(msg)


def _has_intercept(code: str) -> bool:
    """Whether a 1 is one of the terms, and not a number inside of a term's brackets."""
    text, inside = code, None
    while text != inside:
        inside, text = text, re.sub(r"\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]", "", text)
    return any(term.strip() == "1" for term in text.split("+"))


def _is_matrix(formula: SimpleFormula, *, asks_for_intercept: bool) -> bool:
    terms = [term for term in formula if str(term) != "1"]
    if asks_for_intercept or len(terms) != 1 or len(terms[0].factors) != 1:
        return True
    factor = next(iter(terms[0].factors))
    return factor.eval_method.value == "python" and factor.expr.split("(")[0] in _SEVERAL
