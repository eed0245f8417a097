"""What a kernel's code says, in plain values that another process can compare."""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import enum
import types
from collections.abc import (
    Callable,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Set,
    Sized,
)

import numpy as np

from aimz_lab.kernel.name_uses import (
    AS_A_WHOLE,
    CONTENT,
    WHOLE,
    NameUses,
    Step,
    Use,
    name_uses,
    parts_read,
)
from aimz_lab.kernel.read_code import (
    contents_of,
    functions_of,
    is_library_function,
    is_library_module,
    names_in,
)
from aimz_lab.kernel.source_checksum import source_checksum, source_of
from aimz_lab.kernel.value_parts import (
    ABSENT,
    bound,
    made_with,
    may_change,
    member,
    own_classes,
    parts_of,
)
from aimz_lab.kernel.value_text import LONGEST, is_checksum, plain_text
from aimz_lab.types import JsonObject

_MOST = 2_000
"""Most constants that are compared."""


def code_facts(kernel: Callable | None, read: Iterable[tuple[str, object]] = ()) -> JsonObject:
    """Describe a kernel's code and the user's functions and constants that it reads by name.

    Equal descriptions do not prove that two kernels compute the same. Not described are:

    - objects of own classes, other than data classes and trees of JAX, that the code reaches in
      another way than by a name from outside and attributes after it: by a second name, in a loop,
      as the argument of a helper, by ``getattr`` or by an operator such as ``*`` or ``[]``;
    - what other libraries and extensions in C hold, such as SciPy, xarray, ``operator`` and
      ``np.vectorize``, the masks of masked arrays, and the function of a ``defaultdict``;
    - names that the code imports while it runs, files, environment variables and random numbers;
    - what the code changes itself, such as a list that it appends to;
    - where the source is not at hand, as of two lambdas in one line, neither it nor dicts, lists
      and NumPy's arrays.

    Args:
        kernel: A kernel or a guide: a function, a method, a ``partial``, or an object that can be
            called. Of installed libraries, only names of functions and classes are described.
        read: Further values with their names.

    Returns:
        ``functions``, a checksum of the source by name, ``None`` where the source is not at hand,
        the kernel's own under ``""``; and ``constants``, the values of global names, closures,
        attributes and defaults as text: numbers written out, arrays and long collections as
        checksums, those of configurations part by part, as far as the code reads them.

    Example:
        >>> sd = 0.5
        >>> def prior(X): return X * sd
        >>> code_facts(prior)["constants"]
        {'sd': '0.5'}
    """
    read = list(read)
    found = _Facts()
    found.read_all(kernel, read)
    if found.containers or found.counts:  # other functions may read what one changes
        found = _Facts(found.containers, found.counts)
        found.read_all(kernel, read)
    return {"functions": found.functions, "constants": found.constants}


def code_differences(there: Mapping, here: Mapping, what: str) -> list[str]:
    """Return the differences of two results of :func:`code_facts`, as far as both are known.

    Args:
        there: That of a saved model.
        here: That of the one at hand.
        what: What they describe, for the message.

    Example:
        >>> one, other = ({"functions": {"": x, "f": None}, "constants": {"sd": x}} for x in "12")
        >>> code_differences(one, other, "kernel")
        ['the source of the kernel', 'sd, which the kernel reads (1 there and 2 here)']
    """
    found = []
    for name, checksum in there["functions"].items():
        own = here["functions"].get(name)
        if None not in (checksum, own) and checksum != own:
            found.append(f"the source of {_called(name, what)}")
    for name, value in there["constants"].items():
        if (own := here["constants"].get(name, value)) != value:
            values = f"{str(value)[:LONGEST]} there and {own[:LONGEST]} here"
            found.append(f"{_plain_name(name)}, which the {what} reads ({values})")
    return list(dict.fromkeys(found))


def unread_functions(*facts: Mapping, what: str) -> list[str]:
    """Return the functions whose source is not at hand in one of several :func:`code_facts`.

    Args:
        *facts: Descriptions of the same code.
        what: What they describe, for the message.

    Example:
        >>> unread_functions({"functions": {"": "1", "scaled": None}}, what="kernel")
        ['scaled, which the kernel calls']
    """
    names = [name for each in facts for name, own in each["functions"].items() if own is None]
    return list(dict.fromkeys(_called(name, what) for name in names))


