"""Numbers as a person reads them: with as many digits as matter, and spans of time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

SEEN_S = 0.05
"""Seconds that are not written as 0.0 s."""

WELL_MIXED = 1.01
"""R-hat up to which chains agree; Vehtari et al. (2021)."""

_WIDEST = Context(prec=400, rounding=ROUND_HALF_UP)  # enough digits for any float
_ROUNDING = 1e-7  # of a value: a smaller spread is what single precision leaves
_MORE_DECIMALS = 12  # then double precision ends
_MEASURES = ("mean", "median", "50%", "observed", "predicted")
_ENDS = (("hdi_low", "hdi_high"), ("low", "high"), ("5%", "95%"))
_SPREADS = ("sd", "se")


def fixed(value: float, decimals: int = 0, *, group: str = ",") -> str:
    """Write a finite value with so many decimals, thousands in groups.

    An exact half goes away from zero, as on the dashboard's page; Python's own formats round it to
    even. There is no minus before zero.

    Example:
        >>> fixed(1000.5), fixed(0.25, 1), fixed(-0.3)
        ('1,001', '0.3', '0')
    """
    unit = Decimal(1).scaleb(-decimals)
    return f"{_WIDEST.quantize(Decimal(float(value)), unit):z{group}.{decimals}f}"


def number(value: float | None, digits: int = 4) -> str:
    """Write a value with ``digits`` significant digits, thousands in groups.

    Example:
        >>> number(1.41823), number(-10_432.7), number(0.0000123), number(None)
        ('1.418', '-10,433', '1.23e-05', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if 10 ** (digits - 1) <= abs(value) < 1e9:
        return fixed(value)
    rounded = Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal(float(value))
    return f"{float(rounded):z.{digits}g}"


def number_beside(value: float, spread: float, digits: int = 4) -> str:
    """Write a value that stands beside its spread, as :func:`number` does or with more decimals.

    Args:
        value: A mean, or an end of an interval.
        spread: Its standard deviation, or the width of its interval, which gets two digits. What is
            not finite, or within the rounding of single precision, asks for no more decimals.
        digits: Least significant digits.

    Example:
        >>> number_beside(1182.04, 0.065), number_beside(1182.04, 30.0), number_beside(0.5, 0.2)
        ('1,182.040', '1,182', '0.5')
    """
    if not value or not math.isfinite(value):
        return number(value, digits)
    exponent = math.floor(math.log10(abs(value)))
    decimals = _decimals(spread, abs(value))
    if decimals <= max(0, digits - 1 - exponent):
        return number(value, digits)
    if 1e-3 <= abs(value) < 1e9:
        return fixed(value, decimals)
    return number(value, decimals + 1 + exponent)


def _decimals(spread: float, value: float) -> int:
    """Return how many decimals give a spread two digits."""
    if not _ROUNDING * value < spread < math.inf:
        return 0
    return max(0, 1 - math.floor(math.log10(spread / 0.995)))  # 0.0996 is written 0.10


def beside_limit(value: float, limit: float, decimals: int = 2) -> tuple[str, str]:
    """Write a value and the limit that it is held against, so that they are seen to differ.

    Args:
        value: The value.
        limit: The limit.
        decimals: Least decimals of both; they get more while they look alike and are not.

    Example:
        >>> beside_limit(0.674, 0.6667), beside_limit(0.9, 0.6667), beside_limit(0.5, 0.5)
        (('0.674', '0.667'), ('0.90', '0.67'), ('0.50', '0.50'))
    """
    if not (math.isfinite(value) and math.isfinite(limit)):
        return f"{value:.{decimals}f}", f"{limit:.{decimals}f}"
    most = decimals + _MORE_DECIMALS
    while decimals < most and value != limit and fixed(value, decimals) == fixed(limit, decimals):
        decimals += 1
    return fixed(value, decimals), fixed(limit, decimals)


def numbers_of_row(row: Mapping[str, float]) -> list[str]:
    """Write the numbers of a row of a table; means and ends of intervals beside their spread.

    Args:
        row: The numbers by column. ``sd``, ``se`` and the width of an interval are spreads of
            ``mean``, ``median`` and of the ends of that interval; ``cost_sd`` and the like are
            those of ``cost``, ``cost_mean`` and ``cost_low``. The least one counts.

    Example:
        >>> numbers_of_row({"mean": 1182.04, "sd": 0.06475, "hdi_low": 1181.92, "r_hat": 1.001})
        ['1,182.040', '0.06475', '1,181.920', '1.001']
    """
    return [number_beside(value, _spread_of(name, row)) for name, value in row.items()]


def _spread_of(name: str, row: Mapping[str, float]) -> float:
    places = [*_MEASURES, *(end for ends in _ENDS for end in ends)]
    stems = [f"{name}_", *(name.removesuffix(one) for one in places if name.endswith(one))]
    found = [row[key] for stem in stems for one in _SPREADS if (key := f"{stem}{one}") in row]
    for stem in stems:
        for low, high in _ENDS:
            if {f"{stem}{low}", f"{stem}{high}"} <= row.keys():
                found.append(row[f"{stem}{high}"] - row[f"{stem}{low}"])
    return min(filter(math.isfinite, found), default=math.nan)


def spread(values: Iterable[float]) -> str:
    """Write several numbers as one, or as the lowest and the highest.

    Example:
        >>> spread([0.3, 0.1]), spread([0.25])
        ('0.1 to 0.3', '0.25')
    """
    ordered = sorted(values)
    low, high = (number(float(end), 2) for end in (ordered[0], ordered[-1]))
    return low if low == high else f"{low} to {high}"


def ratio(value: float | None) -> str:
    """Write an R-hat, so that it is seen to differ from :data:`WELL_MIXED`.

    Example:
        >>> ratio(1.00412), ratio(1.0104), ratio(None)
        ('1.00', '1.0104', '-')
    """
    return "-" if value is None else beside_limit(value, WELL_MIXED)[0]


def numbers_alike(values: Sequence[float], spreads: Iterable[float] = ()) -> list[str]:
    """Write values of one unit with equally many decimals, so that a column of them lines up.

    Args:
        values: The values.
        spreads: Spreads that stand beside them; the least one gets two digits, as in
            :func:`number_beside`.

    Example:
        >>> numbers_alike([9.234, 14.0, 0.85]), numbers_alike([2.0, 31.0]), numbers_alike([1e-9])
        (['9.23', '14.00', '0.85'], ['2', '31'], ['1e-09'])
        >>> numbers_alike([138.471, 138.5293], [0.052])
        ['138.471', '138.529']
    """
    each = [number(float(value)) for value in values]
    largest = max((abs(float(value)) for value in values), default=0.0)
    if not 1e-3 <= largest < 1e9 or any("n" in text for text in each):  # nan, inf
        return each
    beside = max((_decimals(float(spread), largest) for spread in spreads), default=0)
    decimals = max(0, 3 - math.floor(math.log10(largest)), beside)
    alike = [f"{float(value):z,.{decimals}f}" for value in values]
    while decimals and all(text.endswith("0") for text in alike):
        decimals, alike = decimals - 1, [text[:-1] for text in alike]
    return [text.removesuffix(".") for text in alike]


def count(value: float | None) -> str:
    """Write a whole number, thousands in groups.

    Example:
        >>> count(4812)
        '4,812'
    """
    return "-" if value is None else fixed(value)


def rate(value: float) -> str:
    """Write a rate per second: whole from 10 on, one decimal below.

    Example:
        >>> rate(61_204.3), rate(2.34)
        ('61,204', '2.3')
    """
    return fixed(value, 0 if value >= 10 else 1)


def percentage(share: float) -> str:
    """Write a share as a percentage with one decimal; what is almost none or all says so.

    Example:
        >>> [percentage(share) for share in (0.0, 1e-9, 0.0631, 0.9996, 1.0)]
        ['0%', 'under 0.1%', '6.3%', 'over 99.9%', '100%']
    """
    if share in (0, 1):
        return f"{share:.0%}"
    if share < 0.001:
        return "under 0.1%"
    return "over 99.9%" if share > 0.999 else f"{fixed(100 * share, 1)}%"


def count_of(unit: str, done: int, total: int | None) -> str:
    """Write how many of a unit are done, and how many there are, if that is known.

    Example:
        >>> count_of("row", 50, 4_812), count_of("row", 50, None)
        ('row 50 of 4,812', 'row 50')
    """
    return f"{unit} {count(done)}" + ("" if total is None else f" of {count(total)}")


def duration(seconds: float | None) -> str:
    """Write a span of time: in seconds below a minute, else as a clock does.

    Example:
        >>> duration(0.4), duration(41), duration(3_725), duration(None)
        ('0.4 s', '41 s', '1:02:05', '-')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 9.95:
        return f"{fixed(seconds, 1)} s"
    minutes, rest = divmod(math.floor(seconds + 0.5), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
