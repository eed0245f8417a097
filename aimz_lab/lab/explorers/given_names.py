"""The line of a code that says what its names stand for."""

from __future__ import annotations

from collections.abc import Iterable


def given_line(arguments: Iterable[str], function: str) -> str:
    """Return a comment that says of names in a code that they are what a function was given.

    Args:
        arguments: Arguments as they are written in a call; values that are written out have no
            name.
        function: Name of the function.

    Example:
        >>> given_line(["im", "X", "y=y", "num_samples=50"], "explore_model")
        '# im, X and y are those that explore_model was given.'
    """
    pairs = (argument.partition("=") for argument in arguments)
    *names, last = [name for name, _, value in pairs if value in ("", name)]
    return (
        f"# {', '.join(names)} and {last} are those that {function} was given."
        if names
        else f"# {last} is the one that {function} was given."
    )