class _Facts:
    """Follows the names that code reads, each function once for each object that it belongs to.

    Args:
        containers: Containers, by ``id``, that an earlier reading found to be changed.
        counts: Attributes of classes that an earlier reading found to be changed.
    """

    def __init__(self, containers: Set[int] = frozenset(), counts: Set[str] = frozenset()) -> None:
        self.containers = set(containers)
        self.counts = set(counts)
        self.functions: dict[str, str | None] = {}
        self.constants: dict[str, str] = {}
        self._owners: dict[types.FunctionType, set[int]] = {}
        self._open: set[int] = set()

    def read_all(self, kernel: Callable | None, read: Iterable[tuple[str, object]]) -> None:
        self._read_kernel(kernel)
        for name, value in read:
            self.read(name, value)

    def _read_kernel(self, kernel: Callable | None) -> None:
        *decorators, own = [*functions_of(kernel)] or [None]
        if own is not None:  # the innermost
            self._read_function("", own)
        for decorator in decorators:
            self._read_function(decorator.__code__.co_name, decorator)
        for name, value in made_with(kernel):
            self.read(name if isinstance(name, str) else f"argument {name}", value)

    def _read_function(self, name: str, function: types.FunctionType | types.MethodType) -> None:
        owner = getattr(function, "__self__", None)
        function = getattr(function, "__func__", function)
        if is_library_function(function):
            self._read_methods(type(owner))  # such as a user's kind of AutoGuide
            return
        owners = self._owners.setdefault(function, set())
        if id(owner) in owners:
            return
        is_new = not owners
        owners.add(id(owner))
        if is_new:
            self.functions[_free(name, self.functions)] = source_checksum(function)
        tree = source_of(function)
        uses = NameUses() if tree is None else name_uses(tree)
        inside = _names_read(function) if is_new else {}
        code = function.__code__
        own = code.co_varnames[0] if owner is not None and code.co_argcount else ""
        use = _use_in(code, uses, {*inside, own} - {""}, known=tree is not None)
        for each in inside:
            if isinstance(inside[each], type):
                self.counts |= {str(path[0].name) for path in uses.changed.get(each, ()) if path}
        use = dataclasses.replace(use, stored=use.stored | self.counts)
        rebound = _written(code, "STORE_GLOBAL", "STORE_DEREF")
        for each, value in inside.items():
            if each in rebound or each.startswith("__"):
                continue
            if tree is not None or not may_change(value):
                self.read(each, value, _use_of(each, uses, use))
        if owner is not None:
            self._read_members(owner, code, _use_of(own, uses, use), known=tree is not None)

    def _read_members(self, owner: object, code: types.CodeType, use: Use, *, known: bool) -> None:
        """Read what a method reads of its object, or of its class."""
        paths = dataclasses.replace(use, read=use.read - {()})
        for each in sorted(use.named):
            value = member(owner, each)
            if value is not ABSENT and (known or not may_change(value)):
                self.read(each, value, paths.into(Step("attribute", each)))
        if "super" in names_in(code)[0]:
            for base in own_classes(owner if isinstance(owner, type) else type(owner)):
                for each in sorted(use.named & vars(base).keys()):
                    self._read_functions(each, bound(vars(base)[each], owner))

    def read(self, name: str, value: object, use: Use = AS_A_WHOLE) -> None:
        """Read a value: as text if it can be written out, else its parts or its code.

        Args:
            name: Its name.
            value: The value.
            use: How the code uses it.
        """
        is_open = id(value) in self._open and not isinstance(value, types.FunctionType)
        if is_open or len(self.constants) >= _MOST or id(value) in self.containers:
            return
        if _is_changed(value, use):
            if () not in use.changed and isinstance(value, _CONTAINERS):
                self.containers.add(id(value))
            return
        self._open.add(id(value))
        with contextlib.suppress(Exception):  # whatever an object of the user raises
            self._read(name, value, use)
        self._open.discard(id(value))

    def _read(self, name: str, value: object, use: Use) -> None:
        parts = parts_read(use.read)
        if isinstance(value, types.ModuleType):
            self._read_module(value, parts or {}, use)
            return
        if isinstance(value, type):
            self._read_class(name, value, use)
            return
        inside = parts_of(value, parts)
        if inside is not None and parts is not None and not parts.keys() <= inside.keys():
            parts = None  # a method, such as ``items``, may read all of it
            use = dataclasses.replace(use, read=WHOLE)
        changes = inside is not None and any(use.into(step).changed for step in inside)
        text = plain_text(value) if (parts is None and not changes) or inside is None else None
        if text is not None and not (is_checksum(text) and _has_names(inside)):
            self._keep(name, text)
        elif inside is not None:
            if parts is None and not changes:
                size = f" of {len(value)}" if isinstance(value, Sized) else ""
                self._keep(name, f"{type(value).__name__}{size}")
            for step, part in inside.items():
                self.read(f"{name}{_as_code(step)}", part, use.into(step))
            self._read_functions(name, value)
        else:
            self._read_callable(name, value, use)
        if isinstance(value, enum.Enum):
            self._read_methods(type(value))

    def _keep(self, name: str, text: str) -> None:
        self.constants[_free(name, self.constants)] = text

    def _read_module(self, module: types.ModuleType, steps: Iterable[Step], use: Use) -> None:
        if is_library_module(module.__name__):
            return
        for step in steps:
            value = vars(module).get(str(step.name), ABSENT)
            if value is not ABSENT:
                self.read(str(step.name), value, use.into(step))

    def _read_class(self, name: str, kind: type, use: Use) -> None:
        self._keep(name, kind.__name__)
        self._read_methods(kind)
        parts = parts_read(use.read)
        named = use.named | {str(step.name) for step in parts or ()}
        if parts is None and issubclass(kind, enum.Enum):
            named |= kind.__members__.keys()
        has = {each for base in own_classes(kind) for each in vars(base)}
        for each in sorted(named & has):
            self.read(f"{name}.{each}", member(kind, each), use.into(Step("attribute", each)))

    def _read_methods(self, kind: type) -> None:
        for base in own_classes(kind):  # such as a module of Flax
            for each, part in sorted(vars(base).items()):  # in whatever order they were written
                with contextlib.suppress(Exception):
                    self._read_functions(each, bound(part, kind))

    def _read_callable(self, name: str, value: object, use: Use) -> None:
        for keyword, part in made_with(value):
            self.read(f"{name}({keyword})", part)
        for step in parts_read(use.read) or () if callable(value) else ():
            if step.name in getattr(value, "__dict__", ()):  # an attribute of a function
                self.read(f"{name}.{step.name}", vars(value)[step.name], use.into(step))
        functions = [*functions_of(value)]
        own = getattr(value, "__name__", None)
        if isinstance(own, str) and all(map(is_library_function, functions)):
            self._keep(name, own)
        self._read_functions(name, value)

    def _read_functions(self, name: str, value: object) -> None:
        for function in functions_of(value):
            self._read_function(name, function)


