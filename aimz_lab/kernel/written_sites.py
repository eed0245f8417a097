"""How the sites of a kernel are written: their distributions, their plates and their lines."""

from __future__ import annotations

import ast
import functools
import linecache
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import (
    Distribution,
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
)
from numpyro.primitives import Messenger

from aimz_lab.kernel.failing_line import file_name
from aimz_lab.kernel.prior_draws import can_be_sampled, seeded
from aimz_lab.kernel.read_code import is_library, package_of
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.system.parsing import parsed
from aimz_lab.types import HasShape, Static

_KINDS = ("sample", "deterministic", "param")
_WRAPPERS = (ExpandedDistribution, Independent, MaskedDistribution)
_MOST_LINES = 6


@dataclass(frozen=True)
class CodeLine:
    """Where a site is written.

    Attributes:
        place: File, or cell of a notebook, and line.
        text: The statement; empty if its text cannot be had.
    """

    place: str
    text: str


@dataclass(frozen=True)
class WrittenSites:
    """How the sites of a kernel are written.

    Attributes:
        distributions: For each sample site its distribution: ``"Normal(0, scale)"``. A parameter
            that the kernel computes stands there by its name.
        lines: The line of each site, where it can be had.
        unsampled: Sites whose distribution cannot be drawn from, such as ``ImproperUniform``.
        plates: For each plate, its size and the entries that one call takes.
        params: For each ``param`` site, the shapes of its initial value.
    """

    distributions: Mapping[str, str]
    lines: Mapping[str, CodeLine]
    unsampled: frozenset[str]
    plates: Mapping[str, tuple[int, int]]
    params: Mapping[str, PyTree[jax.ShapeDtypeStruct]]


def trace_written_sites(
    kernel: Callable,
    *,
    rows: Mapping[str, HasShape],
    shared: Mapping[str, PyTree[HasShape]],
    static: Static,
) -> WrittenSites:
    """Trace how the sites of a kernel are written.

    Args:
        kernel: The kernel.
        rows: Per-row arguments; only shapes and types matter.
        shared: Shared arguments.
        static: Arguments without arrays.

    Raises:
        Exception: Whatever the kernel raises.
    """
    seen: list[_Written] = []

    def run(key: jax.Array, rows: PyTree, shared: PyTree) -> dict[str, PyTree]:
        seen[:] = [_Written(seeded(kernel, key), package_of(kernel))]
        sites = handlers.trace(seen[0]).get_trace(**rows, **shared, **static)
        return {
            name: site["value"]
            for name, site in sites.items()
            if site["type"] == "param" and site["value"] is not None
        }

    with tracing_lock:
        params = jax.eval_shape(run, jax.random.key(0), dict(rows), dict(shared))
    found = seen[0]
    unsampled = frozenset(found.unsampled)
    return WrittenSites(found.distributions, found.lines, unsampled, found.plates, params)


class _Written(Messenger):
    """Keeps how each site is written when the kernel comes to it."""

    def __init__(self, fn: Callable, package: str | None) -> None:
        self.distributions: dict[str, str] = {}
        self.lines: dict[str, CodeLine] = {}
        self.unsampled: set[str] = set()
        self.plates: dict[str, tuple[int, int]] = {}
        self._package = package
        super().__init__(fn)

    def process_message(self, msg: Message) -> None:
        name = msg.get("name")
        if msg["type"] == "plate":
            size, taken = msg["args"]
            self.plates[name] = int(size), int(size if taken is None else taken)
        if msg["type"] not in _KINDS:
            return
        if msg["type"] == "sample":
            self.distributions[name] = distribution_text(msg["fn"])
            if not can_be_sampled(msg["fn"]):
                self.unsampled.add(name)
        line = _line_of(name, self._package, in_loop=bool(msg.get("_control_flow_done")))
        if line is not None:
            self.lines[name] = line


def distribution_text(distribution: Distribution) -> str:
    """Write a distribution with its parameters; a traced one, or an array, by its name.

    Example:
        >>> import numpyro.distributions as dist
        >>> distribution_text(dist.Normal(0.0, 2.5).expand([3]).to_event(1))
        'Normal(0, 2.5)'
    """
    while isinstance(distribution, _WRAPPERS):
        distribution = distribution.base_dist
    values = {
        name: distribution.__dict__[name]
        for name in type(distribution).arg_constraints
        if name in distribution.__dict__
    }
    written = ", ".join(_number(value) or name for name, value in values.items())
    name = type(distribution).__name__
    return f"{name}({written})" if written else name


def _number(value: object) -> str:
    """Write a number that is known; ``""`` for anything else."""
    if isinstance(value, jax.core.Tracer) or not isinstance(
        value, bool | int | float | np.ndarray | np.generic | jax.Array
    ):
        return ""
    numbers = np.unique(np.asarray(value))
    if numbers.size != 1 or numbers.dtype.kind not in "biuf":
        return ""
    return f"{numbers[0]:.4g}"


def _line_of(name: str, package: str | None, *, in_loop: bool) -> CodeLine | None:
    """Return the line of the user's code that this is called from."""
    frame = sys._getframe(1)
    while frame is not None and not _is_users(frame, package):
        frame = frame.f_back
    if frame is None:
        return None
    path, number = frame.f_code.co_filename, frame.f_lineno
    lines = linecache.getlines(path, frame.f_globals)
    tree = _parsed("".join(lines))
    if tree is None:
        return CodeLine(f"line {number} of {file_name(path)}", _text(lines, number, number))
    if in_loop:  # a loop of NumPyro runs its sites before it tells of them
        number = _named_in(_function(tree, number), name) or number
    first, last = _statement(tree, number)
    return CodeLine(f"line {first} of {file_name(path)}", _text(lines, first, last))


@functools.lru_cache(maxsize=8)
def _parsed(text: str) -> ast.AST | None:
    try:
        return parsed(text)
    except (SyntaxError, ValueError):  # a cell with magics
        return None


def _is_users(frame: types.FrameType, package: str | None) -> bool:
    module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return module == package or not is_library(frame.f_code.co_filename)


def _function(tree: ast.AST, number: int) -> ast.AST:
    """Return the innermost function around a line."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.lineno <= number <= node.end_lineno
    ]
    return max(around, key=lambda node: node.lineno, default=tree)


def _named_in(tree: ast.AST, name: str) -> int | None:
    """Return the only line that calls ``sample`` or ``deterministic`` with a name."""
    found = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) in _KINDS
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value == name
    ]
    return found[0] if len(found) == 1 else None


def _statement(tree: ast.AST, number: int) -> tuple[int, int]:
    """Return the first and the last line of the simple statement at a line."""
    spans = [
        (node.lineno, node.end_lineno)
        for node in _simple_statements(tree)
        if node.lineno <= number <= node.end_lineno
    ]
    return min(spans, key=lambda span: span[1] - span[0], default=(number, number))


def _simple_statements(tree: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            yield node


def _text(lines: list[str], first: int, last: int) -> str:
    shown = lines[first - 1 : min(last, first + _MOST_LINES - 1)]
    more = "\n..." if last >= first + _MOST_LINES else ""
    return textwrap.dedent("".join(shown)).rstrip() + more
