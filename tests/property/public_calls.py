"""Calls of all public functions, with right arguments but for one, two or three.

A call is plain text: the name of its target, and what is wrong with it. So a report can be called
again, and a random choice of calls is a choice of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from hypothesis import strategies as st

import aimz_lab
from aimz_lab import ArrayDataset, ArrayLoader, Control, ImpactModel, effects, lab
from aimz_lab.data import epoch_order, padding_advice, padding_waste
from tests.property.call_values import HUGE, VALUES
from tests.property.call_world import World, plain

MISSING = "is missing"
DEFAULT = object()


class Argument(NamedTuple):
    """An argument of a target.

    Attributes:
        right: Makes a value that works; ``DEFAULT`` leaves the argument out.
        rule: Which values may be accepted, a key of ``RULES``.
        endless: Whether a huge number is a fair wish that never ends.
    """

    right: Any = DEFAULT
    rule: str = "anything"
    endless: bool = False


@dataclass(frozen=True)
class Target:
    """Something that users call.

    Attributes:
        function: Returns it.
        arguments: Its arguments by name; a name such as ``0`` is positional.
        open: Whether it takes any further keyword.
    """

    function: Callable[[World], Callable[..., Any]]
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    open: bool = False


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        target: A key of ``TARGETS``.
        changes: For some arguments, a key of ``VALUES``, or ``MISSING``.
        further: A keyword that is not known, with a key of ``VALUES``; or ``None``.
        too_many: Whether there are more positional arguments than parameters.
    """

    target: str
    changes: tuple[tuple[str, str], ...] = ()
    further: tuple[str, str] | None = None
    too_many: bool = False


def _flags(*names: str) -> dict[str, Argument]:
    return {name: Argument(rule="flag") for name in names}


_ROLES = {"by_row": Argument(rule="names"), "shared": Argument(rule="names")}
_KERNEL = {**_ROLES, "kernel_kwargs": Argument(rule="mapping or None")}
_CALL = {
    "rng_key": Argument(rule="key or None"),
    "return_sites": Argument(rule="names or None"),
    "rows": Argument(rule="rows"),
    "dims": Argument(rule="mapping or None"),
    "coords": Argument(rule="mapping or None"),
    "intervention": Argument(rule="mapping or None"),
    **_flags("allow_nonfinite"),
    **_KERNEL,
}
_HELD = {
    "condition": Argument(rule="mapping or None"),
    "held": Argument(rule="held"),
    **_flags("in_sample"),
}
_STORED = {
    "shard_axis": Argument(rule="shard_axis"),
    "batch_size": Argument(rule="count or None"),
    "store": Argument(lambda w: "memory", "store"),
    "output_dir": Argument(),
    "reduce": Argument(),
    "progress": Argument(lambda w: False, "flag"),
}
_BATCH = _flags("return_datatree")
_TRAIN = {
    "num_samples": Argument(lambda w: 10, "count"),
    "rng_key": Argument(rule="key or None"),
    "progress": Argument(lambda w: False, "progress"),
    "callbacks": Argument(rule="callbacks"),
    "steps_per_call": Argument(rule="count or auto"),
    "on_nonfinite": Argument(rule="on_nonfinite"),
    "resume": Argument(),
    "blocking": Argument(rule="flag"),
    **_flags("allow_nonfinite"),
    **_KERNEL,
}
_FIT = {
    "epochs": Argument(lambda w: 1, "count", endless=True),
    "batch_size": Argument(lambda w: 6, "count or None"),
    "shuffle": Argument(rule="flag or None"),
    "validation": Argument(),
    "validation_every": Argument(rule="count"),
    "scale": Argument(),
    "n_obs": Argument(rule="count or None"),
    "rows": Argument(rule="rows"),
    "accumulate": Argument(rule="count"),
    **_TRAIN,
}
_PRIOR = {"num_samples": Argument(lambda w: 10, "count"), **_CALL}
_X = {"X": Argument(lambda w: w.X)}
_XY = {**_X, "y": Argument(lambda w: w.y)}
_SCORE = {name: one for name, one in _CALL.items() if name not in ("rng_key", "return_sites")}
_SCORE.pop("intervention")
METHODS = {
    "fit": {**_XY, **_FIT},
    "fit_on_batch": {
        **_XY,
        "num_steps": Argument(lambda w: 2, "count", endless=True),
        **_TRAIN,
    },
    "train_on_batch": {
        **_XY,
        "rng_key": Argument(rule="key or None"),
        "n_obs": Argument(lambda w: 12, rule="count or None"),
        "rows": Argument(rule="rows"),
        **_KERNEL,
    },
    "sample": {
        "num_samples": Argument(lambda w: 5, "count"),
        "rng_key": Argument(rule="key or None"),
        "return_sites": Argument(rule="names or None"),
        **_BATCH,
    },
    "set_posterior_sample": {
        "posterior_sample": Argument(lambda w: dict(w.plain.posterior)),
        "num_chains": Argument(rule="count"),
    },
    "predict": {**_X, **_CALL, **_HELD, **_STORED},
    "predict_on_batch": {**_X, **_CALL, **_HELD, **_BATCH},
    "sample_posterior_predictive": {**_X, **_CALL, **_STORED},
    "sample_posterior_predictive_on_batch": {**_X, **_CALL, **_BATCH},
    "sample_prior_predictive": {**_X, **_PRIOR, **_STORED},
    "sample_prior_predictive_on_batch": {**_X, **_PRIOR, **_BATCH},
    "log_likelihood": {**_XY, **_SCORE, **_STORED},
}
_EXTRA = {"t": Argument(lambda w: w.t), "table": Argument(lambda w: w.table), "power": Argument()}


