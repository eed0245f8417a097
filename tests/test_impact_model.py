"""What a model says of itself, and what becomes of its temporary results."""

from __future__ import annotations

import copy
import gc
import json
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel, RunHandle, lab
from aimz_lab.errors import (
    ArgumentError,
    ArtifactGoneError,
    MissingAttributeError,
    NotFittedError,
)
from aimz_lab.inference.found_elsewhere import ELSEWHERE
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.loss_words import loss_per_row
from aimz_lab.lab.callbacks import EarlyStopping
from aimz_lab.number_text import number
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

X = np.ones((30, 2), np.float32)


def sales(X, group, y=None):
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("shop", 3):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    mean = numpyro.deterministic("mean", X @ beta + level[group])
    with numpyro.plate("week", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


@pytest.fixture(scope="module")
def fitted():
    with jax.numpy_rank_promotion("allow"):
        group = np.arange(30) % 3
        return mean_field_model(sales).fit(
            X, X[:, 0], group=group, batch_size=10, num_samples=1200, progress=False
        )


def test_names_that_a_model_does_not_have_say_where_they_are():
    im = mean_field_model(sales)
    for name, where in ELSEWHERE.items():
        with pytest.raises(MissingAttributeError, match=f"ImpactModel has no '{name}': "):
            getattr(im, name)
        for told in re.findall(r"\bim\.(\w+)", where):
            assert hasattr(ImpactModel, told)
        for told in re.findall(r"\blab\.(\w+)", where.replace("aimz_lab.lab", "")):
            assert hasattr(lab, told)
    for name in ("set_learning_rate", "stop", "pause", "resume"):
        assert hasattr(Control, name)
        assert hasattr(RunHandle, name)
    with pytest.raises(AttributeError, match=r"has no 'preditc'\. Did you mean 'predict'\?"):
        im.preditc  # noqa: B018
    with pytest.raises(NotFittedError, match="A tree of draws needs a posterior"):
        im.posterior_tree  # noqa: B018  which is an AttributeError too
    assert not hasattr(im, "_repr_png_")
    assert copy.copy(im).kernel is im.kernel


@pytest.mark.slow
def test_description_is_plain_and_complete(fitted):
    described = fitted.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["kernel"] == "sales"
    assert described["arguments"] == ["X", "group", "y"]
    assert (described["inference"], described["guide"]) == ("SVI", "AutoNormal")
    assert described["trained_on"] == {
        "n_obs": 30,
        "batch_size": 10,
        "fields": {
            "X": {"shape": [2], "dtype": "float32", "low": [1.0, 1.0], "high": [1.0, 1.0]},
            "y": {"shape": [], "dtype": "float32", "low": 1.0, "high": 1.0},
            "group": {"shape": [], "dtype": "int32", "low": 0.0, "high": 2.0},
        },
    }
    assert (described["num_samples"], described["num_chains"]) == (1200, 1)
    sites = described["sites"]
    assert {name: site["kind"] for name, site in sites.items()} == {
        "beta": "latent",
        "level": "latent",
        "mean": "deterministic",
        "y": "observed",
    }
    assert sites["level"]["plates"] == ["shop"]
    assert sites["level"]["draw_shape"] == [3]
    assert sites["y"]["plates"] == ["week"]
    assert sites["y"]["shape"] == sites["mean"]["shape"] == [30]  # of all rows, not of a batch
    assert ">(30)</td>" in fitted._repr_html_()


def test_a_line(fitted):
    new = mean_field_model(sales)
    assert repr(new) == "<ImpactModel sales(X, group, y): SVI with AutoNormal, not trained yet>"
    assert repr(fitted) == (
        "<ImpactModel sales(X, group, y): SVI with AutoNormal, trained on 30 rows of X, y and "
        f"group, loss {number(loss_per_row(fitted.last_run))} per row, 1,200 posterior draws>"
    )


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.rows = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_table(fitted):
    cells = _Cells()
    cells.feed(fitted._repr_html_())
    assert not cells.open
    assert ["method", "SVI with AutoNormal"] in cells.rows
    assert ["site", "kind", "shape", "plates", "posterior draws"] in cells.rows
    assert ["level", "latent", "(3)", "shop", "1,200 of shape (3)"] in cells.rows
    assert "Sites" not in mean_field_model(sales)._repr_html_()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def predict(im, **options):
    return im.predict(X, group=np.zeros(30, int), progress=False, **options)


def injected():
    draws = {"beta": np.ones((5, 2), np.float32), "level": np.ones((5, 3), np.float32)}
    return mean_field_model(sales).set_posterior_sample(draws)


@pytest.mark.slow
def test_temporary_results_go_with_their_trees_or_when_told(temporary):
    im = injected()
    assert im.temp_dir is None
    first = predict(im)
    second = predict(im)
    assert im.temp_dir == str(Path(second.attrs["artifact_path"]).parent)
    assert len(list(temporary.iterdir())) == 2
    del second
    gc.collect()
    assert im.temp_dir == str(Path(first.attrs["artifact_path"]).parent)
    predict(im, store="memory")
    im.cleanup()
    assert im.temp_dir is None
    assert not list(temporary.iterdir())
    assert np.isfinite(first["posterior_predictive"]["y"].values).all()  # it was in memory


def test_a_tree_that_still_reads_says_that_its_result_is_gone(temporary, monkeypatch):
    monkeypatch.setattr("aimz_lab.predictive.results.store.LOADED_BYTES", 0)
    im, other = injected(), injected()
    tree, others = predict(im), predict(other)
    im.cleanup()
    with pytest.raises(ArtifactGoneError, match="is gone"):
        tree["posterior_predictive"]["y"].load()
    assert np.isfinite(others["posterior_predictive"]["y"]).all()
    ImpactModel.cleanup_models()
    assert other.temp_dir is None
    assert not list(temporary.iterdir())


def test_results_in_a_directory_of_the_user_stay(temporary, tmp_path):
    im = injected()
    tree = predict(im, output_dir=tmp_path / "mine")
    assert im.temp_dir is None
    path = Path(tree.attrs["artifact_path"])
    im.cleanup()
    ImpactModel.cleanup_models()
    assert path.exists()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.slow
def test_a_fit_that_a_callback_refuses_leaves_the_model_as_it_was(trained, blocking):
    def known():
        return [im._vi_state, im.kernel_spec, im.input_schema, im.vi_result, im.is_fitted()]

    data = {"X": X, "y": X[:, 0], "group": np.arange(30) % 3, "progress": False}
    im = mean_field_model(sales)
    if trained:
        im.fit(**data)
    before = known()
    needs_held_out_data = EarlyStopping(monitor="validation")
    with pytest.raises(ArgumentError, match="needs held-out data"):
        im.fit(**data, callbacks=[needs_held_out_data], blocking=blocking)
    assert all(one is other for one, other in zip(known(), before, strict=True))
