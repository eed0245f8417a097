"""What the package exports, and what its docstrings and the code of its users say of it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

import aimz_lab
from aimz_lab import Callback, lab
from aimz_lab.inference.run.getting_ready import Display
from aimz_lab.predictive import Reducer

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Warns", "Example")
_HEADER = re.compile(rf"^({'|'.join(SECTIONS)}):$", re.MULTILINE)
_CHECKS = {
    "check_callable": "ArgumentError",
    "check_callbacks": "CallError",
    "check_choice": "ArgumentError",
    "check_flag": "ArgumentError",
    "check_int_from": "ArgumentError",
    "check_mapping": "CallError",
    "check_names": "ArgumentError",
    "check_path": "ArgumentError",
    "check_positive_int": "ArgumentError",
    "check_progress": "ArgumentError",
    "check_text": "ArgumentError",
    "predictive_group": "ArgumentError",
    "site_names": "ArgumentError",
}
# A listener's events and a reducer's members are documented once, where the contract is.
_CONTRACTS = {Callback: vars(Callback), Display: vars(Display), Reducer: ("block", "finish")}


class Public(NamedTuple):
    """Something that users call.

    Attributes:
        label: Its path, such as ``ImpactModel.fit``.
        owner: The exported class or function.
        function: What is called; the class itself for its constructor.
    """

    label: str
    owner: Any
    function: Callable

    @property
    def name(self) -> str:
        return self.label.rpartition(".")[2]

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def sections(self) -> dict[str, str]:
        return sections(self.doc)


def exported() -> Iterator[tuple[str, Any]]:
    """Every exported class and function, by name; errors and warnings are explained by a line."""
    for name in aimz_lab.__all__:
        value = getattr(aimz_lab, name)
        if not (inspect.ismodule(value) or _is_error(value)):
            yield name, value
    for name in lab.__all__:
        yield name, getattr(lab, name)
    mlflow = __import__("aimz_lab.mlflow").mlflow
    for name in mlflow.__all__:
        if inspect.isfunction(value := getattr(mlflow, name)):
            yield name, value


def _is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


def public() -> Iterator[Public]:
    """Every exported class and function, and every public method of these classes once."""
    seen = set()
    for name, value in exported():
        yield Public(name, value, value)
        if not inspect.isclass(value):
            continue
        for method, function in _methods(value):
            if function not in seen and not _follows_a_contract(value, method):
                seen.add(function)
                yield Public(f"{name}.{method}", value, function)


def _methods(cls: type) -> Iterator[tuple[str, Callable]]:
    for name in dir(cls):
        function = inspect.getattr_static(cls, name)
        function = getattr(function, "__func__", function)  # of a class method
        if name[0] == "_" or not inspect.isfunction(function):
            continue
        if function.__module__.startswith("aimz_lab."):
            yield name, function


def _follows_a_contract(cls: type, method: str) -> bool:
    return any(
        isinstance(cls, type) and cls is not contract and _is_one(cls, contract) and method in names
        for contract, names in _CONTRACTS.items()
    )


def _is_one(cls: type, contract: type) -> bool:
    if contract is Reducer:
        return all(hasattr(cls, member) for member in ("block", "finish"))
    return issubclass(cls, contract)


def sections(doc: str) -> dict[str, str]:
    """The sections of a docstring without its indentation, by header."""
    parts = _HEADER.split(inspect.cleandoc(doc))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters(function: Callable) -> list[inspect.Parameter]:
    """The parameters that a caller gives."""
    every = inspect.signature(function).parameters.values()
    return [parameter for parameter in every if parameter.name not in ("self", "cls")]


def undocumented(function: Callable, doc: str) -> list[str]:
    """Parameters that neither arguments, nor attributes, nor ``name`` in the text tell of."""
    said = sections(doc)
    told = set(re.findall(r"``(\w+)``", _HEADER.split(inspect.cleandoc(doc))[0]))
    for section in ("Args", "Attributes"):
        told |= set(re.findall(r"^    (\*{0,2}\w+):", said.get(section, ""), re.MULTILINE))
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    names = [stars.get(p.kind, "") + p.name for p in parameters(function)]
    return [name for name in names if name not in told]


def raised(function: Callable) -> set[str]:
    """Names of the errors that the body of a function, or of a constructor, raises itself."""
    if inspect.isclass(function):
        if dataclasses.is_dataclass(function):
            return set()  # it has a constructor, but no source of one
        function = function.__init__
    if not inspect.isfunction(function):
        return set()
    body = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found = set()
    for node in ast.walk(body):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(_last_name(node.exc.func))
        if isinstance(node, ast.Call):
            found.add(_CHECKS.get(_last_name(node.func)))
    return found - {None}


def _last_name(node: ast.AST) -> str | None:
    return getattr(node, "attr", None) or getattr(node, "id", None)


class Uses:
    """Which arguments a function of a name is called with, anywhere in some code."""

    def __init__(self) -> None:
        self.keywords: dict[str, set[str]] = defaultdict(set)
        self.positional: dict[str, int] = defaultdict(int)

    def read(self, source: str) -> None:
        """Take in the calls of some code."""
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                self._count(_last_name(node.func), node.args, node.keywords)
                if _last_name(node.func) == "partial" and node.args:
                    self._count(_last_name(node.args[0]), node.args[1:], node.keywords)

    def _count(self, name: str | None, args: list[ast.expr], keywords: list[ast.keyword]) -> None:
        if name is not None:
            self.keywords[name] |= {keyword.arg for keyword in keywords if keyword.arg}
            self.positional[name] = max(self.positional[name], len(args))

    def unused(self, name: str, function: Callable) -> list[str]:
        """Parameters of ``function`` that no call of ``name`` gives."""
        flexible = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = [p for p in parameters(function) if p.kind not in flexible]
        in_order = [p.name for p in named if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        given = self.keywords[name] | set(in_order[: self.positional[name]])
        return [p.name for p in named if p.name not in given]


def code_cells(notebook: Path) -> Iterator[str]:
    """The code of a notebook, without the lines that only IPython understands."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            yield "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def uses(python: Iterable[Path], notebooks: Iterable[Path]) -> Uses:
    """Read the calls of some files."""
    found = Uses()
    for path in python:
        found.read(path.read_text(encoding="utf-8"))
    for path in notebooks:
        for source in code_cells(path):
            found.read(source)
    return found
