"""Find the line of a kernel that an error came from, and what stood there."""

from __future__ import annotations

import ast
import dis
import linecache
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpyro import handlers

from aimz_lab.kernel.read_code import functions_of, is_library
from aimz_lab.system.parsing import parsed

_MOST_LINES, _MOST_LETTERS = 4, 160
_RECORDED = ("sample", "param", "deterministic")


@dataclass(frozen=True)
class FailingLine:
    """A line of the user's code in or below a kernel, and the values of its names.

    Attributes:
        function: Name of the function.
        is_helper: Whether it is a function that the kernel calls, not the kernel itself.
        file: Name of the file, or of the notebook's cell.
        number: Number of the line.
        source: The line; empty if its text cannot be had.
        values: Values of the local names that the failing expression reads.
        parameters: Names of the function's parameters.
        outside: Names among the values that the function does not assign: globals and closures.
        raises: Whether the line itself raises the error, and not what it calls.
        below: Code that the line called, outermost first: what is not the user's.
        site: Name of the site that was being sampled, or ``None``.
        after: Name of the last site before, or ``None``.
        plates: The plates around the line, as they are written.
    """

    function: str
    is_helper: bool
    file: str
    number: int
    source: str
    values: Mapping[str, Any]
    parameters: tuple[str, ...]
    outside: tuple[str, ...]
    raises: bool
    below: tuple[types.FrameType, ...] = field(repr=False)
    site: str | None
    after: str | None
    plates: tuple[str, ...]

    @property
    def described(self) -> str:
        """The place of the line, and its text."""
        place = f"line {self.number} of {self.file}"
        if self.is_helper:
            place += f", in {self.function}"
        return f"{place}: `{self.source}`" if self.source else place

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays among the values."""
        found = {}
        for name, value in self.values.items():
            if _is_array(value):
                found[name] = tuple(value.shape)
            elif isinstance(value, (dict, list, tuple)):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                found |= {f"{name}[{at!r}]": tuple(v.shape) for at, v in items if _is_array(v)}
        return found

    @property
    def traced(self) -> list[str]:
        """Names of values that are known by shape and type alone."""
        return [n for n, value in self.values.items() if isinstance(value, jax.core.Tracer)]


def own_code(function: Callable | None) -> set[types.CodeType]:
    """Return the code of a kernel: through handlers, partials, methods and decorators."""
    found = {getattr(one, "__func__", one).__code__ for one in functions_of(function)}
    return {code for code in found if not is_library(code.co_filename)} or found


def place_of(code: types.CodeType) -> str:
    """Where code begins: the line of a file, or of a notebook's cell."""
    return f"line {code.co_firstlineno} of {file_name(code.co_filename)}"


def find_failing_line(
    error: BaseException, code: set[types.CodeType], package: str | None = None
) -> FailingLine | None:
    """Return the innermost line of the user's that an error passed, in a kernel or below it.

    Args:
        error: The error.
        code: The kernel's own code.
        package: The package of the kernel, whose code is the user's even if it is installed.

    Returns:
        The line; ``None`` if the error did not pass the kernel.
    """
    steps = list(_steps(error.__traceback__))
    entry = next((at for at, step in enumerate(steps) if step.tb_frame.f_code in code), None)
    if entry is None:
        return None
    own = [
        at
        for at, step in enumerate(steps)
        if at >= entry and (step.tb_frame.f_code in code or _is_users(step.tb_frame, package))
    ]
    step, below = steps[own[-1]], tuple(each.tb_frame for each in steps[own[-1] + 1 :])
    frame = step.tb_frame
    lines = _lines_of(step)
    unpacks = _opname(step).startswith("UNPACK")  # its place is that of the names on the left
    text = _source(frame, step.tb_lineno) if unpacks else _text_of(frame, lines)
    values = _values(frame, text)
    own_names = {*frame.f_code.co_varnames, *frame.f_code.co_cellvars}
    return FailingLine(
        function=frame.f_code.co_name,
        is_helper=frame.f_code not in code,
        file=file_name(frame.f_code.co_filename),
        number=step.tb_lineno,
        source=_shown(frame, step.tb_lineno, lines),
        values=values,
        parameters=frame.f_code.co_varnames[: _count_of_parameters(frame.f_code)],
        outside=tuple(name for name in values if name not in own_names),
        raises=not below and _opname(step) == "RAISE_VARARGS",
        below=below,
        site=_site_of(below),
        after=_last_site(step.tb_frame for step in steps[:entry]),
        plates=_plates_around(frame, step.tb_lineno),
    )