def _method(model: str, method: str) -> Target:
    arguments = dict(METHODS[method])
    takes_rows = model == "extra" and "X" in arguments
    if takes_rows:
        arguments |= _EXTRA
    if (model, method) == ("extra", "set_posterior_sample"):
        arguments["posterior_sample"] = Argument(lambda w: dict(w.extra.posterior))
    has_kernel_arguments = "X" in arguments or method == "sample"
    return Target(lambda w: getattr(getattr(w, model), method), arguments, has_kernel_arguments)


def _setter(name: str) -> Callable[[World], Callable[[Any], None]]:
    return lambda w: lambda value: setattr(w.plain, name, value)


def _used(make: Callable[..., Any], **given: Any) -> Callable[[World], Callable[..., Any]]:
    """A callback that is made and then told of a run; or a reducer, made and then used."""

    def use(world: World) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            one = make(*args, **kwargs)
            world.plain.fit(
                world.X, world.y, epochs=1, batch_size=6, num_samples=3, callbacks=[one],
                validation=(world.X, world.y), progress=False,
            )  # fmt: skip
            return one

        return made

    return use


def _reduced(make: Callable[..., Any]) -> Callable[[World], Callable[..., Any]]:
    def use(world: World) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            one = make(*args, **kwargs)
            score = one.name == "loo"
            predict = world.plain.log_likelihood if score else world.plain.predict
            given = (world.X, world.y) if score else (world.X,)
            return predict(*given, reduce=one, store="memory", progress=False)

        return made

    return use


def _scenario(world: World, **options: Any) -> dict[str, Any]:
    return {"X": world.X, "store": "memory", **options}


_AVERAGE = {name: Argument() for name in ("contrast", "by", "weights", "subset")}
_AVERAGE["average"] = Argument(rule="flag or None")


def _actions(world: World) -> dict[str, Any]:
    return {"none": _scenario(world), "all": _scenario(world, X=world.X + 1)}


