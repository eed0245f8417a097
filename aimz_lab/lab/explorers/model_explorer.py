"""Explore a model: its graph, and each of its sites before and after the data."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Shaped

from aimz_lab.calls import public
from aimz_lab.data import as_typed_key
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.kernel.failures import explained
from aimz_lab.lab import formatting
from aimz_lab.lab.environment import require_widgets
from aimz_lab.lab.explorers.charts import Chart, View
from aimz_lab.lab.explorers.dated_explorer import DatedExplorer
from aimz_lab.lab.explorers.explorer import Explorer, Values
from aimz_lab.lab.explorers.given_names import given_line
from aimz_lab.lab.explorers.graph_picture import draw_graph, picture_inches
from aimz_lab.lab.explorers.graph_svg import (
    describe_graph,
    describe_site,
    graph_svg,
)
from aimz_lab.lab.explorers.model_arguments import kernel_call
from aimz_lab.lab.explorers.model_graph import model_graph
from aimz_lab.lab.explorers.model_reading import ModelReading
from aimz_lab.lab.explorers.site_view import (
    density_chart,
    numbers_in_words,
    pair_chart,
    site_table,
    trace_chart,
)
from aimz_lab.system.imports import late_import
from aimz_lab.types import Arguments, shown

if TYPE_CHECKING:
    import pandas as pd

Draws = Shaped[np.ndarray, "draw entry"]

NO_PAIR = "nothing"
TABLES = ("sites", "entries", "guide")
_MOST_PARAMETERS = 12
_OUTDATED = (
    "This is of an earlier state of the model: it has been trained since, or is now, or its draws "
    "were set. For its present state, call lab.explore_model with the model again."
)
_NUM_SAMPLES = 1000


@public
def explore_model(
    im: ImpactModel,
    X: Any = None,
    y: Any = None,
    *,
    num_samples: int = _NUM_SAMPLES,
    rng_key: jax.Array | None = None,
    by_row: Iterable[str] = (),
    shared: Iterable[str] = (),
    kernel_kwargs: Arguments | None = None,
    **kwargs: Any,
) -> Explorer:
    """Show the graph of a model; click a site to see what the data taught about it.

    The graph has the kernel's sites, with their distributions, shapes and plates. An arrow goes
    from a site to one that is computed from it directly, as the kernel's program says; the tables
    name the arguments that a site is computed from as well. A click on a site shows its line of
    code, prior and posterior, the guide's parameters, chains, and pairs with other sites.

    The model is read as it is now, and does not change. If it is trained after that, the panel says
    that it shows an earlier state.

    Args:
        im: The model. Before its first training, only the prior is shown.
        X: The rows to trace the kernel with, as in :meth:`~aimz_lab.ImpactModel.fit`; needed before
            the first training, and for the draws of sites that depend on the values of rows or
            shared arguments, which a model does not keep. Of a source of batches, the first batch
            is used.
        y: The output, as in ``fit``.
        num_samples: Draws from the prior.
        rng_key: Key of these draws; ``jax.random.key(0)`` by default.
        by_row: As in ``fit``.
        shared: As in ``fit``.
        kernel_kwargs: Kernel arguments whose names this function uses itself.
        **kwargs: Further kernel arguments, as in ``fit``.

    Returns:
        The explorer. Its controls are ``site``, the site; ``entry``, one of its entries; ``pair``,
        an entry to compare that with; and ``numbers``, the table: ``"sites"``, with kind,
        distribution, shape, plates, parents, arguments and line of each site; ``"entries"`` of the
        picked site, with mean, standard deviation and quantiles of prior and posterior; or
        ``"guide"``, with the guide's parameters for the site.

    Raises:
        ArgumentError: If the first argument is no model, or ``num_samples`` is not positive.
        NotFittedError: If the model was not trained, and no rows are passed.
        DataTypeError: If the rows come from a generator, which can be read only once.
        KernelError: If the kernel does not run on these arguments.
        OptionalDependencyError: If ipywidgets is missing.

    Example:
        >>> from aimz_lab import lab
        >>> explorer = lab.explore_model(im)
        >>> explorer.table().loc["y", "parents"]
        ('slope',)
        >>> view = explorer.set(site="slope", numbers="entries")
        >>> round(explorer.table().loc["slope", "posterior_mean"])
        2
    """
    if not isinstance(im, ImpactModel):
        msg = f"explore_model shows an ImpactModel; got {shown(im)}."
        raise ArgumentError(msg)
    num_samples = check_positive_int("num_samples", num_samples)
    key = jax.random.key(0) if rng_key is None else as_typed_key(rng_key)
    given = {"by_row": by_row, "shared": shared, "kernel_kwargs": kernel_kwargs, "kwargs": kwargs}
    with explained(im.kernel, output=im.param_output):
        call, labels = kernel_call(im, X, y, **given)
        graph = model_graph(call)
    reading = ModelReading(im, call, graph, labels, num_samples, key)
    own = {"by_row": by_row, "shared": shared, "kernel_kwargs": kernel_kwargs}
    names = [*kwargs, *(name for name, value in own.items() if value not in (None, ()))]
    names += [] if rng_key is None else ["rng_key"]
    passed = ["X"] * (X is not None or y is not None) + ["y"] * (y is not None)
    passed += [f"{name}={name}" for name in names]
    passed += [f"num_samples={num_samples}"] if num_samples != _NUM_SAMPLES else []
    return _explorer(reading, ["im", *passed])


def _explorer(reading: ModelReading, passed: Sequence[str]) -> Explorer:
    """Return the explorer of a model, which was made with some arguments beside it."""
    require_widgets()
    widgets = late_import("ipywidgets")
    first = next((n for n, s in reading.graph.sites.items() if s.kind == "latent"), None)
    first = first or next(iter(reading.graph.sites))
    site = widgets.Dropdown(options=list(reading.graph.sites), value=first, description="site")
    entry = widgets.Dropdown(options=reading.entries(first), description="entry")
    pair = widgets.Dropdown(options=[NO_PAIR, *reading.pairs], description="pair with")
    numbers = widgets.Dropdown(options=TABLES, description="numbers")

    def follow(_: object) -> None:
        entry.options = reading.entries(site.value)

    site.observe(follow, "value")  # before the explorer does, which reads all controls

    def code(values: Values) -> str:
        return _code(reading, passed, values)

    return DatedExplorer(
        {"site": site, "entry": entry, "pair": pair, "numbers": numbers},
        functools.partial(_answer, reading),
        code,
        is_outdated=lambda: reading.used.has_changed,
        outdated=_OUTDATED,
        title=f"Model {getattr(reading.kernel, '__name__', 'kernel')}",
    )


def _answer(reading: ModelReading, values: Values) -> View:
    """Return what is shown of a site."""
    name = values["site"]
    with explained(reading.kernel, output=reading.call.output):
        shown_site = _site(reading, name, values)
    tables = {
        "sites": reading.graph.table,
        "entries": lambda: shown_site.table,
        "guide": lambda: reading.parameters(name),
    }
    sentences = [describe_graph(reading.graph), *shown_site.sentences]
    layout, graph = reading.layout, reading.graph
    return View(
        charts=shown_site.charts,
        svg=graph_svg(graph, layout, name),
        table=tables[values["numbers"]](),
        sentences=sentences,
        alt=" ".join(sentences),
        draw=functools.partial(draw_graph, graph=graph, layout=layout, selected=name),
        draw_inches=picture_inches(layout),
    )


@dataclass(frozen=True)
class _SiteShown:
    """Charts, table and sentences of a site."""

    charts: list[Chart]
    table: pd.DataFrame
    sentences: list[str]


def _site(reading: ModelReading, name: str, values: Values) -> _SiteShown:
    site, entries = reading.graph.sites[name], reading.entries(name)
    at = entries.index(values["entry"]) if values["entry"] in entries else 0
    prior, posterior = reading.prior_of(name), reading.posterior.draws.get(name)
    table = site_table(entries, prior, posterior)
    described = describe_site(site)
    sentences = [f"{described[:1].upper()}{described[1:]}."]
    if site.code is not None:
        written = f"Written in {site.code.place}"
        sentences.append(f"{written}: {site.code.text}" if site.code.text else f"{written}.")
    charts = []
    if entries:
        label = entries[at]
        groups = [
            (what, role, None if draws is None else draws[:, at])
            for what, role, draws in (("prior", "quiet", prior), ("posterior", "main", posterior))
        ]
        data = reading.data(name)
        title = label if data is None else f"{reading.label_of(name)}, all rows"
        charts.append(density_chart(title, groups, is_discrete=site.is_discrete, observed=data))
        if len(table.columns):
            sentences.append(f"{label}: {numbers_in_words(table.iloc[at])}")
        charts += _of_draws(reading, label, at, values["pair"], posterior)
    sentences += [reading.value(name)] if site.kind == "param" else _missing(reading, name)
    sentences.append(reading.params_of(name))
    sentences += _guide_in_words(reading, name, entries[at] if entries else "")
    charts = [chart for chart in charts if chart is not None]
    return _SiteShown(charts, table, [text for text in sentences if text])


def _of_draws(
    reading: ModelReading, label: str, at: int, pair: str, posterior: Draws | None
) -> list[Chart]:
    """Return charts of the chains and of a pair."""
    if posterior is None:
        return []
    values, charts = posterior[:, at], []
    if reading.is_sampled:
        charts.append(trace_chart(label, values.reshape(reading.chains, -1)))
    if pair in reading.pairs:
        other, place = reading.pairs[pair]
        charts.append(pair_chart(label, values, pair, reading.posterior.draws[other][:, place]))
    return charts


def _missing(reading: ModelReading, name: str) -> list[str]:
    """Say why there is no prior or posterior of a site."""
    prior, posterior = (part.missing.get(name, "") for part in (reading.prior, reading.posterior))
    found = [f"Prior: {prior}" if prior else "", f"Posterior: {posterior}" if posterior else ""]
    return [text for text in found if text]


def _guide_in_words(reading: ModelReading, name: str, entry: str) -> list[str]:
    """Say which of the guide's parameters belong to an entry."""
    found = reading.parameters(name)
    own = found[found["entry"].isin([entry, ""])]
    if own.empty or len(own) > _MOST_PARAMETERS:
        count = len(found)
        return [f"The guide has {count:,} values for the site: see the table."] if count else []
    words = [
        f"{parameter} {formatting.number(float(value))}{f' ({part})' if part else ''}"
        for parameter, part, value in zip(own.index, own["part"], own["value"], strict=True)
    ]
    return [f"Guide's parameters of {entry}: {', '.join(words)}."]


def _code(reading: ModelReading, passed: Sequence[str], values: Values) -> str:
    """Return the lines that give the numbers of a view."""
    name = values["site"]
    named = ", ".join(f"{key}={values[key]!r}" for key in ("site", "entry", "pair", "numbers"))
    lines = [
        given_line(passed, "explore_model"),
        "from aimz_lab import lab",
        "",
        f"explorer = lab.explore_model({', '.join(passed)})",
        f"explorer.set({named})",
        "explorer.table()",
    ]
    if name in reading.posterior_sites:
        lines += ["", "# draws of the posterior", f"im.posterior[{name!r}]"]
    return "\n".join(lines)
