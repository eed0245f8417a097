"""The lines of Python that give the numbers of an effect that is explored by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

import jax
import numpy as np

from aimz_lab.data.tables import is_a, is_table
from aimz_lab.lab.explorers.effect_question import EffectOptions, EffectQuestion, curve_grid
from aimz_lab.lab.explorers.given_names import given_line
from aimz_lab.lab.explorers.moved_inputs import Given, MovedInput, is_kept
from aimz_lab.lab.explorers.scenario_averages import Settings


@dataclass(frozen=True)
class EffectCode:
    """Writes code for the answers of an explorer of effects.

    Attributes:
        given: Arguments of ``predict`` by name, as observed.
        options: What can be chosen.
        key: The key of all scenarios.
        prob: Share of the draws in the intervals.
        averaged: Further arguments of ``estimate_effect``: weights and subset.
    """

    given: Given
    options: EffectOptions
    key: jax.Array
    prob: float
    averaged: Mapping[str, Any]

    def __call__(self, values: Mapping[str, Any]) -> str:
        """Return the lines for these values of the controls."""
        asked = self.options.question(values)
        scenarios = [("baseline", asked.baseline), ("intervention", asked.intervention)]
        lines = [f"{name} = {self._scenario(settings)}" for name, settings in scenarios]
        lines += self._effect(asked)
        if asked.curve is not None:
            lines += self._curve(asked)
        body = "\n".join(lines)
        return f"{self._comment()}\n{self._imports(body)}\n\nkey = {_key(self.key)}\n{body}"

    def _comment(self) -> str:
        names = ["im", "X", *(name for name in self.given if self._is_named(name))]
        names += [name for name, value in self.averaged.items() if not isinstance(value, str)]
        names += ["by"] if self.options.own else []
        return given_line(names, "explore_effect")

    def _imports(self, body: str) -> str:
        wanted = {
            "import numpy as np": "np.",
            "import polars as pl": "pl.",
            "from jax import random": "",
            "from aimz_lab import summarize_effect": "",
        }
        text = f"{body}\n{_key(self.key)}"
        first = [line for line, used in wanted.items() if used in text]
        return "\n".join([*first[:-1], "", first[-1]] if len(first) > 2 else first)

    def _is_named(self, name: str) -> bool:
        """Whether an argument is written by its name, and not by its value."""
        return name != "X" and not _is_plain(self.given[name])

    def _scenario(self, settings: Settings) -> str:
        """Write the arguments of ``predict`` of a scenario."""
        parts = {
            name: name if name == "X" or self._is_named(name) else _text(value)
            for name, value in self.given.items()
        }
        columns: dict[str, Any] = {}
        sites: dict[str, str] = {}
        for moved, value in zip(self.options.inputs.values(), settings, strict=True):
            if is_kept(value):
                continue
            if moved.sweep.of == "site":
                sites[moved.name] = _text(value)
            elif moved.sweep.of == "column":
                columns[moved.name] = value
            else:
                where = moved.name if moved.name in self.given else "X"
                parts[where] = _filled(where, self.given[where], value)
        if columns:
            parts["X"] = _with_columns(self.given["X"], columns)
        if sites:
            before = parts.get("intervention", "None")
            first = "" if before == "None" else f"**{before}, "
            parts["intervention"] = "{" + first + _dict(sites)[1:]
        return _dict(parts, most=72)

    def _averaged(self, asked: EffectQuestion, swept: str = "") -> list[str]:
        by = self._by(asked.by, swept)
        given = [f"by={by}"] if by else []
        return given + [
            f"{name}={self._values_of(value)}" if isinstance(value, str) else f"{name}={name}"
            for name, value in self.averaged.items()
        ]

    def _by(self, name: str, swept: str) -> str:
        """Write groups: columns and arguments as observed, by names other than what is swept."""
        groups = self.options.groups[name]
        own = name == self.options.own
        if groups is None:
            return ""
        if not isinstance(groups, Mapping) or (own and swept not in groups):
            return "by"
        names = {one: f"{one}_observed" if one == swept else one for one in groups}
        return _dict(
            {
                new: f"by[{_text(old)}]" if own else self._values_of(old)
                for old, new in names.items()
            }
        )

    def _values_of(self, name: str) -> str:
        X = self.given["X"]
        if is_table(X) and name in map(str, X.columns):
            return f"X[{_text(name)}]"
        return name if name in self.given else "X"

    def _effect(self, asked: EffectQuestion) -> list[str]:
        contrast = asked.contrast
        named = _text(contrast) if isinstance(contrast, str) else "contrast"
        options = [*self._averaged(asked), f"contrast={named}", "average=True"]
        prob = "" if self.prob == 0.94 else f", prob={self.prob}"
        one = self._one_of_sites(asked)
        return [
            "effect = im.estimate_effect(",
            '    args_baseline={**baseline, "rng_key": key},',
            "    args_intervention=intervention,",
            f"    {', '.join(options)},",
            ")",
            f'print(summarize_effect(effect{prob}, direction="greater"){one})',
        ]

    def _curve(self, asked: EffectQuestion) -> list[str]:
        moved = list(self.options.inputs.values())[asked.curve or 0]
        options = ["**intervention", f'of="{moved.sweep.of}"', *self._averaged(asked, moved.name)]
        prob = "" if self.prob == 0.94 else f", prob={self.prob}"
        return [
            "curve = im.sweep(",
            f"    {_text(moved.name)},",
            f"    {_grid(moved)},",
            f"    {', '.join([*options, 'rng_key=key'])},",
            ")",
            f"print(summarize_effect(curve{prob}){self._one_of_sites(asked)})",
        ]

    def _one_of_sites(self, asked: EffectQuestion) -> str:
        return f"[[{_text(asked.site)}]]" if len(self.options.sites) > 1 else ""


def _grid(moved: MovedInput) -> str:
    return f"[{', '.join(map(_text, curve_grid(moved)))}]"


def _text(value: Any) -> str:
    """Write a plain value, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return _dict({name: _text(each) for name, each in value.items()})
    return repr(value)