def _effect_of_arguments(on_batch: bool) -> Callable[[World], Callable[..., Any]]:
    """``estimate_effect``, whose keywords here are those of one of its scenarios."""

    def use(world: World) -> Callable[..., Any]:
        def effect(*args: Any, reduce: Any = None, **options: Any) -> Any:
            base = {"X": world.X} if on_batch else _scenario(world)
            given = {"args_baseline": base, "args_intervention": options, "reduce": reduce}
            return world.plain.estimate_effect(*args, on_batch=on_batch, **given)

        return effect

    return use


def _watched(world: World) -> Callable[..., Any]:
    def watch(loss: Any, **options: Any) -> Any:
        watched = lab.monitor([1.0, 2.0], model="demo", callbacks=[])
        for _ in watched:
            watched.step(loss, **options)

    return watch


def _without_a_lasting_cache(world: World) -> Callable[..., Any]:
    before = jax.config.jax_compilation_cache_dir

    def enable(*args: Any, **options: Any) -> Any:
        try:
            return lab.enable_compilation_cache(*args, **options)
        finally:
            jax.config.update("jax_compilation_cache_dir", before)

    return enable


_MONITOR = Argument(rule="monitor")
_CALLBACKS = {
    "EarlyStopping": {
        "monitor": _MONITOR,
        "patience": Argument(rule="count"),
        "min_delta": Argument(rule="at least 0"),
        "restore_best": Argument(rule="flag"),
        "window": Argument(rule="count or None"),
    },
    "ReduceLROnPlateau": {
        "monitor": _MONITOR,
        "factor": Argument(rule="share"),
        "patience": Argument(rule="count"),
        "min_rate": Argument(rule="at least 0"),
        "min_delta": Argument(rule="at least 0"),
        "window": Argument(rule="count or None"),
    },
    "LearningRateScheduler": {"schedule": Argument(lambda w: lambda epoch: 0.1, "callable")},
    "TerminateOnNaN": {"after": Argument(rule="count")},
    "GradientNorm": {},
    "ParamDrift": {"every": Argument(rule="count")},
    "ModelCheckpoint": {
        "directory": Argument(lambda w: w.folder / "checkpoints"),
        "every_s": Argument(rule="at least 0"),
        "every_epochs": Argument(rule="count or None"),
        "keep": Argument(rule="count"),
        "best": Argument(rule="monitor or None"),
        "window": Argument(rule="count or None"),
    },
    "CSVLogger": {
        "path": Argument(lambda w: w.folder / "run.csv"),
        "append": Argument(rule="flag"),
    },
    "LambdaCallback": {"on_fit_end": Argument(lambda w: lambda run: None, "callable")},
    "ProgressLine": {"stream": Argument()},
    "History": {"run": Argument()},
    "LiveDashboard": {
        "view": Argument(),
        "predictive_check": Argument(),
        "check_every": Argument(rule="count"),
        "grad_norm": Argument(rule="flag"),
        "share": Argument(rule="number"),
    },
}
_REDUCERS = {
    "Mean": {"over": Argument(), "by": Argument()},
    "Quantiles": {"probs": Argument(lambda w: [0.1, 0.9])},
    "Hdi": {"prob": Argument(rule="share")},
    "Exceeds": {"threshold": Argument(lambda w: 0.5, "number")},
    "Loo": {"r_eff": Argument(rule="positive")},
}
_SOURCE = {"0": Argument(lambda w: w.run)}
_KEY = Argument(lambda w: w.key, "key")

