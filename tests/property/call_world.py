"""What public functions are called with when nothing is wrong: models, data, results, files."""

from __future__ import annotations

import copy
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, lab, settable_rate
from tests.runs import told_run

N_ROWS = 12
QUIET = {"progress": False}


def plain(X, y=None):
    """Two columns in, one number out."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        mu = numpyro.deterministic("mu", X @ slope)
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def extra(X, t, table, power=1, y=None):
    """The same with an argument by row, a table for all rows and a plain value."""
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    effect = numpyro.sample("effect", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        mu = numpyro.deterministic("mu", X @ slope + effect * t**power + table.sum())
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


class World:
    """Objects to call and to pass, each made once; ``restore`` undoes what calls did to models."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="aimz_lab-calls-")
        self.folder = Path(self._folder.name)
        (self.folder / "out").mkdir()
        rng = np.random.default_rng(0)
        self.X = rng.normal(size=(N_ROWS, 2)).astype(np.float32)
        self.y = self.X.sum(1).astype(np.float32)
        self.t = np.linspace(0, 1, N_ROWS).astype(np.float32)
        self.table = np.float32([0.1, 0.2, 0.3])
        self.key = jax.random.key(5)
        self.models: dict[str, ImpactModel] = {}
        self._saved: dict[str, list[dict[str, Any]]] = {}

    def _kept(self, name: str, model: ImpactModel) -> ImpactModel:
        self.models[name], self._saved[name] = model, _parts(model)
        return model

    @cached_property
    def plain(self) -> ImpactModel:
        model = _svi_model(plain)
        model.fit(self.X, self.y, epochs=2, num_samples=30, batch_size=6, **QUIET)
        return self._kept("plain", model)

    @cached_property
    def extra(self) -> ImpactModel:
        model, arguments = _svi_model(extra), {"t": self.t, "table": self.table}
        model.fit_on_batch(self.X, self.y, num_steps=2, num_samples=30, **arguments, **QUIET)
        return self._kept("extra", model)

    @cached_property
    def mcmc(self) -> ImpactModel:
        chains = MCMC(NUTS(plain), num_warmup=5, num_samples=30, progress_bar=False)
        model = ImpactModel(plain, jax.random.key(0), inference=chains)
        return self._kept("mcmc", model.fit_on_batch(self.X, self.y, **QUIET))

    @cached_property
    def fresh(self) -> ImpactModel:
        return self._kept("fresh", _svi_model(plain))

    @property
    def dataset(self) -> ArrayDataset:
        return ArrayDataset(X=self.X, y=self.y)

    @property
    def loader(self) -> ArrayLoader:
        return ArrayLoader(self.dataset, self.key, batch_size=5)

    @cached_property
    def tree(self) -> Any:
        return self.plain.predict_on_batch(self.X, rng_key=self.key)

    @cached_property
    def other_tree(self) -> Any:
        return self.plain.predict_on_batch(self.X + 1, rng_key=self.key)

    @cached_property
    def effect(self) -> Any:
        return self.plain.estimate_effect(self.tree, self.other_tree)

    @cached_property
    def store(self) -> str:
        kept = self.plain.predict(self.X, output_dir=self.folder / "kept", **QUIET)
        return kept.attrs["artifact_path"]

    @cached_property
    def saved(self) -> Path:
        return self.plain.save(self.folder / "saved")

    @cached_property
    def history_file(self) -> Path:
        path = self.folder / "history.json"
        lab.History(self.run).to_json(path)
        return path

    @property
    def run(self) -> Any:
        return self.plain.last_run

    @property
    def told(self) -> Any:
        return told_run(rate=0.1)

    @cached_property
    def handle(self) -> Any:
        model = _svi_model(plain)
        return model.fit(self.X, self.y, num_samples=5, blocking=False, **QUIET).wait()

    def svi(self) -> SVI:
        return SVI(plain, AutoNormal(plain), numpyro.optim.Adam(0.1), Trace_ELBO())

    def state(self) -> dict[str, Any]:
        """What a refused call must leave as it was, for :meth:`changed_since`."""
        found = {}
        for name, model in self.models.items():
            found |= {f"{name}.{part}": value for part, value in _state(model).items()}
        # `os.walk` passes over what a collected tree removes meanwhile.
        found["files"] = {
            f"{folder}/{name}"
            for folder, folders, files in os.walk(self.folder)
            for name in (*folders, *files)
        }
        return found

    def changed_since(self, before: dict[str, Any]) -> list[str]:
        """What is not as it was: parts of models, and new files; old ones end with their trees."""
        after = self.state()
        new = after.pop("files") - before["files"]
        known = {name: value for name, value in before.items() if name != "files"}
        return [name for name, value in known.items() if after[name] != value] + sorted(new)

    def restore(self) -> None:
        """Put the models back to where they were, and remove what was written."""
        for name, model in self.models.items():
            for owner, values in zip(_owners(model), self._saved[name], strict=True):
                vars(owner).clear()
                vars(owner).update(copy.copy(values))

    def __enter__(self) -> World:
        self._before = Path.cwd(), tempfile.tempdir
        os.chdir(self.folder)
        (self.folder / "tmp").mkdir()
        tempfile.tempdir = str(self.folder / "tmp")
        return self

    def __exit__(self, *error: object) -> None:
        os.chdir(self._before[0])
        tempfile.tempdir = self._before[1]
        self._folder.cleanup()


def _svi_model(kernel) -> ImpactModel:
    rate = settable_rate(numpyro.optim.Adam, 0.1)
    return ImpactModel(
        kernel, jax.random.key(0), svi=SVI(kernel, AutoNormal(kernel), rate, Trace_ELBO())
    )


def _owners(model: ImpactModel) -> list[Any]:
    """The model, and its parts with a state of their own: its keys, and what NumPyro keeps."""
    keys = next(part for part in vars(model).values() if _is_keys(part))
    inference = model.inference
    inner = inference.guide if isinstance(inference, SVI) else inference.sampler
    return [model, keys, inference, inner]


def _is_keys(part: object) -> bool:
    return type(part).__name__ == "KeySequence"


def _parts(model: ImpactModel) -> list[dict[str, Any]]:
    return [dict(vars(owner)) for owner in _owners(model)]


def _state(model: ImpactModel) -> dict[str, object]:
    """Values that equal themselves as long as the model is as it was."""
    key = np.asarray(jax.random.key_data(model.rng_key)).tolist()
    parts = dict(vars(model))
    kept = {name: id(part) for name, part in parts.items() if not _is_keys(part)}
    return {"key": key, "n_obs": model.n_obs, **kept}
