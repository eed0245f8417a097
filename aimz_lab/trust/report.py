"""Reports of findings, each green, amber or red, with one sentence for the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Literal

from aimz_lab.errors import TrustError
from aimz_lab.system.lazy_modules import pd

Level = Literal["green", "amber", "red"]
"""``green``: nothing speaks against it. ``amber``: look, or not known. ``red``: do not use it."""

FindingLevel = Level | Literal["unjudged"]
"""``unjudged``: could not be judged, and counts for nothing."""

_ORDER: tuple[FindingLevel, ...] = ("unjudged", "green", "amber", "red")
_COLOURS = {"unjudged": "#59636e", "green": "#1a7f37", "amber": "#9a6700", "red": "#cf222e"}
_MARKS = {"unjudged": "-", "green": "ok", "amber": "look", "red": "BAD"}


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: Name of the check.
        level: How it counts.
        text: What was found, as a clause with its numbers; a full stop at its end goes, which a
            clause made of an error has.
        advice: What to do next; empty where there is nothing to do.
        is_cause: Whether the other findings may follow from it, so that its advice comes first.
    """

    name: str
    level: FindingLevel
    text: str
    advice: str = ""
    is_cause: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text.rstrip("."))


def _style(level: FindingLevel) -> str:
    """Return the style of a level's words; legible on dark as well."""
    colour = _COLOURS[level]
    return f"color:{colour};color:color-mix(in srgb,{colour} 70%,currentColor);font-weight:600"


def worst(findings: tuple[Finding, ...]) -> Level:
    """Return the highest level among findings; amber if none was judged."""
    level = max((one.level for one in findings), key=_ORDER.index, default="unjudged")
    return "amber" if level == "unjudged" else level


def of_left_out(left_out: str) -> list[Finding]:
    """Return a finding of rows that were left out, as ``TableSpec(missing="drop")`` asks.

    Args:
        left_out: Which ones, as a phrase; empty for none.
    """
    return [Finding("missing values", "green", left_out)] if left_out else []


class Report:
    """Findings, the verdict over them, and what to do next.

    Args:
        title: What was examined, as a heading.
        findings: What was found, in the order of the checks.
        sentences: The beginning of the verdict, by level.

    Attributes:
        title: What was examined.
        findings: What was found.
    """

    def __init__(
        self, title: str, findings: tuple[Finding, ...], sentences: dict[Level, str]
    ) -> None:
        self.title = title
        self.findings = findings
        self._sentences = sentences

    @property
    def level(self) -> Level:
        """``"green"``, ``"amber"`` or ``"red"``: that of the worst finding."""
        return worst(self.findings)

    @property
    def ok(self) -> bool:
        """Whether no finding is red."""
        return self.level != "red"

    @property
    def verdict(self) -> str:
        """One sentence: whether to go on, and the first of the worst findings."""
        level = self.level
        if level == "green":
            return f"{self._sentences[level]}."
        reasons = [one.text for one in self.findings if one.level == level]
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return f"{self._sentences[level]}: {reasons[0]}{more}."

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What to do next: what may mend the rest, and then the most pressing first."""
        by_level = sorted(self.findings, key=lambda one: -_ORDER.index(one.level))
        ordered = sorted(by_level, key=lambda one: not one.is_cause)
        return tuple(dict.fromkeys(one.advice for one in ordered if one.advice))

    def __getitem__(self, name: str) -> Finding:
        for one in self.findings:
            if one.name == name:
                return one
        raise KeyError(name)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def raise_if_bad(self) -> None:
        """Raise if the level is red.

        Raises:
            TrustError: With the verdict, and what to do next.
        """
        if not self.ok:
            raise TrustError(" ".join([self.verdict, *self.next_steps]))

    def to_frame(self) -> pd.DataFrame:
        """Return the findings as a table, a row for each check."""
        rows = [(one.name, one.level, one.text, one.advice) for one in self.findings]
        return pd.DataFrame(rows, columns=["check", "level", "finding", "advice"])

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.level}", self.verdict, ""]
        lines += [f"  [{_MARKS[one.level]:>4}] {one.name}: {one.text}" for one in self.findings]
        if self.next_steps:
            lines += ["", "What to do next:", *(f"  - {step}" for step in self.next_steps)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="{_style(one.level)}">{one.level}</td>'
            f'<th scope="row" style="text-align:left">{escape(one.name)}</th>'
            f'<td style="text-align:left">{escape(one.text)}</td></tr>'
            for one in self.findings
        )
        steps = "".join(f"<li>{escape(step)}</li>" for step in self.next_steps)
        return (
            f'<div><p style="{_style(self.level)}">'
            f"{escape(self.title)}: {escape(self.verdict)}</p>"
            f"<table><tbody>{rows}</tbody></table>"
            + (f"<p>What to do next:</p><ul>{steps}</ul>" if steps else "")
            + "</div>"
        )
