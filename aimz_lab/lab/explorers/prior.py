"""Move the numbers of a kernel's priors by hand, and watch what they predict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped

from aimz_lab.calls import public
from aimz_lab.data import as_typed_key
from aimz_lab.data.arrays import are_zeros_and_ones
from aimz_lab.errors import ArgumentError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.lab.environment import require_widgets
from aimz_lab.lab.explorers.charts import Chart, View
from aimz_lab.lab.explorers.controls import RefusedValuesError
from aimz_lab.lab.explorers.explorer import Explorer, Values
from aimz_lab.lab.explorers.moved_priors import MovedPriors, Numbers
from aimz_lab.lab.explorers.prior_charts import Densities, prior_chart, why_refused
from aimz_lab.lab.explorers.prior_code import prior_lines
from aimz_lab.lab.explorers.prior_inputs import (
    ColumnNames,
    as_observed,
    check_shape,
    column_names,
    observed_data,
    outcome_of_table,
    possible_limits,
    read_arguments,
)
from aimz_lab.lab.explorers.prior_predictive_charts import (
    MOST_ENTRIES,
    CurveColumn,
    curve_chart,
    entries_chart,
    levels_chart,
    predictive_chart,
    table_rows,
)
from aimz_lab.lab.explorers.prior_program import PriorProgram
from aimz_lab.lab.explorers.prior_sites import PriorSite, control_name, read_prior_sites
from aimz_lab.lab.explorers.quantiles import quantile_with_error
from aimz_lab.lab.formatting import number, number_beside, share
from aimz_lab.system.imports import late_import
from aimz_lab.types import callable_name, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipywidgets import Widget

_MOST_CHARTS = 9
_MOST_KEPT = 2_000_000  # values of a site that is drawn though nobody looks at it
_CHOICES = ("density", "ECDF")
_MOST_HIDDEN = 0.05  # of the draws, whose spread is lost in rounding
_LITTLE = 0.01  # of the draws; so many are beyond the axis of any histogram


class PriorExplorer(Explorer):
    """The explorer of a kernel's priors, made by :func:`~aimz_lab.lab.explore_prior`.

    Attributes:
        moved: The numbers that differ from those of the kernel, by site.
        kernel: The kernel with these priors; the one of the model is not changed.
    """

    def __init__(self, priors: _Priors, controls: Mapping[str, Widget], title: str) -> None:
        self._priors = priors
        super().__init__(
            controls, priors.answer, priors.code, title=title, groups=priors.groups(), pins=True
        )

    @property
    def moved(self) -> dict[str, dict[str, float]]:
        """The numbers that differ from those of the kernel, by site and name."""
        moved = self._priors.moved(self.values)
        return {site: {path[-1]: one for path, one in its.items()} for site, its in moved.items()}

    @property
    def kernel(self) -> Callable:
        """The kernel with the priors of the latest answer."""
        return MovedPriors(self._priors.kernel, self._priors.moved(self.values))


@public
def explore_prior(
    im: ImpactModel,
    X: Any,
    y: Shaped[ArrayLike, "row ..."] | None = None,
    *,
    possible: tuple[float, float] | None = None,
    num_samples: int = 200,
    rng_key: jax.Array | None = None,
    kernel_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> PriorExplorer:
    """Move the numbers of the priors by hand, and watch what the model predicts without data.

    Each number of a latent site's distribution that depends on no other site, no data and no key
    has a field, and most have a handle on the density. All others are listed, with the reason. The
    noise is the same for all values of these numbers, so that each draw moves with the prior. For
    few whole numbers, the picture shows the share of each in place of a density. If a few draws
    reach far, the axis of counts and of positive values is logarithmic; for other values it leaves
    these draws out, and a sentence says how many. The kernel is not changed:
    :attr:`PriorExplorer.kernel` is one with these priors, and the button "Code" has its lines.

    Args:
        im: The model, fitted or not; it is not changed.
        X: Its input, as in :meth:`~aimz_lab.ImpactModel.sample_prior_predictive`. A few rows are
            enough for a kernel that treats all rows alike.
        y: The observed output, to compare with. A table has it in a column, which its formula, such
            as ``scale(sales)``, brings to the kernel's scale.
        possible: Lowest and highest value that the output can have in the world, on the kernel's
            scale. By default every value is possible, except negative ones if ``y`` has none, and
            those outside of 0 to 1 if the output's distribution has none there.
        num_samples: Number of draws. The sentences give the standard error that results; more draws
            make it smaller and the panel slower.
        rng_key: Key of the noise; by default the model's own, which does not change.
        kernel_kwargs: Kernel arguments whose names this function uses itself.
        **kwargs: Further kernel arguments.

    Returns:
        The explorer. Its controls are named ``"site.number"``, such as ``"slope.scale"``;
        ``"site"`` chooses what is drawn, and ``"picture"`` how.

    Raises:
        ArgumentError: If there are too many rows, or ``possible`` is no pair of numbers.
        DataError: If ``y`` has another number of rows than ``X``; or what the kernel observes of it
            depends on what it draws.
        KernelError: If a prior has no sampler, as an ``ImproperUniform``.
        OptionalDependencyError: If ipywidgets is missing.

    Example:
        >>> explorer = explore_prior(im, X, y)
        >>> bool(explorer.set(**{"slope.scale": 0.5}).table.loc["slope", "sd"] < 1)
        True
        >>> explorer.moved
        {'slope': {'scale': 0.5}}
    """
    require_widgets()
    if not isinstance(im, ImpactModel):
        raise ArgumentError(f"explore_prior takes a model, not {shown(im)}.")
    if not isinstance(num_samples, int | np.integer) or not 2 <= num_samples <= 100_000:
        msg = f"num_samples= takes a whole number from 2 to 100,000, not {shown(num_samples)}."
        raise ArgumentError(msg)
    key = im.rng_key if rng_key is None else as_typed_key(rng_key)
    if im._table is not None:
        y = outcome_of_table(im, X, y, kwargs, kernel_kwargs)
    arguments, params = read_arguments(im, X, kwargs, kernel_kwargs, num_samples)
    data = observed_data(y, arguments.n_rows)
    if data is not None:
        data = as_observed(im.kernel, im.param_output, arguments, params, data)
    sites = read_prior_sites(im.kernel, arguments, params)
    sites.pop(im.param_output, None)
    program = PriorProgram(im.kernel, arguments, params, key, int(num_samples))
    check_shape(data, program, im.param_output)
    names = column_names(im, X, kwargs, kernel_kwargs)
    levels = names.levels.get(im.param_output, ())
    of_shares = im.param_output in program.shares
    limits = possible_limits(possible, data, of_shares=of_shares)
    if len(levels) > 2 and possible is None:
        limits = -math.inf, math.inf  # the chart has all levels
    columns = _columns(arguments, im.param_input, names)
    is_told = possible is not None
    priors = _Priors(im, sites, program, arguments, columns, data, limits, is_told, levels)
    return PriorExplorer(priors, priors.controls(), f"Prior of {callable_name(im.kernel)}")


class _Priors:
    """What the explorer of priors answers."""

    def __init__(
        self,
        im: ImpactModel,
        sites: Mapping[str, PriorSite],
        program: PriorProgram,
        arguments: KernelArguments,
        columns: Mapping[str, CurveColumn],
        data: np.ndarray | None,
        limits: tuple[float, float],
        is_told: bool,
        levels: Sequence[str],
    ) -> None:
        self.kernel, self._output = im.kernel, im.param_output
        table = im._table
        self._label = self._output if table is None else table.output_label("model")
        self._sites, self._program, self._data = dict(sites), program, data
        self._limits, self._is_told, self._levels = limits, is_told, levels
        self._columns = columns
        shapes = program.shapes()
        self._shapes = {name: one.shape for name, one in shapes.items() if one.size}
        self._n_rows = arguments.n_rows
        self._densities = Densities(sites.values())
        self._kept: tuple[Any, np.ndarray] | None = None

    # Controls.

    def controls(self) -> dict[str, Widget]:
        """Return the controls of an explorer: what is drawn and how, then the numbers."""
        widgets = late_import("ipywidgets")
        names = [self._output, *(name for name in self._shapes if name != self._output)]
        choices = [*_CHOICES, *(f"curve over {name}" for name in self._columns)]
        found: dict[str, Widget] = {
            "site": widgets.Dropdown(options=names, value=names[0], description="site"),
            "picture": widgets.Dropdown(options=choices, value="density", description="picture"),
        }
        for site in self._sites.values():
            for path, value in site.numbers.items():
                name = control_name(site.name, path)
                field = widgets.IntText if isinstance(value, int) else widgets.FloatText
                found[name] = field(value=value, step=_step(value), description=name)
                found[name].tooltip = name
        return found

    def groups(self) -> dict[str, list[str]]:
        """Return the names of the controls of each site."""
        return {
            f"{site.name} ~ {site.family}": [control_name(site.name, p) for p in site.numbers]
            for site in self._sites.values()
            if site.numbers
        }

    def moved(self, values: Values) -> Numbers:
        """Return the numbers that differ from those of the kernel, by site."""
        found: dict[str, dict] = {}
        for site in self._sites.values():
            for path, before in site.numbers.items():
                now = values[control_name(site.name, path)]
                if now != before:
                    found.setdefault(site.name, {})[path] = now
        return found

    def _numbers(self, values: Values) -> Numbers:
        """Return all numbers, so that one compiled program serves whatever is moved."""
        return {
            site.name: {path: values[control_name(site.name, path)] for path in site.numbers}
            for site in self._sites.values()
            if site.numbers
        }

    def code(self, values: Values) -> str:
        """Return the lines of the sites that were moved."""
        return prior_lines(self._sites, self.moved(values))

    # Answers.

    def answer(self, values: Values) -> View:
        """Return priors and predictions for the numbers in the fields."""
        refused: dict[str, str] = {}
        for name, its in self.moved(values).items():
            refused |= why_refused(self._sites[name], its)
        if refused:
            raise RefusedValuesError(refused)
        name = values["site"]
        wanted = self._wanted(name)
        numbers = self._numbers(values)
        draws = self._program.run(numbers, wanted)
        pinned = values.get("pinned")
        kept = None if pinned is None else self._pinned(self._numbers(pinned), name, wanted)
        chart, ends = self._chart(values, draws[name], kept)
        charts = [*self._prior_charts(numbers, draws), chart]
        most = {one: _most(draws[one]) for one in {self._output, name}}
        return View(
            charts,
            table=self._table(draws, name),
            sentences=self._sentences(draws, charts, most[self._output])
            + _outside_words(ends, draws[name]),
            alt=self._alt(name, most[name]),
        )

    def _wanted(self, name: str) -> set[str]:
        """Return the sites to draw: all but large ones, so that one program serves most choices."""
        most = _MOST_KEPT // self._program.draws
        return {name, self._output, *(n for n, s in self._shapes.items() if math.prod(s) <= most)}

    def _pinned(self, numbers: Numbers, name: str, wanted: set[str]) -> np.ndarray:
        """Return draws of the pinned numbers, which are computed once."""
        key = name, repr(numbers)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._program.run(numbers, wanted)[name]
        return self._kept[1]

    def _prior_charts(self, numbers: Numbers, draws: Mapping[str, np.ndarray]) -> list[Chart]:
        densities = self._densities.of(numbers, draws)
        shown_sites = [name for name in numbers if name in draws][:_MOST_CHARTS]
        return [
            prior_chart(self._sites[name], numbers[name], densities.get(name), draws[name])
            for name in shown_sites
        ]

    def _chart(
        self, values: Values, draws: np.ndarray, pinned: np.ndarray | None
    ) -> tuple[Chart, tuple[float, float] | None]:
        """Return the large chart, and the ends of the values in it if it is one of shares."""
        name, picture = values["site"], values["picture"]
        data = self._data if name == self._output else None
        label = self._label if name == self._output else name
        drawn = np.asarray(draws, float)
        kept = None if pinned is None else np.asarray(pinned, float)
        if picture not in _CHOICES:
            column = picture.removeprefix("curve over ")
            if drawn.ndim != 2 or drawn.shape[1] != self._n_rows:
                shape = drawn.shape[1:]
                msg = f"A curve needs one value of {name!r} for each row; its shape is {shape}."
                raise ArgumentError(msg)
            over = self._columns[column]
            titles = {"name": label, "column_name": column}
            if over.levels:
                return levels_chart(drawn, over, data, kept, **titles), None
            smooth = name in self._program.computed
            curve = curve_chart(drawn, over.values, data, kept, **titles, has_lines=smooth)
            return curve, None
        is_ecdf = picture == "ECDF"
        if name != self._output and math.prod(drawn.shape[1:]) <= MOST_ENTRIES:
            return entries_chart(drawn, kept, name=label, as_ecdf=is_ecdf)
        limits = self._limits if name == self._output else (-math.inf, math.inf)
        flat = None if data is None else data[np.isfinite(data)].ravel()
        levels = self._levels if name == self._output else ()
        return predictive_chart(
            drawn, flat, limits, kept, name=label, as_ecdf=is_ecdf, levels=levels
        )

    def _table(self, draws: Mapping[str, np.ndarray], name: str) -> Any:
        pandas = late_import("pandas")
        latent = [n for n in self._sites if n in draws]
        names = list(dict.fromkeys([self._output, name, *latent]))
        columns: dict[str, list] = table_rows(draws, names)
        table = pandas.DataFrame(columns, index=pandas.Index(names, name="site"))
        table["impossible"] = pandas.array([None] * len(names), dtype="Float64")
        table.loc[self._output, "impossible"] = self._impossible(draws[self._output])
        if self._data is not None:
            own = table_rows({"data": self._data[np.isfinite(self._data)]}, ["data"])
            row = pandas.DataFrame(own, index=pandas.Index(["data"], name="site"))
            table = pandas.concat([table, row.reindex(columns=table.columns).astype(table.dtypes)])
        return table

    def _impossible(self, values: np.ndarray) -> float:
        """Return the share of values that are impossible or no number."""
        low, high = self._limits
        return 1.0 - float(np.mean((values >= low) & (values <= high) & np.isfinite(values)))

    def _sentences(
        self, draws: Mapping[str, np.ndarray], charts: list[Chart], most: str
    ) -> list[str]:
        values = draws[self._output]
        if len(self._levels) > 2:
            said = [f"{self._label} is one of {len(self._levels)} levels, each with its share."]
        else:
            said = [self._most_words(values, most)]
            said += [self._impossible_words(values), *self._data_words(values)]
        first = next((i for i, one in enumerate(said) if " ± " in one), None)
        if first is not None:  # a quantile may have no error
            of_draws = f"± is the standard error of {self._program.draws:,} draws"
            said[first] = f"{said[first].removesuffix('.')} ({of_draws})."
        left = [site for site in self._sites.values() if site.why or site.fixed]
        for site in left:
            if site.why:
                said.append(f"{site.name} cannot be moved: {site.why}.")
            else:
                words = ", ".join(f"its {name} {why}" for name, why in site.fixed.items())
                said.append(f"Of {site.name} only a part can be moved: {words}.")
        hidden = sum(1 for site in self._sites.values() if site.numbers) - len(charts) + 1
        if hidden > 0:
            said.append(f"{hidden} more priors have fields, and no density here.")
        return said

    def _most_words(self, values: np.ndarray, most: str) -> str:
        if self._output not in self._program.shares or values.dtype.kind not in "biu":
            return f"90% of the prior predictive of {self._label} lies {most}."
        of_draws = _most(values.reshape(len(values), -1).mean(axis=1))
        one = self._levels[1] if self._levels else "1"
        return (
            f"The share of {one} among the values of {self._label} is {of_draws} in 90% of the "
            "draws."
        )

    def _impossible_words(self, values: np.ndarray) -> str:
        low, high = self._limits
        part = share(self._impossible(values))
        if self._is_told:
            if math.isinf(low) or math.isinf(high):
                ends = f"above {number(high)}" if math.isinf(low) else f"below {number(low)}"
            else:
                ends = f"outside of {number(low)} to {number(high)}"
            return f"{part} of it is impossible: {ends}."
        if high == 1 and self._impossible(values) == 0:
            return "All of it is from 0 to 1, as its distribution says."
        if low == 0 and math.isinf(high):
            if self._impossible(values) == 0:
                return "None of it is negative, as in the data."
            return f"{part} of it is negative, unlike the data; possible=(low, high) sets bounds."
        if self._impossible(values) == 0:
            return "All of it is finite. Pass possible=(low, high) to count what is impossible."
        return f"{part} of it is no finite number, which is impossible."

    def _data_words(self, values: np.ndarray) -> list[str]:
        if self._data is None:
            return []
        data, drawn = self._data[np.isfinite(self._data)], np.asarray(values, float)
        with np.errstate(invalid="ignore"):  # of infinite values there is no spread
            spread = np.std(drawn.reshape(len(drawn), -1), axis=1)
        of_data = np.nanstd(data)
        words = []
        if of_data > 0:
            words = [_spread_words(values, spread, of_data)]
        if left := self._data.size - data.size:
            words.append(f"{left:,} of {self._data.size:,} values of y are no finite numbers.")
        if values.dtype.kind in "biu" and not np.all(data == np.round(data)):
            words.append("The data has fractions, and the likelihood gives whole numbers alone.")
        return words

    def _alt(self, name: str, most: str) -> str:
        return (
            f"Densities of {len(self._sites)} priors, and the prior predictive of {name}, 90% of "
            f"which lies {most}."
        )


def _spread_words(values: np.ndarray, spread: np.ndarray, of_data: float) -> str:
    """Say how far the values of a draw spread, unless their rounding hides it in many draws."""
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            steps = np.spacing(np.max(np.abs(values.reshape(len(values), -1)), axis=1))
        is_hidden = (steps > spread) & (steps > of_data / 100)
        if np.mean(is_hidden) > _MOST_HIDDEN:
            return (
                "How far the values spread within a draw is not known: they are so large that "
                f"rounding leaves steps of {number(float(np.median(steps[is_hidden])))} between "
                "them. Narrow the priors."
            )
    ratio = _with_error(*quantile_with_error(spread / of_data, 0.5))
    return f"Within a draw the values spread {ratio} times as far as the data."


def _most(values: np.ndarray) -> str:
    """Say where the middle 90% of the values that are numbers lies."""
    drawn = np.asarray(values, float)
    low, high = (_with_error(*quantile_with_error(drawn, level)) for level in (0.05, 0.95))
    return f"from {low} to {high}"


def _with_error(value: float, error: float) -> str:
    """Write a number as far as its standard error lets it be known."""
    if not 0 < error < math.inf or not math.isfinite(value):
        return number(value)
    places = -math.floor(math.log10(error))
    rounded = round(value, places)
    digits = 1 + places + math.floor(math.log10(abs(rounded))) if rounded else 1
    return f"{number(rounded, max(digits, 1))} ± {number(round(error, places), 1)}"


def _outside_words(shown_ends: tuple[float, float] | None, values: np.ndarray) -> list[str]:
    """Say how much of what a histogram is of lies outside it, if that is more than a little."""
    if shown_ends is None:
        return []
    low, high = shown_ends
    outside = 1.0 - float(np.mean((values >= low) & (values <= high)))
    if outside <= _LITTLE:
        return []
    ends = " to ".join(number_beside(end, high - low) for end in shown_ends)
    return [f"The picture goes from {ends}; {share(outside)} of the draws lie outside."]


def _step(value: float) -> float:
    """Return a step for the arrows of a field: a twentieth of its value, rounded down."""
    step = 10.0 ** math.floor(math.log10(abs(value) / 5)) if value else 0.1
    return max(1, int(step)) if isinstance(value, int) else step


def _columns(arguments: KernelArguments, name: str, names: ColumnNames) -> dict[str, CurveColumn]:
    """Return the columns of the per-row arguments by name, at most a few.

    Args:
        arguments: The arguments.
        name: The input, which comes first.
        names: What the columns are called, where they have names.
    """
    found: dict[str, CurveColumn] = {}
    for argument, array in sorted(arguments.rows.items(), key=lambda one: one[0] != name):
        values = np.asarray(array)
        if values.ndim == 1:
            own = names.vectors.get(argument, argument)
            label = argument if own in found else own
            found[label] = _curve_column(values, names.levels.get(argument, ()))
        elif values.ndim == 2:
            own = names.columns.get(argument, ())
            for i in range(values.shape[1]):
                has_names = len(own) == values.shape[1] and own[i] not in found
                label = own[i] if has_names else f"{argument}[:, {i}]"
                found[label] = _curve_column(values[:, i])
    return dict(list(found.items())[:50])


def _curve_column(values: np.ndarray, levels: tuple[str, ...] = ()) -> CurveColumn:
    if not levels and are_zeros_and_ones(values):
        levels = ("0", "1")
    return CurveColumn(values.astype(float), levels)
