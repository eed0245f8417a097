"""Calls as they are made in a hurry are refused before they change anything, with a way out."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from aimz_lab import open_results, summarize_effect
from aimz_lab.effects import hdi
from aimz_lab.errors import ArgumentError, ArtifactError, CallError, DataError, DataTypeError
from aimz_lab.lab import ModelCheckpoint, compare, monitor
from tests.property.call_world import QUIET, World

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's Normal, drawn with a sample shape


@pytest.fixture(scope="module")
def world():
    jax.config.update("jax_numpy_rank_promotion", "allow")  # a module's fixture comes first
    with World() as made:
        yield made


def test_a_misspelt_option_is_told_from_an_argument_of_the_kernel(world):
    im, before = world.plain, world.state()
    with pytest.raises(CallError, match=r"fit no option of that name.*mean 'batch_size'\?"):
        im.fit(world.X, world.y, batchsize=5, **QUIET)
    with pytest.raises(CallError, match=r"fit_on_batch no .* option of im\.fit, im\.check\.$"):
        im.fit_on_batch(world.X, world.y, epochs=5, **QUIET)
    with pytest.raises(CallError, match="log_likelihood no option"):
        im.log_likelihood(world.X, world.y, intervention={"slope": 0.0}, **QUIET)
    for spelt in ("num_samples", "num_sample"):
        with pytest.raises(CallError, match=r"posterior: im\.sample\(num_samples=\.\.\.\) makes"):
            im.predict(world.X, **{spelt: 5})
    with pytest.raises(CallError, match="sample has no option 'num_draws'"):
        im.sample(num_draws=5)
    assert world.changed_since(before) == []


def test_held_out_rows_have_the_axes_of_the_training(world):
    im, before = world.plain, world.state()
    for X, y, name in (
        (world.X, world.y[:, None], "y"),  # would be the loss of all pairs of rows
        (world.X[..., None], world.y, "X"),
    ):
        for held_out in ((X, y), {"X": X, "y": y}):
            with pytest.raises(DataError, match=f"validation=.*'{name}' has rows of shape"):
                im.fit(world.X, world.y, validation=held_out, **QUIET)
    with pytest.raises(DataError, match="Held-out data: field 'y'"):
        im.fit(world.X, world.y, validation={"X": world.X, "y": world.y * np.nan}, **QUIET)
    assert world.changed_since(before) == []


@pytest.mark.parametrize("argument", ["intervention", "condition"])
def test_values_of_sites_are_finite(world, argument):
    im, before = world.plain, world.state()
    options = {"held": "redraw", **QUIET}
    with pytest.raises(DataError, match=f"{argument}= sets 'slope' to NaN.* 1 of 2 values"):
        im.predict(world.X, **{argument: {"slope": [0.0, np.nan]}}, **options)
    assert world.changed_since(before) == []
    allowed = im.predict(
        world.X, **{argument: {"slope": [0.0, np.nan]}}, allow_nonfinite=True, **options
    )
    assert np.isnan(allowed.posterior_predictive.y).all()


def test_a_shape_is_mended_by_the_name_of_its_argument(world):
    with pytest.raises(DataError, match=r"such as y\[:, 0\]"):
        world.plain.log_likelihood(world.X, world.y[:, None], **QUIET)


def test_a_folder_of_results_is_no_result_to_remove(world):
    folder = world.folder / "results"
    inside = folder / Path(world.store).name
    shutil.copytree(world.store, inside)
    with pytest.raises(ArtifactError, match="folder of results") as error:
        open_results(folder)
    assert str(inside) in str(error.value)
    assert "Remove" not in str(error.value)
    with pytest.raises(ArgumentError, match="'artifact_path'"):
        open_results(None)


def test_a_group_is_no_tree_of_results(world):
    group = world.effect["posterior_predictive"]
    with pytest.raises(ArgumentError, match=r"whole tree.*it has no groups.*to_dataset\(\)"):
        summarize_effect(group)
    with pytest.raises(ArgumentError, match="they have no groups and no groups. Pass the trees"):
        world.plain.estimate_effect(group, group)
    with pytest.raises(ArgumentError, match="a single number"):
        hdi(3.0)


def test_a_refused_run_leaves_no_folder(world):
    folder = world.folder / "refused"
    callbacks = [ModelCheckpoint(folder, best="validation")]
    with pytest.raises(ArgumentError, match="held-out data"):
        world.plain.fit(world.X, world.y, callbacks=callbacks, **QUIET)
    assert not folder.exists()


def test_what_is_watched_or_compared_is_named(world):
    with pytest.raises(DataTypeError, match="this one returned 0"):
        list(monitor(int, model="demo", callbacks=[]))
    assert compare(world.plain).loc["steps"].tolist() == [world.plain.last_run.step]
    with pytest.raises(DataTypeError, match="a model that was trained in this session"):
        compare(world.plain.kernel)