def _dict(parts: Mapping[str, str], most: int = 1_000) -> str:
    """Write a dict of values that are written already; over several lines, if it is long."""
    items = [f"{_text(name)}: {text}" for name, text in parts.items()]
    line = f"{{{', '.join(items)}}}"
    if len(line) <= most:
        return line
    return "{\n" + "".join(f"    {item},\n" for item in items) + "}"


def _is_plain(value: Any) -> bool:
    """Whether a value can be written as it is."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return len(value) <= 20 and all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


def _filled(name: str, given: Any, value: Any) -> str:
    """Write an argument of the same shape with one value."""
    old = np.asarray(given)
    if old.ndim == 0:
        return _text(value)
    is_held = np.asarray(value, dtype=old.dtype) == value
    if not hasattr(given, "dtype"):  # a list, which has no shape of its own either
        return f'np.full({old.shape}, {_text(value)}, "{old.dtype if is_held else "float32"}")'
    if is_held:
        return f"np.full({name}.shape, {_text(value)}, {name}.dtype)"
    return f'np.full({name}.shape, {_text(value)}, "float32")'


def _with_columns(table: Any, columns: Mapping[str, Any]) -> str:
    texts = {name: _text(value) for name, value in columns.items()}
    if is_a(table, "polars", "DataFrame"):
        made = [
            f"pl.lit({text}).cast(X.schema[{_text(name)}], strict=False).alias({_text(name)})"
            for name, text in texts.items()
        ]
        return f"X.with_columns({', '.join(made)})"
    if all(name.isidentifier() and not iskeyword(name) for name in texts):
        return f"X.assign({', '.join(f'{name}={text}' for name, text in texts.items())})"
    return f"X.assign(**{_dict(texts)})"


def _key(key: jax.Array) -> str:
    """Write a key: by its seed where that gives the same one, else by its data."""
    data = np.asarray(jax.random.key_data(key))
    seed = int(data.ravel()[-1])
    same = jax.random.key(seed)
    if same.dtype == key.dtype and np.array_equal(jax.random.key_data(same), data):
        return f"random.key({seed})"
    return (
        f'random.wrap_key_data(np.array({data.tolist()}, "uint32"), '
        f"impl={str(jax.random.key_impl(key))!r})"
    )
