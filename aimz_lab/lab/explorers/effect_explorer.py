"""Explore an effect by hand: set inputs in two scenarios, and see what it does to the outcome."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from aimz_lab.calls import public
from aimz_lab.data import as_typed_key
from aimz_lab.data.groups import GroupBy
from aimz_lab.data.options import real_number
from aimz_lab.data.tables import is_table, native_table
from aimz_lab.effects.measures import NO_EFFECT, Contrast, check_contrast, name_of
from aimz_lab.effects.row_groups import row_groups
from aimz_lab.effects.sweep import Swept
from aimz_lab.errors import AimzLabError, ArgumentError
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.lab import environment
from aimz_lab.lab.explorers.charts import View
from aimz_lab.lab.explorers.effect_answers import EffectAnswers
from aimz_lab.lab.explorers.effect_code import EffectCode
from aimz_lab.lab.explorers.effect_measures import measures_by_site
from aimz_lab.lab.explorers.effect_question import (
    ALL_ROWS,
    NO_CURVE,
    EffectOptions,
    baseline_of,
    value_text,
)
from aimz_lab.lab.explorers.explorer import Explorer
from aimz_lab.lab.explorers.moved_inputs import MovedInput, moved_inputs
from aimz_lab.lab.explorers.scenario_averages import (
    ScenarioAverages,
    Settings,
    drops_rows,
    plain_copy,
)
from aimz_lab.system.imports import late_import
from aimz_lab.types import shown

if TYPE_CHECKING:
    from ipywidgets import Widget
    from matplotlib.figure import Figure

_OWN = ("by", "site", "contrast", "curve", "pinned")
_MOST_GROUPS = 30  # of a column that is offered for by=
_FEW = 4  # values that are a list and no slider
_REFUSED = ("rng_key", "in_sample", "reduce", "progress", "output_dir", "store")


class EffectExplorer(Explorer):
    """The explorer that :func:`explore_effect` makes; its curve may grow after the first answer.

    On a page it grows by itself. Elsewhere the numbers may be read at once, and text, a picture or
    a question waits for all of it.
    """

    def __init__(self, answers: EffectAnswers, *args: Any, **options: Any) -> None:
        self._answers = answers
        super().__init__(*args, **options)
        answers.go_on = self._worker.ask

    def _is_stale(self) -> bool:
        return self._answers.averages.is_outdated

    def wait(self) -> View:
        """Wait until the controls, as they are, are answered, with the whole curve.

        Returns:
            The answer. What it raised, if it refused the values, is raised here.
        """
        self._go_on()
        view = super().wait()
        while not self._answers.is_whole and not self._worker.is_closed:
            view = super().wait()
        return view

    def figure(self) -> Figure:
        """Draw the latest answer with matplotlib, with the whole curve.

        Raises:
            OptionalDependencyError: If matplotlib is missing.
        """
        if not self._answers.is_whole:
            self.wait()
        return super().figure()

    def __repr__(self) -> str:
        if self._page is None and environment.place() != "page":
            # What is refused is raised by wait(); text is of the latest answer.
            with contextlib.suppress(AimzLabError):
                self.wait()
        return super().__repr__()

    def _ipython_display_(self) -> None:
        is_live = environment.place() == "page"
        if not is_live:
            self.wait()
        super()._ipython_display_()
        if is_live:
            self._go_on()

    def _go_on(self) -> None:
        """Ask for the rest of the curve: nothing does after the first answer."""
        if not self._answers.is_whole:
            self._worker.ask()


@public
def explore_effect(
    im: Any,
    X: Any,
    *,
    vary: str | Sequence[str] | Mapping[str, Any] | None = None,
    of: Mapping[str, Swept] | None = None,
    by: GroupBy | None = None,
    contrast: Contrast = "difference",
    weights: str | ArrayLike | None = None,
    subset: str | ArrayLike | None = None,
    prob: float = 0.94,
    rng_key: jax.Array | None = None,
    **kwargs: Any,
) -> EffectExplorer:
    """Explore what an intervention does on average, by sliders, with the same noise throughout.

    Each input has a control for the intervention, of its own name, and one for the baseline,
    ``{name}_baseline``: a value for all rows, or ``"observed"`` (``"not set"`` for a site). Further
    controls are ``by`` (groups of rows), ``site``, ``contrast``, and ``curve``, the input that the
    average is drawn over: in a small chart for each of up to 12 groups, if there are more than
    three. An odds ratio is offered for flags and probabilities, a ratio for averages of one sign.
    If an input has the name of one of these controls, its own control has ``_`` after the name.
    Scenarios that were computed are kept, and a pinned one stays to compare with. With many draws
    and rows the effect comes first, and the curve grows; ``explorer.wait()`` waits for it.

    The numbers are those of :meth:`aimz_lab.ImpactModel.estimate_effect` and
    :meth:`~aimz_lab.ImpactModel.sweep` with the same key, to the last bit; ``explorer.code()``
    gives the lines. The data are copied, so that later changes to them change nothing.

    Args:
        im: A model with a posterior.
        X: Rows in memory, as in :meth:`aimz_lab.ImpactModel.predict`: a data frame, or an array.
        vary: Columns, arguments or sites to set; or their values by name, with ``None`` for those
            found in the data. By default the first six columns and arguments with one number or
            level per row. The panel opens with a change of the first one that is 0 or 1, or else of
            the first.
        of: ``"column"``, ``"argument"`` or ``"site"``: what a name means, if it could be more than
            one.
        by: Groups to begin with, as in ``estimate_effect``: names of columns or arguments, or
            labels.
        contrast: The measure to begin with; a function is offered beside the named ones.
        weights: Weights of rows, as in ``estimate_effect``.
        subset: The rows to average over, likewise.
        prob: Share of the draws in the intervals.
        rng_key: Key of all scenarios; ``jax.random.key(0)`` by default. The model's own key does
            not change.
        **kwargs: Further arguments of ``predict`` and of the kernel.

    Returns:
        A panel for a notebook. ``.set(dose=2)`` moves controls without one; ``.table()``,
        ``.figure()`` and ``.code()`` give what it shows.

    Raises:
        OptionalDependencyError: If ipywidgets is missing.
        ArgumentError: If the model has no posterior or is being trained, a value is not allowed, a
            name is not known or not clear, or the rows are no table and no array.
        CallError: If arguments do not fit ``predict``.
        DataError: If data, groups or weights do not fit together.

    Example:
        >>> explorer = explore_effect(im, X, vary={"X": [0.0, 0.5, 1.0]}, rng_key=jax.random.key(1))
        >>> explorer.set(X=1.0, X_baseline=0.0).sentences[0]
        'Baseline: X = 0. Intervention: X = 1.'
        >>> effect = im.estimate_effect(
        ...     args_baseline={"X": 0 * X, "rng_key": jax.random.key(1)},
        ...     args_intervention={"X": 0 * X + 1}, average=True
        ... ).posterior_predictive.y
        >>> bool(explorer.table()["mean"]["y"] == effect.mean())
        True
    """
    environment.require_widgets()
    given = _checked(im, X, kwargs)
    key = jax.random.key(0) if rng_key is None else as_typed_key(rng_key)
    contrasts = _contrasts(check_contrast(contrast))
    if not 0 < real_number(prob) < 1:
        msg = f"prob must lie in (0, 1), got prob={shown(prob)}."
        raise ArgumentError(msg)
    inputs = _by_control(moved_inputs(im, given, vary, of))
    groups, begun_by, own = _groups(im, given, by)
    with im._line("explore_effect"):
        averages = ScenarioAverages(im, given, list(inputs.values()), key, weights, subset)
        switch = _switch(inputs) if vary is None else None
        first = _first(inputs, switch)
        moved = [each.name for each in inputs.values() if each.sweep.of == "site"]
        measures = measures_by_site(averages, first, moved, contrast)
        sites = dict(sorted(measures.items(), key=lambda one: one[0] != im.param_output))
        options = EffectOptions(inputs, groups, contrasts, sites, own)
        chosen = {n: v for n, v in (("weights", weights), ("subset", subset)) if v is not None}
        controls = _controls(options, first, begun_by)
        controls["curve"].value = _first_curve(inputs, switch)
        controls["contrast"].value = name_of(contrast)
        names = list(inputs)
        answers = EffectAnswers(averages, options, real_number(prob))
        return EffectExplorer(
            answers,
            controls,
            answers,
            EffectCode(given, options, key, real_number(prob), chosen),
            title="Effect of an intervention",
            groups={
                "Intervention": names,
                "Baseline": [baseline_of(name) for name in names],
                "Show": ["by", "site", "contrast", "curve"],
            },
            pins=True,
        )


def _checked(im: Any, X: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``predict``, copied."""
    for method in ("predict", "kernel", "posterior", "kernel_spec"):
        if not hasattr(type(im), method):
            msg = f"im={shown(im)} is no model; pass the ImpactModel whose effect is explored."
            raise ArgumentError(msg)
    for name in _REFUSED:
        if name in kwargs:
            msg = f"{name}= does not go with explore_effect, which averages scenarios with one key."
            raise ArgumentError(msg)
    X = native_table(X)
    shape = getattr(X, "shape", None)
    if not is_table(X) and not (isinstance(shape, tuple) and shape):
        msg = (
            f"X={shown(X)} is read again for each scenario; pass rows in memory: a data frame or "
            "an array."
        )
        raise ArgumentError(msg)
    return plain_copy({"X": X, **kwargs})


