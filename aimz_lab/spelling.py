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
        >>> near_names("aeg", ["ago", "age"])
        ['age']
        >>> near_names("batchSize", ["X", "batch_size"]), near_names("batch", ["batch_size"])
        (['batch_size'], ['batch_size'])
    """
    plain: dict[str, str] = {}
    for one in map(str, known):
        plain.setdefault(_plain(one), one)
    typed = _plain(name)
    swapped = [one for one in plain if _are_swapped(typed, one)]
    near = [*swapped, *get_close_matches(typed, plain, most, _LEAST_LIKENESS)]
    near = [plain[one] for one in near]
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


def _are_swapped(typed: str, known: str) -> bool:
    """Whether the names differ by a swap of two neighbouring letters."""
    if len(typed) != len(known):
        return False
    off = [i for i, (one, other) in enumerate(zip(typed, known, strict=True)) if one != other]
    if len(off) != 2 or off[1] != off[0] + 1:
        return False
    return typed[off[0]] == known[off[1]] and typed[off[1]] == known[off[0]]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _words(name: str) -> list[str]:
    return [word for word in name.lower().split("_") if len(word) > 1]