def _steps(step: types.TracebackType | None) -> Iterator[types.TracebackType]:
    while step is not None:
        yield step
        step = step.tb_next


def _is_users(frame: types.FrameType, package: str | None) -> bool:
    module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return module == package or not is_library(frame.f_code.co_filename)


def file_name(path: str) -> str:
    """Return the last part of a path; a notebook's cell by its number."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    format_name = getattr(getattr(shell, "compile", None), "format_code_name", None)
    cell = format_name(path) if format_name is not None else None
    if cell:
        return " ".join(cell)
    return path if path.startswith("<") else Path(path).name


def _count_of_parameters(code: types.CodeType) -> int:
    return code.co_argcount + code.co_kwonlyargcount


def _opname(step: types.TracebackType) -> str:
    return dis.opname[step.tb_frame.f_code.co_code[step.tb_lasti]] if step.tb_lasti >= 0 else ""


def _lines_of(step: types.TracebackType) -> tuple[int, int, int, int] | None:
    """First and last line, first and last column of the expression that failed, if known."""
    positions = list(step.tb_frame.f_code.co_positions())
    at = positions[step.tb_lasti // 2] if 0 <= step.tb_lasti // 2 < len(positions) else (None,)
    return None if any(each is None for each in at) else at


def _text_of(frame: types.FrameType, at: tuple[int, int, int, int] | None) -> str:
    """The text of the expression that failed."""
    if at is None:
        return ""
    first, last, start, stop = at
    lines = [_source(frame, number) for number in range(first, last + 1)]
    # Columns count bytes.
    raw = [line.encode() for line in lines]
    raw[-1] = raw[-1][:stop]
    raw[0] = raw[0][start:]
    return b" ".join(raw).decode(errors="ignore")


def _source(frame: types.FrameType, number: int) -> str:
    return linecache.getline(frame.f_code.co_filename, number, frame.f_globals).rstrip("\n")


def _shown(frame: types.FrameType, number: int, at: tuple[int, int, int, int] | None) -> str:
    """The line of the error, with those that its expression goes on to."""
    last = number if at is None else min(max(at[1], number), number + _MOST_LINES - 1)
    lines = [_source(frame, each).strip() for each in range(number, last + 1)]
    text = " ".join(line for line in lines if line)
    return text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS].rstrip() + " ..."


def _values(frame: types.FrameType, text: str) -> dict[str, Any]:
    """The local values that a text reads, and global arrays and containers."""
    text = re.sub(r"\"[^\"]*\"|'[^']*'", "", text)
    names = dict.fromkeys(re.findall(r"(?<![\w.])[A-Za-z_]\w*(?!\w*\s*=[^=])", text))
    found = {name: frame.f_locals[name] for name in names if name in frame.f_locals}
    beside = {name: frame.f_globals[name] for name in names if name in frame.f_globals}
    holds = (jax.Array, np.ndarray, dict, list, tuple)
    return found | {n: v for n, v in beside.items() if n not in found and isinstance(v, holds)}


def _is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray, np.generic))


def _site_of(below: tuple[types.FrameType, ...]) -> str | None:
    """The site or plate whose record NumPyro was working on."""
    for frame in below:
        message = frame.f_locals.get("msg", frame.f_locals.get("initial_msg"))
        if isinstance(message, dict) and message.get("type") in _RECORDED:
            return message.get("name")
    return None


def _last_site(frames: Iterator[types.FrameType]) -> str | None:
    """The last site that a trace of the kernel recorded."""
    traces = [
        handler.trace
        for frame in frames
        for handler in [frame.f_locals.get("self")]
        if isinstance(handler, handlers.trace) and getattr(handler, "trace", None)
    ]
    sites = [name for name, site in (traces or [{}])[-1].items() if site["type"] in _RECORDED]
    return sites[-1] if sites else None


def _plates_around(frame: types.FrameType, number: int) -> tuple[str, ...]:
    """The plates whose ``with`` statements a line stands in, as they are written."""
    name = frame.f_code.co_filename
    try:
        tree = parsed("".join(linecache.getlines(name, frame.f_globals)))
    except (SyntaxError, ValueError):  # a cell with magics
        return ()
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        and node.lineno >= frame.f_code.co_firstlineno
        and node.body[0].lineno <= number <= node.end_lineno
    ]
    return tuple(
        ast.unparse(item.context_expr)
        for node in around
        for item in node.items
        if "plate" in ast.unparse(item.context_expr).partition("(")[0]
    )