def _contrasts(contrast: Contrast) -> dict[str, Contrast]:
    found: dict[str, Contrast] = {name: name for name in NO_EFFECT}
    return found | {name_of(contrast): contrast}


def _by_control(inputs: Sequence[MovedInput]) -> dict[str, MovedInput]:
    """Name the controls of inputs; no two have one name."""
    found: dict[str, MovedInput] = {}
    for moved in inputs:
        name = moved.name
        while {name, baseline_of(name)} & {*_OWN, *found, *map(baseline_of, found)}:
            name += "_"
        found[name] = moved
    return found


def _switch(inputs: Mapping[str, MovedInput]) -> str | None:
    """Return the first input that is 0 or 1, which is most like a treatment."""
    return next((name for name, moved in inputs.items() if moved.values == [0, 1]), None)


def _first(inputs: Mapping[str, MovedInput], name: str | None) -> tuple[Settings, Settings]:
    """Return the scenarios to begin with: one input is set, the first by default."""
    name = name or next(iter(inputs))
    moved = inputs[name]
    few = len(moved.values) <= 2
    before = moved.values[0] if few or moved.sweep.of == "site" else moved.kept
    after = moved.values[-1] if few else moved.values[3 * len(moved.values) // 4]
    kept = {each: other.kept for each, other in inputs.items()}
    return tuple({**kept, name: before}.values()), tuple({**kept, name: after}.values())


def _first_curve(inputs: Mapping[str, MovedInput], switch: str | None) -> str:
    """Return the input of the curve to begin with: the one that is set, or better a number."""
    if switch is None:
        return next(iter(inputs))
    numbers = (name for name, moved in inputs.items() if moved.is_number and name != switch)
    return next(numbers, switch)


def _groups(
    im: Any, given: Mapping[str, Any], by: GroupBy | None
) -> tuple[dict[str, Any], str, str]:
    """Return groups by name: columns of a few levels, and what is given.

    Returns:
        ``by`` of ``estimate_effect`` by name; the name to begin with; and that of labels that are
        given and not named, or nothing.
    """
    X, known = given["X"], parameter_names(im.kernel)
    n_rows, used = np.shape(X)[0], slice(None)
    if drops_rows(im) and (kept := im._table.compared_rows(X, are_trained=False)[1]) is not None:
        used = kept
    values = {str(name): X[name] for name in X.columns} if is_table(X) else {}
    values |= {
        name: value
        for name, value in given.items()
        if name in known and name != "X" and np.shape(value) == (n_rows,)
    }
    found: dict[str, Any] = {ALL_ROWS: None}
    found |= {
        n: {n: each} for n, each in values.items() if 1 < _n_levels(each, used) <= _MOST_GROUPS
    }
    if by is None:
        return found, ALL_ROWS, ""
    named = [by] if isinstance(by, str) else by
    is_list = isinstance(named, list | tuple) and all(isinstance(name, str) for name in named)
    is_named = is_list and set(named) <= set(values)
    groups = {name: values[name] for name in named} if is_named else named
    row_groups(groups, None, None, [given], may_drop=drops_rows(im))
    begun = ", ".join(map(str, groups)) if isinstance(groups, Mapping) else "by"
    while not is_named and begun in found:
        begun += "_"
    return found | {begun: groups}, begun, "" if is_named else begun


def _n_levels(values: Any, used: Any) -> int:
    """Return how many levels a column has in the used rows; 0 if it cannot be one of groups."""
    array = np.asarray(values)[used]
    if array.dtype.kind not in "biuOUS":
        return 0
    try:
        levels = set(array.tolist())
    except TypeError:
        return 0
    return 0 if any(level is None or level != level for level in levels) else len(levels)


def _controls(
    options: EffectOptions, first: tuple[Settings, Settings], by: str
) -> dict[str, Widget]:
    widgets = late_import("ipywidgets")
    found = {
        name: _control(moved, value)
        for (name, moved), value in zip(options.inputs.items(), first[1], strict=True)
    }
    found |= {
        baseline_of(name): _control(moved, value)
        for (name, moved), value in zip(options.inputs.items(), first[0], strict=True)
    }
    names = list(options.inputs)
    found["by"] = widgets.Dropdown(options=list(options.groups), value=by, description="by")
    site = found["site"] = widgets.Dropdown(options=list(options.sites), description="site")
    measures = options.sites[site.value]
    contrast = found["contrast"] = widgets.Dropdown(options=measures, description="contrast")

    def follow(_: object) -> None:
        kept, offered = contrast.value, options.sites[site.value]
        contrast.options = offered
        contrast.value = kept if kept in offered else offered[0]

    site.observe(follow, "value")  # before the explorer does, which reads all controls
    found["curve"] = widgets.Dropdown(options=[NO_CURVE, *names], description="curve over")
    return found


def _control(moved: MovedInput, value: Any) -> Widget:
    """Return a slider of an input's values, or a list if they are levels or few."""
    widgets = late_import("ipywidgets")
    options = [(moved.kept, moved.kept), *((value_text(each), each) for each in moved.values)]
    if not moved.is_number or len(moved.values) <= _FEW:
        return widgets.Dropdown(options=options, value=value, description=moved.name)
    slider = widgets.SelectionSlider(options=options, value=value, description=moved.name)
    # The page would take any text beside such a slider, and forget it.
    return slider.add_class("aimz-explorer-choices")
