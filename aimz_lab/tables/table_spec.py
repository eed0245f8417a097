"""A description of how a table becomes the kernel's arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aimz_lab.calls import public
from aimz_lab.errors import ArgumentError
from aimz_lab.tables.formulas import Part, parse_part
from aimz_lab.types import JsonObject, check_choice, shown

Missing = Literal["refuse", "drop"]


@public
class TableSpec:
    """How the columns of a table become the arguments of a kernel.

    Each keyword names an argument of the kernel and says how it is made:

    - ``"age"`` or ``"scale(log(income))"``: one vector, a number per row.
    - ``"scale(age) + bs(income, df=4) + C(region)"``: a matrix, with a column for each number that
      the terms give. An intercept is the kernel's; write ``"1 + ..."`` for a column of ones. A list
      of terms, ``["age"]``, is a matrix even with one column, and its columns are in its order.
    - ``"I(bought == 'yes')"``: 1 where it holds, else 0; results call such an output
      ``P(bought = yes)``. A text that no row of the training table has is refused. ``"I(size >
      'S')"`` compares by the order of an ordered category (``pd.Categorical(..., ordered=True)``,
      or ``pl.Enum``) of the training table.
    - ``"index(region)"``: for each row the number of its level, from 0. Categorical outcomes take
      it. Their means and effects are refused, unless the levels have an order: that of an ordered
      category, or that of numbers with ``OrderedLogistic``. Results then say which number is which
      level.
    - ``"levels(region)"``: the number of levels, a plain int.

    Formulas are those of the package `formulaic`_. Outside of functions, ``+``, ``-``, ``:``, ``*``
    and ``**`` are operators of terms; arithmetic stands in ``I()``, such as ``I(age**2)``. What
    formulas learn from the training table, such as means, levels and knots, encodes each later
    table.

    Predictions need no column of the output, nor of another argument that the kernel only observes,
    ``obs=m`` or ``obs=None if m is None else m - pre`` with the default ``m=None``: it draws them.

    .. _formulaic: https://matthewwardrop.github.io/formulaic/

    Args:
        dims: For sites whose axes cannot be inferred from the kernel: the matrix arguments or
            category columns that the axes run over, such as ``{"effect": "clinic"}``.
        missing: What becomes of rows with a missing value: ``"refuse"`` the table, or ``"drop"``
            these rows and say how many.
        **arguments: A formula, or a list of terms, by kernel argument.

    Raises:
        ArgumentError: If a formula cannot be read, or contains what is not allowed; or if ``dims``
            are no names.

    Example:
        >>> spec = TableSpec(X="scale(age) + C(sex)", y="scale(income)", clinic="index(clinic)")
        >>> spec.columns
        ('age', 'sex', 'income', 'clinic')
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, str | Sequence[str]] | None = None,
        missing: Missing = "refuse",
        **arguments: str | Sequence[str],
    ) -> None:
        if not arguments:
            msg = (
                "A TableSpec names the kernel's arguments: TableSpec(X='age + income', "
                "y='earnings')."
            )
            raise ArgumentError(msg)
        check_choice("missing", missing, Missing)
        self.missing: Missing = missing
        self.dims = _checked_dims(dims)
        self.parts: Mapping[str, Part] = {
            name: parse_part(name, text) for name, text in arguments.items()
        }
        self._texts = {
            name: text if isinstance(text, str) else list(text) for name, text in arguments.items()
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that it uses."""
        return tuple(dict.fromkeys(c for part in self.parts.values() for c in part.columns))

    @property
    def by_order(self) -> frozenset[str]:
        """Those of them that formulas use by order, as in ``I(size > 'S')``."""
        return frozenset[str]().union(*(part.by_order for part in self.parts.values()))

    @property
    def sized(self) -> frozenset[str]:
        """Those of them that stand in a comparison of numbers, as in ``I(1 - x < 0.9)``."""
        return frozenset[str]().union(*(part.sized for part in self.parts.values()))

    @property
    def thresholds(self) -> frozenset[tuple[str, float]]:
        """The columns that are compared with a number, each with that number."""
        empty = frozenset[tuple[str, float]]()
        return empty.union(*(part.thresholds for part in self.parts.values()))

    def as_plain(self) -> JsonObject:
        """Return the description as JSON values."""
        return {
            "missing": self.missing,
            "dims": {site: list(names) for site, names in self.dims.items()},
            "arguments": dict(self._texts),
        }

    @classmethod
    def of_plain(cls, plain: JsonObject) -> TableSpec:
        """Return the description from its plain values.

        Args:
            plain: From :meth:`as_plain`.

        Returns:
            The description.
        """
        return cls(missing=plain["missing"], dims=plain["dims"], **plain["arguments"])

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, TableSpec) and self.as_plain() == other.as_plain()

    def __hash__(self) -> int:
        return hash((self.missing, tuple(self._texts)))

    def __repr__(self) -> str:
        texts = [f"{name}={text!r}" for name, text in self._texts.items()]
        if self.dims:
            texts.append(f"dims={dict(self.dims)!r}")
        if self.missing != "refuse":
            texts.append(f"missing={self.missing!r}")
        return f"TableSpec({', '.join(texts)})"


def _checked_dims(dims: Mapping[str, str | Sequence[str]] | None) -> Mapping[str, tuple[str, ...]]:
    """Return the names of each site's axes.

    Raises:
        ArgumentError: If they are no names.
    """
    if dims is None:
        return {}
    if isinstance(dims, Mapping):
        made = {
            site: (names,) if isinstance(names, str) else tuple(names)
            for site, names in dims.items()
            if isinstance(names, (str, list, tuple))
        }
        if len(made) == len(dims) and all(
            isinstance(name, str) for site, names in made.items() for name in (site, *names)
        ):
            return made
    msg = (
        f"dims= takes names by site, such as {{'effect': 'clinic'}} or a list of names for several "
        f"axes; got {shown(dims)}."
    )
    raise ArgumentError(msg)