TARGETS: dict[str, Target] = {
    **{f"plain.{name}": _method("plain", name) for name in METHODS},
    **{f"extra.{name}": _method("extra", name) for name in METHODS},
    **{f"mcmc.{name}": _method("mcmc", name) for name in METHODS},
    **{f"fresh.{name}": _method("fresh", name) for name in METHODS},
    "estimate_effect(outputs)": Target(
        lambda w: w.plain.estimate_effect,
        {
            "output_baseline": Argument(lambda w: w.tree),
            "output_intervention": Argument(lambda w: w.other_tree),
            "args_baseline": Argument(),
            "args_intervention": Argument(),
            "on_batch": Argument(rule="flag"),
            "reduce": Argument(),
        },
    ),
    "estimate_effect(args)": Target(
        lambda w: w.plain.estimate_effect,
        {
            "output_baseline": Argument(),
            "output_intervention": Argument(),
            "args_baseline": Argument(_scenario),
            "args_intervention": Argument(lambda w: _scenario(w, X=w.X + 1)),
            "on_batch": Argument(rule="flag"),
            "reduce": Argument(),
            **_AVERAGE,
        },
    ),
    "sweep": Target(
        lambda w: w.plain.sweep,
        {
            "name": Argument(lambda w: "mu"),
            "grid": Argument(lambda w: [0.0, 1.0]),
            "X": Argument(lambda w: w.X),
            "of": Argument(),
            "reference": Argument(),
            "rng_key": Argument(rule="key or None"),
            **{name: one for name, one in _AVERAGE.items() if name != "average"},
        },
        open=True,
    ),
    "decide": Target(
        lambda w: w.plain.decide,
        {
            "actions": Argument(_actions),
            "benefits": Argument(),
            "costs": Argument(),
            "budget": Argument(),
            "site": Argument(),
            "prob": Argument(rule="share"),
            "rng_key": Argument(rule="key or None"),
        },
    ),
    "overlap": Target(
        lambda w: w.plain.overlap,
        {
            "trained": Argument(lambda w: w.X),
            "scenario": Argument(lambda w: w.X),
            "treatment": Argument(),
            "limits": Argument(),
        },
    ),
    "uplift": Target(
        lambda w: effects.uplift,
        {
            "effect": Argument(lambda w: w.effect),
            "outcome": Argument(lambda w: w.y),
            "treated": Argument(lambda w: w.y > 0),
            "site": Argument(lambda w: "y"),
            "weights": Argument(),
            "bins": Argument(rule="count"),
            "prob": Argument(rule="share"),
        },
    ),
    "e_value": Target(
        lambda w: effects.e_value,
        {
            "effect": Argument(lambda w: 2.0),
            **{name: Argument() for name in ("low", "high", "measure", "sd", "se", "true", "site")},
            "rare": Argument(),
            "prob": Argument(),
        },
    ),
    "tipping_points": Target(
        lambda w: effects.tipping_points,
        {
            "effect": Argument(lambda w: 2.0),
            **{name: Argument() for name in ("limit", "measure", "strengths", "site", "prob")},
        },
    ),
    "estimate_effect(scenario)": Target(
        _effect_of_arguments(on_batch=False), {**METHODS["predict"]}, open=True
    ),
    "estimate_effect(scenario, on_batch)": Target(
        _effect_of_arguments(on_batch=True), {**METHODS["predict_on_batch"]}, open=True
    ),
    "ImpactModel": Target(
        lambda w: ImpactModel,
        {
            "kernel": Argument(lambda w: plain, "callable"),
            "rng_key": _KEY,
            "inference": Argument(lambda w: w.svi()),
            "svi": Argument(),
            "param_input": Argument(rule="text"),
            "param_output": Argument(rule="text"),
            "device": Argument(),
        },
    ),
    "save": Target(lambda w: w.plain.save, {"path": Argument(lambda w: w.folder / "again")}),
    "load": Target(
        lambda w: ImpactModel.load,
        {
            "path": Argument(lambda w: w.saved),
            "kernel": Argument(lambda w: plain, "callable"),
            "inference": Argument(lambda w: _same_inference(w)),
            "svi": Argument(),
            "device": Argument(),
            "kernel_kwargs": Argument(rule="mapping or None"),
        },
    ),
    "n_obs": Target(_setter("n_obs"), {"0": Argument(lambda w: 12, "count or None")}),
    "vi_result": Target(_setter("vi_result"), {"0": Argument(lambda w: w.plain.vi_result)}),
    "describe": Target(lambda w: w.plain.describe),
    "is_fitted": Target(lambda w: w.plain.is_fitted),
    "cleanup": Target(lambda w: w.plain.cleanup),
    "cleanup_models": Target(lambda w: ImpactModel.cleanup_models),
    "ArrayDataset": Target(
        lambda w: ArrayDataset, {**_XY, "to_jax": Argument(rule="flag")}, open=True
    ),
    "dataset[]": Target(lambda w: w.dataset.__getitem__, {"0": Argument(lambda w: 1)}),
    "dataset.take": Target(lambda w: w.dataset.take, {"rows": Argument(lambda w: [1, 0])}),
    "ArrayLoader": Target(
        lambda w: ArrayLoader,
        {
            "dataset": Argument(lambda w: w.dataset),
            "rng_key": _KEY,
            "batch_size": Argument(rule="count"),
            "shuffle": Argument(rule="flag"),
            "device": Argument(),
        },
    ),
    "loader.load_state_dict": Target(
        lambda w: w.loader.load_state_dict, {"state": Argument(lambda w: w.loader.state_dict())}
    ),
    "loader.index_batches": Target(
        lambda w: lambda *a, **k: list(w.loader.index_batches(*a, **k)),
        {"epoch": Argument(lambda w: 0), "start": Argument()},
    ),
    "loader.batches": Target(
        lambda w: lambda *a, **k: list(w.loader.batches(*a, **k)),
        {"epoch": Argument(lambda w: 0), "start": Argument()},
    ),
    "epoch_order": Target(
        lambda w: epoch_order,
        {"n": Argument(lambda w: 5, endless=True), "key": _KEY, "epoch": Argument(lambda w: 0)},
    ),
    **{
        function.__name__: Target(
            lambda w, function=function: function,
            {name: Argument(lambda w: 5, "count") for name in ("n", "batch_size", "multiple")},
        )
        for function in (padding_waste, padding_advice)
    },
    **{n: Target(_reduced(getattr(aimz_lab, n)), given) for n, given in _REDUCERS.items()},
    "open_results": Target(lambda w: aimz_lab.open_results, {"path": Argument(lambda w: w.store)}),
    "settable_rate": Target(
        lambda w: lambda *a, **k: aimz_lab.settable_rate(*a, **k).init({"x": w.y}),
        {
            "optimizer": Argument(lambda w: __import__("numpyro").optim.Adam),
            "step_size": Argument(lambda w: 0.1, "positive"),
        },
    ),
    "summarize_effect": Target(
        lambda w: aimz_lab.summarize_effect,
        {
            "effect": Argument(lambda w: w.effect),
            "prob": Argument(rule="share"),
            **{name: Argument() for name in ("direction", "delta", "rope")},
        },
    ),
    "hdi": Target(
        lambda w: effects.hdi,
        {
            "draws": Argument(lambda w: w.X),
            "prob": Argument(rule="share"),
            "axis": Argument(),
        },
    ),
    "effects.estimate_effect": Target(
        lambda w: effects.estimate_effect,
        {
            "baseline": Argument(lambda w: w.tree),
            "intervention": Argument(lambda w: w.other_tree),
            **_AVERAGE,
        },
    ),
    "run.column": Target(lambda w: w.run.column, {"name": Argument(lambda w: "loss")}),
    "control.stop": Target(
        lambda w: Control().stop, {"reason": Argument(rule="text"), "status": Argument()}
    ),
    "control.set_learning_rate": Target(
        lambda w: Control(can_set_learning_rate=True).set_learning_rate,
        {"rate": Argument(lambda w: 0.1, "positive")},
    ),
    "handle.wait": Target(lambda w: w.handle.wait, {"timeout": Argument(rule="anything")}),
    "handle.result": Target(lambda w: w.handle.result, {"timeout": Argument()}),
    "handle.stop": Target(lambda w: w.handle.stop, {"reason": Argument(rule="text")}),
    "handle.set_learning_rate": Target(
        lambda w: w.handle.set_learning_rate, {"rate": Argument(lambda w: 0.1, "positive")}
    ),
    **{f"lab.{n}": Target(_used(getattr(lab, n)), given) for n, given in _CALLBACKS.items()},
    "lab.MLflowLogger": Target(
        lambda w: lab.MLflowLogger,
        {
            "experiment": Argument(rule="text"),
            "run_name": Argument(rule="text or None"),
            "tracking_uri": Argument(),
            "tags": Argument(rule="mapping or None"),
            "every_s": Argument(rule="at least 0"),
        },
    ),
    "lab.monitor": Target(
        lambda w: lambda *a, **k: list(lab.monitor(*a, **k)),
        {
            "batches": Argument(lambda w: []),
            "epochs": Argument(rule="count", endless=True),
            "n_obs": Argument(rule="count or None"),
            "model": Argument(lambda w: "demo"),
            "callbacks": Argument(lambda w: [], "callbacks or None"),
            "set_learning_rate": Argument(rule="callable or None"),
        },
    ),
    "watch.step": Target(_watched, {"loss": Argument(lambda w: 1.0)}, open=True),
    "lab.compare": Target(lambda w: lab.compare, {**_SOURCE, "1": Argument(lambda w: w.run)}),
    "lab.show": Target(lambda w: lab.show, {**_SOURCE, "1": Argument(lambda w: w.run)}),
    "lab.loss_figure": Target(
        lambda w: lab.loss_figure, {**_SOURCE, **_flags("log", "per_row", "smooth")}
    ),
    "lab.summary_text": Target(lambda w: lab.summary_text, {"source": _SOURCE["0"]}),
    "lab.summary_html": Target(
        lambda w: lab.summary_html, {"source": _SOURCE["0"], "picture": Argument(rule="text")}
    ),
    "lab.enable_compilation_cache": Target(
        _without_a_lasting_cache, {"directory": Argument(lambda w: w.folder / "c")}
    ),
    "lab.default_display": Target(
        lambda w: lab.default_display, {"progress": Argument(lambda w: "text")}
    ),
    "history.to_csv": Target(
        lambda w: lab.History(w.run).to_csv, {"path": Argument(lambda w: w.folder / "h.csv")}
    ),
    "history.to_json": Target(
        lambda w: lab.History(w.run).to_json, {"path": Argument(lambda w: w.folder / "h.json")}
    ),
    "history.from_json": Target(
        lambda w: lab.History.from_json, {"path": Argument(lambda w: w.history_file)}
    ),
}


