"""Explore a loader: the batches of an epoch, their padding, and what they cost."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from aimz_lab.calls import public
from aimz_lab.data import pad_rows, padding_advice, padding_waste
from aimz_lab.data.epoch_plan import EpochPlan
from aimz_lab.data.html import format_bytes
from aimz_lab.lab.environment import require_widgets
from aimz_lab.lab.explorers.charts import Cells, Chart, Handle, Line, View
from aimz_lab.lab.explorers.explorer import Explorer, Values
from aimz_lab.lab.explorers.loader_readings import (
    OfLoader,
    Reading,
    Settings,
    fields_of,
    reading_of,
)
from aimz_lab.system.imports import late_import

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("epoch", "batches", "rows")
_MOST_BATCHES, _MOST_CELLS = 60, 64
_MOST_SIZES = 200
_AT_AN_END = 6
"""Rows of a batch that are shown from its beginning, and from its end."""

_MOST_COLUMNS = 5
_NONE, _EVEN, _ODD, _PAD = -1, 0, 1, 2


@public
def explore_loader(loader: Any) -> Explorer:
    """Show the batches of an epoch, their padding on any number of devices, and what they cost.

    Nothing of the loader changes or is used up: batches are planned by the loader's own
    :meth:`~aimz_lab.ArrayLoader.plan`, and only the rows in the table are read.

    Args:
        loader: An ``ArrayLoader`` or ``ArrayDataset``; a data frame; arrays of Zarr or Dask by
            name; a list of batches; a PyTorch ``DataLoader``. Other sources of batches do not know
            their length, and the panel only says so.

    Returns:
        The explorer. Its controls are ``batch_size``, ``devices`` (0 leaves batches where the data
        lies, as ``device=None``), ``shuffle`` and ``epoch``, as far as the source lets them be
        chosen; ``batch``, whose rows are shown; and ``numbers``, the table: ``"epoch"``, with rows,
        batches, padding and bytes; ``"batches"``, with the rows and the padding of each; or
        ``"rows"``, the first and the last rows of the batch, with its padding. Epochs and batches
        are counted from 1, as on the dashboard: epoch 1 is that of ``loader.epoch == 0``.

    Raises:
        DataTypeError: If it is no such source.
        OptionalDependencyError: If ipywidgets is missing.

    Example:
        >>> from aimz_lab import ArrayDataset, ArrayLoader, lab
        >>> dataset = ArrayDataset(y=np.arange(100.0))
        >>> loader = ArrayLoader(dataset, jax.random.key(0), batch_size=30)
        >>> explorer = lab.explore_loader(loader)
        >>> view = explorer.set(devices=8)
        >>> explorer.table().loc["rows of padding", "value"]
        12
    """
    reading = reading_of(loader)
    return Explorer(
        _controls(reading),
        functools.partial(_answer, reading),
        functools.partial(_code, reading, type(loader).__name__),
        title=f"Epoch of {type(loader).__name__}",
    )


def _controls(reading: Reading) -> dict[str, Any]:
    require_widgets()
    widgets = late_import("ipywidgets")
    first, plan = reading.first, reading.plan(reading.first)
    if plan is None:
        return {}
    most = max(first.devices, jax.local_device_count(), 8)
    options = [("as it lies", 0), *((str(n), n) for n in range(1, most + 1))]
    devices = widgets.SelectionSlider(
        options=options, value=first.devices, description="devices", continuous_update=True
    )
    batch = widgets.BoundedIntText(1, 1, len(plan), description="batch")
    numbers = widgets.Dropdown(options=TABLES, description="numbers")
    if not reading.can_be_set:
        return {"devices": devices, "batch": batch, "numbers": numbers}
    size = min(first.batch_size, reading.n_rows)
    batch_size = widgets.IntSlider(size, 1, reading.n_rows, description="batch size")
    shuffle = widgets.Checkbox(first.shuffle, description="shuffle")
    epoch = widgets.BoundedIntText(first.epoch + 1, 1, 2**31, description="epoch")

    def follow(_: object) -> None:
        batch.max = len(reading.plan(Settings(batch_size=batch_size.value)))

    batch_size.observe(follow, "value")  # before the explorer does, which reads all controls
    return {
        "batch_size": batch_size,
        "devices": devices,
        "shuffle": shuffle,
        "epoch": epoch,
        "batch": batch,
        "numbers": numbers,
    }


def _settings(reading: Reading, values: Values) -> Settings:
    names = ("batch_size", "shuffle", "devices")
    own = {name: values.get(name, getattr(reading.first, name)) for name in names}
    # A loader counts its epochs from 0.
    epoch = values["epoch"] - 1 if "epoch" in values else reading.first.epoch
    return Settings(**own, epoch=epoch)


def _answer(reading: Reading, values: Values) -> View:
    settings = _settings(reading, values)
    plan = reading.plan(settings)
    if plan is None:
        return View(sentences=reading.notes)
    batch = min(values["batch"], len(plan)) - 1
    cost = _cost(reading, settings, plan)
    tables = {
        "epoch": lambda: _epoch_table(reading, plan, cost),
        "batches": lambda: _batch_table(plan),
        "rows": lambda: _row_table(reading, settings, plan, batch),
    }
    charts = [_strip(plan, settings, batch)]
    if reading.can_be_set and settings.devices > 1:
        charts.append(_waste_chart(reading.n_rows, settings))
    sentences = [*_sentences(reading, settings, plan, cost), *reading.notes]
    return View(charts, table=tables[values["numbers"]](), sentences=sentences)


def _cost(reading: Reading, settings: Settings, plan: EpochPlan) -> tuple[int, int] | None:
    """Return the bytes of the largest batch on each device, and those that an epoch moves.

    ``None`` if the bytes of a row are not known.
    """
    if not plan.row_bytes:
        return None
    each = plan.batch_bytes // settings.row_multiple
    own = isinstance(reading, OfLoader) and settings.devices == reading.first.devices
    if own and settings.devices:
        sizes, counts = np.unique(plan.rows + plan.n_pad, return_counts=True)
        found = [reading.sharded_bytes(int(size)) for size in sizes]
        if None not in found:
            both = zip(counts.tolist(), found, strict=True)
            moved = sum(count * on_all for count, (_, on_all) in both)
            return max(each for each, _ in found), moved
        each = plan.batch_bytes  # a jax.Device holds the batch alone
    return each, plan.bytes_moved if settings.devices else 0


def _rows_of_devices(first: int, count: int) -> str:
    """Name every second device, from the first one on."""
    each = [str(number) for number in range(first, count + 1, 2)]
    listed = ", ".join(each if len(each) <= 3 else [*each[:2], "..."])
    return f"rows of device{'s' if len(each) > 1 else ''} {listed}"


def _strip(plan: EpochPlan, settings: Settings, batch: int) -> Chart:
    """Return the batches side by side, each a column of its rows from the top.

    Of many, those around the chosen one, which is marked.
    """
    n_batches, tallest = len(plan), int((plan.rows + plan.n_pad).max())
    first = max(min(batch - _MOST_BATCHES // 2, n_batches - _MOST_BATCHES), 0)
    shown = np.arange(first, min(first + _MOST_BATCHES, n_batches))
    each = -(-tallest // _MOST_CELLS)
    ends = np.arange(each, tallest + each, each)[:, None]  # rows up to the end of each cell
    rows, sizes = plan.rows[shown], (plan.rows + plan.n_pad)[shown]
    shard = (np.minimum(ends, sizes) - 1) * settings.row_multiple // sizes
    cells = np.where(shard % 2 == 0, _EVEN, _ODD)
    cells = np.where(np.minimum(ends, sizes) > rows, _PAD, cells)
    cells = np.where(ends - each >= sizes, _NONE, cells)
    names = [f"{number + 1:,}" for number in shown]
    title = "Batches of an epoch"
    if n_batches > _MOST_BATCHES:
        title = f"Batches {names[0]} to {names[-1]} of {n_batches:,}"
    if settings.row_multiple > 1:
        kinds = [
            (_rows_of_devices(1, settings.row_multiple), "main"),
            (_rows_of_devices(2, settings.row_multiple), "second"),
            ("padding", "bad"),
        ]
    else:
        kinds = [("rows", "main")]
    if n_batches > 1:
        column = cells[:, batch - first]
        column[(column == _EVEN) | (column == _ODD)] = len(kinds)
        kinds.append((f"batch {batch + 1:,}, chosen", "data"))
    step = "" if each == 1 else f", {each:,} to a cell"
    every = -(-len(ends) // 8)  # else their labels would run into each other
    labels = [f"{end - each + 1:,}" if i % every == 0 else "" for i, end in enumerate(ends[:, 0])]
    layer = Cells(cells, x_names=names, y_names=labels, kinds=kinds)
    return Chart([layer], title, "batch", f"rows of a batch{step}")


def _waste_chart(n_rows: int, settings: Settings) -> Chart:
    """Return the share of padding for other batch sizes; the present one can be dragged."""
    most = min(n_rows, max(4 * settings.batch_size, 8 * settings.row_multiple))
    sizes = np.unique(np.linspace(1, most, _MOST_SIZES).astype(int))
    shares = [100 * padding_waste(n_rows, int(size), settings.row_multiple)[1] for size in sizes]

    def whole(place: float) -> int:
        return int(min(max(round(place), 1), n_rows))

    handle = Handle("batch_size", settings.batch_size, whole, "batch size")
    title = f"Padding on {settings.row_multiple} devices"
    return Chart([Line(sizes, shares)], title, "batch size", "% of rows", handles=[handle])


def _epoch_table(reading: Reading, plan: EpochPlan, cost: tuple[int, int] | None) -> pd.DataFrame:
    import pandas as pd

    found: dict[str, object] = {
        "rows": plan.n_rows,
        "batches": len(plan),
        "rows of a batch": int(plan.rows.max()),
        "rows of padding": int(plan.n_pad.sum()),
        "rows computed": plan.rows_computed,
        "share of padding": plan.wasted,
    }
    if reading.host_bytes is not None:
        found["bytes of the data"] = reading.host_bytes
    if reading.row_bytes is not None:
        found["bytes of a batch as it lies"] = int(plan.rows.max()) * reading.row_bytes
    if cost is not None:
        found |= {
            "bytes of a batch on devices": plan.batch_bytes,
            "bytes on each device": cost[0],
            "bytes moved in an epoch": cost[1],
        }
    index = pd.Index(found, name="quantity")
    return pd.DataFrame({"value": pd.Series(list(found.values()), index, dtype=object)})


def _batch_table(plan: EpochPlan) -> pd.DataFrame:
    import pandas as pd

    index = pd.RangeIndex(1, len(plan) + 1, name="batch")
    columns = {"first": plan.starts, "rows": plan.rows, "padding": plan.n_pad}
    computed = plan.rows + plan.n_pad
    columns["rows on each device"] = computed // plan.row_multiple
    return pd.DataFrame(columns, index=index)


def _row_table(
    reading: Reading, settings: Settings, plan: EpochPlan, batch: int
) -> pd.DataFrame | None:
    """Return the first and the last rows of a batch, its padding marked."""
    import pandas as pd

    numbers = reading.numbers(settings, batch)
    padded, n_pad = pad_rows({"place": np.arange(len(numbers))}, plan.row_multiple)
    places, size = padded["place"], len(numbers) + n_pad
    at = np.unique(np.r_[: min(_AT_AN_END, size), max(size - _AT_AN_END, 0) : size])
    read = reading.rows(numbers, batch, places[at].tolist())
    found: dict[str, object] = {
        "kind": np.where(at < len(numbers), "data", "padding"),
        "device": at * settings.row_multiple // size + 1,
        "row": numbers[places[at]],
    }
    if read is not None:
        fields = fields_of(read, reading.columns, _MOST_COLUMNS)
        found |= {f"{name} (given)" if name in found else name: one for name, one in fields.items()}
    return pd.DataFrame(found, index=pd.Index(at + 1, name="place"))


def _sentences(
    reading: Reading, settings: Settings, plan: EpochPlan, cost: tuple[int, int] | None
) -> list[str]:
    count, ending = f"{len(plan):,}", "" if len(plan) == 1 else "s"
    batches = f"{count} batch{'es' if ending else ''} of {_sizes(plan)}"
    rows = "1 row" if plan.n_rows == 1 else f"{plan.n_rows:,} rows"
    found = [f"{rows} in {batches}: {count} step{ending} an epoch."]
    n_pad = int(plan.n_pad.sum())
    if n_pad:
        found.append(
            f"Batches are padded to a multiple of {settings.row_multiple}: {n_pad:,} rows of "
            f"padding an epoch, {plan.wasted:.1%} of the rows computed."
        )
    elif settings.devices:
        found.append(f"No batch needs padding on {_devices(settings.devices)}.")
    else:
        found.append("Batches stay where the data lies (device=None): nothing is padded or moved.")
    if reading.can_be_set and (
        advice := padding_advice(plan.n_rows, settings.batch_size, settings.row_multiple)
    ):
        found.append(advice)
    if reading.host_bytes is not None:
        found.append(f"The data takes {format_bytes(reading.host_bytes)}.")
    if cost is not None:
        found.append(_bytes_words(reading, settings, plan, cost))
    return found


def _bytes_words(
    reading: Reading, settings: Settings, plan: EpochPlan, cost: tuple[int, int]
) -> str:
    """Write what a batch takes: as it lies, and on devices, where JAX holds 64 bits in 32."""
    rows, size = int(plan.rows.max()), format_bytes(plan.batch_bytes)
    is_held_smaller = reading.row_bytes is not None and reading.row_bytes > plan.row_bytes
    why = ", where JAX holds numbers of 64 bits in 32" if is_held_smaller else ""
    lies = "" if reading.row_bytes is None else format_bytes(rows * reading.row_bytes)
    found = [f"{lies} as it lies"] if lies else []
    if settings.devices:
        on_all = f"{size} on {_devices(settings.devices)}{why}"
        each = f", {format_bytes(cost[0])} on each" if settings.devices > 1 else ""
        found.append(f"{on_all}{each}")
    elif why or not lies:
        found.append(f"{size} on a device{why}")
    words = f"A batch takes {', and '.join(found)}"
    return f"{words}; an epoch moves {format_bytes(cost[1])}." if settings.devices else f"{words}."


def _sizes(plan: EpochPlan) -> str:
    """Write the rows of the batches: all alike but the last one, or cut elsewhere as they come."""
    size, least, last = int(plan.rows.max()), int(plan.rows.min()), int(plan.rows[-1])
    rows = "1 row" if size == 1 else f"{size:,} rows"
    if (plan.rows[:-1] != size).any():
        return f"{least:,} to {rows}"
    return rows if last == size else f"{rows}, the last one {last:,}"


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _code(reading: Reading, kind: str, values: Values) -> str:
    given = f"# loader is the {kind} that explore_loader was given."
    named = ", ".join(f"{name}={value!r}" for name, value in values.items())
    shown = ["explorer = lab.explore_loader(loader)"]
    shown += [f"explorer.set({named})"] if named else []
    shown += ["explorer.table()"] if named else ["explorer.view"]
    if not isinstance(reading, OfLoader) or reading.is_dataset:
        return "\n".join([given, "from aimz_lab import lab", "", *shown])
    settings = _settings(reading, values)
    return "\n".join(
        [
            given,
            "from aimz_lab import ArrayLoader, lab",
            "",
            "plan = ArrayLoader(",
            "    loader.dataset,",
            "    loader.rng_key,",
            f"    batch_size={settings.batch_size},",
            f"    shuffle={settings.shuffle},",
            f").plan(row_multiple={settings.row_multiple})",
            "",
            *shown,
        ]
    )
