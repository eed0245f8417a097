"""Wrong arguments are refused by name before anything is computed, and a refused call is none."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import aimz_lab
from aimz_lab import ArrayDataset, ArrayLoader, Exceeds, Hdi, Loo, Mean, Quantiles
from aimz_lab.errors import (
    ArgumentError,
    CallError,
    CheckpointError,
    DataError,
    DataTypeError,
    SiteError,
)
from aimz_lab.lab import (
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    LiveDashboard,
    ModelCheckpoint,
    ProgressLine,
    ReduceLROnPlateau,
    loss_figure,
    monitor,
    summary_html,
)
from tests.property.call_world import QUIET, World

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's Normal, drawn with a sample shape


@pytest.fixture(scope="module")
def world():
    jax.config.update("jax_numpy_rank_promotion", "allow")  # a module's fixture comes first
    with World() as made:
        yield made


WRONG_OPTIONS = {
    "shuffle": ("no", 1, np.ones(3)),
    "blocking": ("yes",),
    "allow_nonfinite": (None, [True]),
    "progress": ("bar", np.ones(2), 1),
    "epochs": ("2", 2.0, True, -5, np.ones(3, int)),
    "batch_size": ("8", 0),
    "num_samples": (1e3, None, 2**40),
    "validation_every": (-5, 0.5),
    "n_obs": (-1, "all"),
    "accumulate": (0,),
    "scale": ("full", -1.0, np.ones(2), True),
    "rows": ("yes", np.ones(2)),
    "steps_per_call": ("fast", 0, np.ones(2)),
    "on_nonfinite": ("ignore", 5),
    "callbacks": (1, [5], [EarlyStopping], "stop"),
    "by_row": (5, [1], b"t"),
    "shared": ({"t": 1},),
    "kernel_kwargs": ([1], {1: 2}),
    "resume": (5,),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_options_of_a_fit_are_named(world, name):
    im = world.plain
    before = world.state()
    for value in WRONG_OPTIONS[name]:
        with pytest.raises((ArgumentError, CallError), match=name):
            im.fit(world.X, world.y, **{**QUIET, name: value})
    assert world.changed_since(before) == []


WRONG_IN_PREDICT = {
    "in_sample": ("no", 1, np.ones(3)),
    "return_sites": (5, [1], {"mu": 1}),
    "reduce": (5, Mean, [], {}, ["mean", 5], np.array(3)),
    "dims": ([1], {"mu": 5}, {1: ["a"]}),
    "coords": ("a", {"row": 5}, {"row": "ab"}),
    "intervention": ([1], {1: 2}),
    "condition": (5,),
    "held": ("no",),
    "store": (None, np.ones(2)),
    "shard_axis": (0,),
    "progress": ("text", 0),
    "batch_size": (0, 2.5),
    "rng_key": (5, "key"),
    "by_row": (1,),
    "kernel_kwargs": (5,),
}


@pytest.mark.parametrize("name", WRONG_IN_PREDICT)
def test_options_of_a_prediction_are_named(world, name):
    im = world.plain
    before = world.state()
    for value in WRONG_IN_PREDICT[name]:
        with pytest.raises((ArgumentError, CallError, DataTypeError), match=name):
            im.predict(world.X, **{**QUIET, "store": "memory", name: value})
    assert world.changed_since(before) == []


@pytest.mark.slow
def test_numbers_and_flags_of_numpy_are_numbers_and_flags(world):
    im = world.plain
    run = im.fit(
        world.X,
        world.y,
        epochs=np.array(2),
        batch_size=np.int64(6),
        shuffle=np.False_,
        num_samples=jnp.array(4),
        scale=np.array(2.0),
        progress=np.False_,
    ).last_run
    assert (run.step, run.info.batch_size) == (4, 6)
    tree = im.predict(world.X, in_sample=np.bool_(False), batch_size=np.uint8(5), **QUIET)
    assert tree["predictions"]["y"].shape == (1, 4, 12)
    world.restore()


def _asked(world, sites):
    """Every method with ``return_sites``, asked for ``sites``: the names that come back."""
    im, X, options = world.plain, world.X, {"return_sites": sites}
    scenarios = {
        "args_baseline": {"X": X, **options},
        "args_intervention": {"X": X + 1, **options},
    }
    prior = {"num_samples": 5, **options}
    return {
        "predict": im.predict(X, **options, **QUIET)["posterior_predictive"],
        "in memory": im.predict(X, store="memory", **options, **QUIET)["posterior_predictive"],
        "reduced": im.predict(X, reduce="mean", **options, **QUIET)["posterior_predictive"],
        "batch": im.predict_on_batch(X, **options)["posterior_predictive"],
        "arrays": im.predict_on_batch(X, return_datatree=False, **options),
        "prior": im.sample_prior_predictive(X, **prior, **QUIET)["prior_predictive"],
        "prior of a batch": im.sample_prior_predictive_on_batch(X, **prior)["prior_predictive"],
        "effect": im.estimate_effect(**scenarios)["posterior_predictive"],
        "effect of batches": im.estimate_effect(**scenarios, on_batch=True)["posterior_predictive"],
    }


def test_no_site_asked_for_is_none_and_not_all(world):
    for name, found in _asked(world, []).items():
        assert list(getattr(found, "data_vars", found)) == [], name
    assert world.plain.sample(return_sites=[], return_datatree=False) == {}
    assert list(world.plain.sample(return_sites=())["posterior"].data_vars) == []
    world.restore()


@pytest.mark.slow
def test_rows_of_another_shape_are_told_from_those_of_the_training(world):
    one_column = world.X[:, 0]
    loader = ArrayLoader(ArrayDataset(X=one_column), world.key)
    for X in (one_column, loader, [{"X": one_column}]):
        with pytest.raises(DataError, match=r"shape \(\), .* trained on rows of shape \(2,\)"):
            world.plain.predict(X, **QUIET)
    with pytest.raises(DataError, match=r"'X' has rows of shape \(3,\) here and \(2,\) in tr"):
        world.plain.predict_on_batch(np.zeros((12, 3), np.float32))
    with pytest.raises(DataError, match="'table' is no array here, and was one in training"):
        world.extra.predict_on_batch(world.X, t=world.t, table=1.0)
    with pytest.raises(DataError, match="'t' has rows of shape"):
        world.extra.predict_on_batch(world.X, t=world.X, table=world.table)


@pytest.mark.slow
def test_draws_that_cannot_fit_into_memory_are_refused_before_they_are_made(world):
    im, chains, many = world.plain, world.mcmc, 2**40
    before = world.state()
    calls = [
        lambda n: im.sample_prior_predictive(world.X, num_samples=n, **QUIET),
        lambda n: im.sample_prior_predictive(world.X, num_samples=n, reduce="mean", **QUIET),
        lambda n: im.sample_prior_predictive_on_batch(world.X, num_samples=n),
        lambda n: im.sample(num_samples=n),
        lambda n: im.fit(world.X, world.y, num_samples=n, **QUIET),
        lambda n: chains.sample(num_samples=n, X=world.X, y=world.y),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match=r"take at least .* num_samples"):
            call(many)
    assert world.changed_since(before) == []


def test_a_result_too_large_for_memory_is_sent_elsewhere(world, monkeypatch):
    monkeypatch.setattr("aimz_lab.data.memory.memory_bytes", lambda: 400_000)
    X = np.repeat(world.X, 400, axis=0)
    with pytest.raises(ArgumentError, match=r"4,800 rows take at least .* reduce='mean'"):
        world.plain.predict_on_batch(X)
    assert "y_mean" in world.plain.predict(X, reduce="mean", **QUIET)["posterior_predictive"]


@pytest.mark.parametrize(
    "coords",
    [{"row": [1, 2]}, {"row": [[1, 2], [3]]}, {"draw": [0]}, {"feature": ["a"]}],
)
def test_labels_are_as_many_as_entries(world, coords):
    for options in ({"store": "memory"}, {}, {"reduce": "mean"}):
        with pytest.raises((ArgumentError, CallError), match="coords"):
            world.plain.predict(
                world.X, coords=coords, dims={"slope": ["feature"]}, **options, **QUIET
            )


@pytest.mark.parametrize("value", [10**400, jax.random.key(0), "x", [[1, 2], [3]], None])
def test_values_set_for_sites_are_numbers(world, value):
    for argument in ("intervention", "condition"):
        with pytest.raises((DataError, DataTypeError), match="slope"):
            world.plain.predict_on_batch(world.X, **{argument: {"slope": value}})


def test_held_out_inputs_need_their_outputs(world):
    with pytest.raises(CallError, match="validation="):
        world.plain.fit(world.X, world.y, validation=(world.X, None), **QUIET)


@pytest.mark.parametrize(
    ("name", "value"), [("version", np.ones(2)), ("n", np.ones(2)), ("epoch", "a"), ("key", [])]
)
def test_a_state_of_a_loader_is_compared_value_by_value(world, name, value):
    loader = world.loader
    with pytest.raises(CheckpointError):
        loader.load_state_dict({**loader.state_dict(), name: value})


@pytest.mark.parametrize(
    ("attribute", "value"), [("kind", "other"), ("metrics", ("norm",)), ("on_fit_end", 5)]
)
def test_a_callback_says_what_it_is(world, attribute, value):
    odd = type("Odd", (aimz_lab.Callback,), {attribute: value})()
    before = world.state()
    with pytest.raises(CallError, match="Odd"):
        world.plain.fit(world.X, world.y, callbacks=[odd], **QUIET)
    assert world.changed_since(before) == []


def test_scenarios_are_trees_or_arguments(world):
    im, X, tree = world.plain, world.X, world.tree
    dataset = tree["posterior_predictive"].to_dataset()
    given = {"X": X}
    before = world.state()
    for match, call in (
        ("output_intervention=", lambda: im.estimate_effect(tree, dataset)),
        ("args_baseline=1", lambda: im.estimate_effect(args_baseline=1, args_intervention=given)),
        ("output_baseline", lambda: im.estimate_effect(args_baseline=tree, args_intervention={})),
        ("got both", lambda: im.estimate_effect(tree, tree, given)),
        ("needs the input", lambda: im.estimate_effect(tree, args_intervention={})),
        ("'self'", lambda: im.estimate_effect(tree, args_intervention={"self": 1, "X": X})),
        ("on_batch", lambda: im.estimate_effect(tree, tree, on_batch="no")),
        ("baseline=", lambda: aimz_lab.effects.estimate_effect(None, tree)),
    ):
        with pytest.raises((ArgumentError, CallError), match=match):
            call()
    arrays = {"X": X, "return_datatree": "no"}
    with pytest.raises(ArgumentError, match="return_datatree"):
        im.estimate_effect(args_baseline=arrays, args_intervention=arrays, on_batch=True)
    assert world.changed_since(before) == []


def test_a_refused_effect_uses_up_no_key(world):
    im, X, tree = world.plain, world.X, world.tree
    before = world.state()
    with pytest.raises(DataError):
        im.estimate_effect(tree, args_intervention={"X": X[:5], "store": "memory"})
    with pytest.raises(DataError):
        im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X[:5]}, on_batch=True)
    with pytest.raises(SiteError):
        im.sample(return_sites="nope")
    assert world.changed_since(before) == []


def test_an_effect_is_summarised_from_a_tree(world):
    for effect in (None, 5, np.ones(3), world.tree["posterior_predictive"]["y"]):
        with pytest.raises(ArgumentError, match="effect="):
            aimz_lab.summarize_effect(effect)
    for prob in ("0.9", None, True, np.ones(2)):
        with pytest.raises(ArgumentError, match="prob="):
            aimz_lab.summarize_effect(world.effect, prob=prob)
    assert isinstance(aimz_lab.summarize_effect(world.effect, np.float32(0.5)), xr.Dataset)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Exceeds("x"), "threshold"),
        (lambda: Exceeds(True), "threshold"),
        (lambda: Exceeds(np.ones(2)), "threshold"),
        (lambda: Hdi("0.9"), "prob"),
        (lambda: Loo(None), "r_eff"),
        (lambda: Quantiles("0.5"), "probs"),
        (lambda: Quantiles([0.1, None]), "probs"),
        (lambda: Mean(np.ones(2)), "over"),
        (lambda: Mean("row", by=[[1], [1, 2]]), "by"),
        (lambda: EarlyStopping(restore_best="no"), "restore_best"),
        (lambda: EarlyStopping(min_delta="x"), "min_delta"),
        (lambda: EarlyStopping(np.ones(2)), "monitor"),
        (lambda: ReduceLROnPlateau(min_rate="x"), "min_rate"),
        (lambda: ReduceLROnPlateau(factor=None), "factor"),
        (lambda: LearningRateScheduler(0.1), "schedule"),
        (lambda: LambdaCallback(on_fit_end=5), "on_fit_end"),
        (lambda: ModelCheckpoint(5), "directory"),
        (lambda: ModelCheckpoint("x", every_s="1"), "every_s"),
        (lambda: ModelCheckpoint("x", window=0), "window"),
        (lambda: ModelCheckpoint("x", best=np.ones(2)), "best="),
        (lambda: CSVLogger(None), "path"),
        (lambda: CSVLogger("x", append="yes"), "append"),
        (lambda: ProgressLine("out.txt"), "stream"),
        (lambda: LiveDashboard(grad_norm="no"), "grad_norm"),
        (lambda: LiveDashboard(share="x"), "share"),
        (lambda: LiveDashboard(check_every=1.5), "check_every"),
        (lambda: LiveDashboard(predictive_check=5), "predictive_check"),
        (lambda: monitor([1.0], set_learning_rate=0.1, callbacks=[]), "set_learning_rate"),
        (lambda: monitor([1.0], callbacks=5), "callbacks"),
        (lambda: aimz_lab.settable_rate("adam", 0.1), "optimizer"),
        (lambda: aimz_lab.settable_rate(print, 0.1), "step_size"),
        (lambda: aimz_lab.settable_rate(dict, 0.1), "optimizer"),
        (lambda: aimz_lab.Control().stop(5), "reason"),
        (lambda: aimz_lab.Control().stop(status="over"), "status"),
        (lambda: aimz_lab.open_results(5), "path"),
        (lambda: ArrayDataset(X=np.ones(3, np.longdouble)), "JAX does not know"),
    ],
)
def test_values_that_make_no_sense_are_refused_where_they_are_given(make, match):
    with pytest.raises((ArgumentError, CallError, DataTypeError), match=match):
        make()


@pytest.mark.slow
def test_pictures_and_records_are_asked_for_in_the_right_words(world):
    run = world.run
    with pytest.raises(ArgumentError, match="log="):
        loss_figure(run, log="yes")
    with pytest.raises(ArgumentError, match="picture="):
        summary_html(run, picture=5)
    with pytest.raises(ArgumentError, match="has the columns 'loss'"):
        run.column("los")
    for timeout in ("soon", -1, np.ones(2)):
        with pytest.raises(ArgumentError, match="timeout="):
            world.handle.wait(timeout)
    watched = monitor([1.0], model="demo", callbacks=[])
    next(iter(watched))
    with pytest.raises(DataError, match="loss is 'low'"):
        watched.step("low")


def test_a_message_shows_a_few_words_of_any_value(world):
    class Odd:
        def __repr__(self):
            return "x" * 100_000

    class Broken:
        def __repr__(self):
            raise ValueError

    for value in (Odd(), Broken(), np.zeros((1000, 1000)), list(range(10_000))):
        with pytest.raises(ArgumentError) as error:
            world.plain.predict(world.X, in_sample=value)
        assert len(str(error.value)) < 250