def _same_inference(world: World) -> Any:
    import numpyro
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    rate = aimz_lab.settable_rate(numpyro.optim.Adam, 0.1)
    return SVI(plain, AutoNormal(plain), rate, Trace_ELBO())


_MISSPELT = ("progres", "rng_keys", "batchsize", "X1", "self", "cls", "_", "name with blanks", "in")


@st.composite
def calls(draw: st.DrawFn, targets: tuple[str, ...] = tuple(TARGETS)) -> Call:
    """Any call: most often with one wrong value.

    Args:
        draw: Of Hypothesis.
        targets: What may be called.
    """
    name = draw(st.sampled_from(targets))
    target = TARGETS[name]
    changes: dict[str, str] = {}
    if target.arguments:
        several = draw(st.sampled_from((1, 1, 1, 1, 2, 3, 0)))
        for _ in range(several):
            argument = draw(st.sampled_from(tuple(target.arguments)))
            changes[argument] = draw(st.sampled_from((*VALUES, MISSING, MISSING)))
    if any(target.arguments[n].endless and _is_huge(value) for n, value in changes.items()):
        changes = {}
    further = None
    if draw(st.integers(0, 11)) == 0:
        further = draw(st.sampled_from(_MISSPELT)), draw(st.sampled_from(tuple(VALUES)))
    too_many = draw(st.integers(0, 29)) == 0
    return Call(name, tuple(sorted(changes.items())), further, too_many)


def _is_huge(value: str) -> bool:
    return value in (repr(HUGE), repr(10**30), repr(10**400)[:40])
