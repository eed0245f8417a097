"""Make a call and judge it: it returns, or is refused in our words and changes nothing."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from aimz_lab.errors import AimzLabError
from tests.property.call_values import RULES, VALUES
from tests.property.call_world import World
from tests.property.public_calls import DEFAULT, MISSING, TARGETS, Call, Target

LIMIT_S = 60  # of wall time, on a busy machine
GOOD = ("returned", "refused", "wrong signature", "the user's own error")
_BUILT_IN_WORDS = re.compile(
    r"truth value|not supported between|has no attribute|object is not (iterable|subscriptable)"
)
_SIGNATURE = re.compile(
    r"missing \d+ required|unexpected keyword|positional arguments?|multiple values|"
    r"passed as keyword|takes no arguments"
)
# Errors that the documentation names, with their sentence.
_DOCUMENTED = (
    (IndexError, "the dataset has"),
    (TimeoutError, "has not ended"),
)


class Verdict(NamedTuple):
    """How a call came out.

    Attributes:
        kind: One of ``GOOD``, or what is wrong.
        detail: The error, or what changed.
    """

    kind: str
    detail: str = ""


class Hang(BaseException):
    """A call took too long."""


def judge(world: World, call: Call) -> Verdict:
    """Make a call, put the world back, and say how it came out.

    Args:
        world: What to call.
        call: The call.
    """
    target = TARGETS[call.target]
    args, kwargs = _arguments(world, call)
    function = target.function(world)
    before = world.state()
    try:
        return _outcome(function, args, kwargs, target, call, lambda: world.changed_since(before))
    finally:
        world.restore()


def _outcome(
    function: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
    target: Target,
    call: Call,
    changed: Callable[[], list[str]],
) -> Verdict:
    try:
        with _limited(), _quiet():
            _finished(function(*args, **kwargs))
    except Hang:
        return Verdict("hang", f"more than {LIMIT_S} s")
    except Exception as error:  # noqa: BLE001  it is judged
        kind = _kind(error, target, call)
        detail = f"{type(error).__name__}: {error}"
        if kind in GOOD and not _has_begun(call, error) and (parts := changed()):
            return Verdict("refused, but changed", f"{', '.join(parts)} | {detail}")
        if kind not in GOOD:
            last = traceback.extract_tb(error.__traceback__)[-1]
            detail += f" @ {last.filename.rsplit('/', 2)[-1]}:{last.lineno}"
        return Verdict(kind, detail[:1000])
    accepted = _accepted_wrongly(target, call, args, kwargs)
    return Verdict("accepted", accepted) if accepted else Verdict("returned")


def _has_begun(call: Call, error: Exception) -> bool:
    """Whether a callback that was accepted ended a run, which is no refusal."""
    frames = traceback.extract_tb(error.__traceback__)
    events = ("emit", "conclude")
    return call.target.startswith("lab.") and any(frame.name in events for frame in frames)


def _finished(result: Any) -> None:
    """Wait for a run on a thread, so that the world can be put back."""
    if hasattr(result, "wait") and hasattr(result, "run"):
        result.wait(10)


def _kind(error: Exception, target: Target, call: Call) -> str:
    depth = len(traceback.extract_tb(error.__traceback__))
    if isinstance(error, AimzLabError):
        text = str(error)
        if _BUILT_IN_WORDS.search(text) and not _names_an_argument(text, call):
            return "built-in words"
        if len(text) > 3000:
            return "too long a message"
        return "refused"
    if isinstance(error, TypeError) and _SIGNATURE.search(str(error)) and depth <= 4:
        return "wrong signature"
    if any(isinstance(error, kind) and words in str(error) for kind, words in _DOCUMENTED):
        return "refused"
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name in ("plain", "extra") for frame in frames):
        return "the user's own error"
    if _has_begun(call, error) and isinstance(error, TypeError):
        return "the user's own error"
    return type(error).__name__


def _names_an_argument(text: str, call: Call) -> bool:
    return any(name in text for name, _ in call.changes)


def _accepted_wrongly(target: Target, call: Call, args: list[Any], kwargs: dict[str, Any]) -> str:
    for name, value in call.changes:
        rule = target.arguments[name].rule
        if value == MISSING:
            continue
        given = args[int(name)] if name.isdigit() else kwargs[name]
        if not RULES[rule](given):
            return f"{name}={value} is no {rule}"
    if call.further is not None and not target.open:
        return f"{call.further[0]} is no argument"
    return ""


def _arguments(world: World, call: Call) -> tuple[list[Any], dict[str, Any]]:
    target, changes = TARGETS[call.target], dict(call.changes)
    given: dict[str, Any] = {}
    for name, argument in target.arguments.items():
        if name in changes:
            if changes[name] != MISSING:
                given[name] = VALUES[changes[name]](world)
        elif argument.right is not DEFAULT:
            given[name] = argument.right(world)
    args = [value for name, value in given.items() if name.isdigit()]
    kwargs = {name: value for name, value in given.items() if not name.isdigit()}
    if call.further is not None:
        kwargs[call.further[0]] = VALUES[call.further[1]](world)
    if call.too_many:
        first = [kwargs.pop(name) for name in list(kwargs)[:1]]
        args = [*args, *first, *range(20)]
    return args, kwargs


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def ring(signum: int, frame: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield
