"""Find the name that a misspelt one was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LEAST_LIKENESS = 0.75


def near_names(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return known names that are spelt nearly so, or have the same words in them.

    Args:
        name: A name that is not known.
        known: Names that are.
        most: At most so many are returned.

    Example:
        >>> near_names("batchSize", ["X", "batch_size"]), near_names("batch", ["batch_size"])
        (['batch_size'], ['batch_size'])
    """
    plain: dict[str, str] = {}
    for one in map(str, known):
        plain.setdefault(_plain(one), one)
    near = [plain[one] for one in get_close_matches(_plain(name), plain, most, _LEAST_LIKENESS)]
    return list(dict.fromkeys([*near, *with_words(name, plain.values())]))[:most]


def with_words(name: str, known: Iterable[str]) -> list[str]:
    """Return known names that have all the words of a name in them.

    Args:
        name: A name that is not known.
        known: Names that are.

    Example:
        >>> with_words("batch", ["batch_size", "epochs"])
        ['batch_size']
    """
    words = set(_words(name))
    return [one for one in known if words and words <= set(_words(one))]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question to end a message with; empty if no known name is near.

    Args:
        name: A name that is not known.
        known: Names that are.

    Example:
        >>> did_you_mean("num_sample", ["num_samples"])
        " Did you mean 'num_samples'?"
    """
    near = near_names(name, known)
    return f" Did you mean {near[0]!r}?" if near else ""


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _words(name: str) -> list[str]:
    return [word for word in name.lower().split("_") if len(word) > 1]