_CONTAINERS = (MutableMapping, MutableSequence, MutableSet, np.ndarray)  # also deques


def _names_read(function: types.FunctionType) -> dict[str, object]:
    """Return the closure, the global names and the defaults that a function reads."""
    code = function.__code__
    found = dict(zip(code.co_freevars, contents_of(function.__closure__ or ()), strict=True))
    space = function.__globals__
    found |= {name: space[name] for name in names_in(code)[0] if name in space}
    defaults = function.__defaults__ or ()
    first = code.co_argcount - len(defaults)
    found |= zip(code.co_varnames[first : code.co_argcount], defaults, strict=True)
    return found | (function.__kwdefaults__ or {})


def _written(code: types.CodeType, *kinds: str) -> set[str]:
    """Return the names that code writes by instructions of some kinds.

    What a kernel writes, such as the count of its calls, differs from one process to the next.
    """
    found = {each.argval for each in dis.get_instructions(code) if each.opname in kinds}
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return found.union(*(_written(part, *kinds) for part in inner))


def _use_in(code: types.CodeType, uses: NameUses, outer: Set[str], *, known: bool) -> Use:
    """Return what the uses of all values in a function have in common."""
    stored = set() if known else _written(code, "STORE_ATTR")
    for name, paths in uses.changed.items():
        if name not in outer:
            attributes = ([s for s in path if s.kind == "attribute"] for path in paths)
            stored |= {str(steps[-1].name) for steps in attributes if steps}
    return Use(stored=stored, named=names_in(code)[2])


def _use_of(name: str, uses: NameUses, use: Use) -> Use:
    """Return how a function uses the value of a name."""
    read, changed = uses.paths.get(name, WHOLE), uses.changed.get(name, frozenset())
    return dataclasses.replace(use, read=read, changed=changed)


def _is_changed(value: object, use: Use) -> bool:
    """Whether a function changes a value, such as a list that it appends to.

    An object of another class may have a method ``add`` that changes nothing.
    """
    if () in use.changed:
        return True
    if isinstance(value, np.ndarray) or type(value).__module__.partition(".")[0] == "pandas":
        return bool(use.changed)
    if isinstance(value, MutableSequence):
        return any(len(path) == 1 for path in use.changed)
    return (CONTENT,) in use.changed and isinstance(value, _CONTAINERS)


def _has_names(inside: Mapping[Step, object] | None) -> bool:
    return any(isinstance(step.name, str) for step in inside or ())


def _as_code(step: Step) -> str:
    return f".{step.name}" if step.kind == "attribute" else f"[{step.name!r}]"


def _free(name: str, taken: Iterable[str]) -> str:
    """Return a name for another thing of the same name: in a module of a helper, for example."""
    while name in taken:
        name += "'"
    return name


def _called(name: str, what: str) -> str:
    return f"{_plain_name(name)}, which the {what} calls" if name else f"the {what}"


def _plain_name(name: str) -> str:
    return name.rstrip("'")
