"""The guide on data loaders, snippet by snippet; only its placeholders are filled in."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import Array, random
from numpyro.infer.autoguide import AutoNormal

from aimz_lab.errors import FitWarning, InferenceError
from aimz_lab.inference.feeds.inputs import training_data
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.predictive.inputs import predictive_data
from tests import torch_like

# NumPyro's Normal broadcasts its parameters against draws with a sample shape.
pytestmark = pytest.mark.allow_rank_promotion


def model(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("data", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slope, 0.5), obs=y)


SLOPE = np.array([1.0, -1.0], np.float32)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(44, 2)).astype(np.float32)
    return X, (X @ SLOPE + 0.5 * rng.normal(size=44)).astype(np.float32)


def new_svi():
    from numpyro.infer import SVI, Trace_ELBO

    return SVI(model, AutoNormal(model), numpyro.optim.Adam(0.1), Trace_ELBO())


def new_model():
    from aimz_lab import ImpactModel

    return ImpactModel(model, rng_key=random.key(0), svi=new_svi())


def test_dataset(data):
    from aimz_lab.utils.data import ArrayDataset

    X, y = data
    dataset = ArrayDataset(X=X, y=y)
    assert len(dataset) == 44  # total number of samples
    sample = dataset[0]  # {'X': X[0], 'y': y[0]} (dict of field -> element)
    assert list(sample) == ["X", "y"]
    np.testing.assert_array_equal(sample["X"], X[0])
    assert sample["y"] == y[0]
    assert dataset.arrays["X"] is X  # stored as supplied
    assert isinstance(ArrayDataset(X=X, y=y, to_jax=True).arrays["X"], jax.Array)


@pytest.mark.parametrize(("device", "kind"), [(None, np.ndarray), (jax.devices()[0], jax.Array)])
def test_loader(data, device, kind):
    from aimz_lab.utils.data import ArrayDataset, ArrayLoader

    X, y = data
    loader = ArrayLoader(
        ArrayDataset(X=X, y=y),
        rng_key=random.key(0),
        batch_size=10,
        shuffle=True,
        device=device,
    )

    seen = []
    for batch, n_pad in loader:
        # batch is a dict: {'X': ..., 'y': ...}
        assert n_pad == 0  # one device; tests/data/test_devices.py has the guide's eight
        assert isinstance(batch["X"], kind)
        seen.append(np.asarray(batch["y"]))
    assert [len(rows) for rows in seen] == [10, 10, 10, 10, 4]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.sort(y))


@pytest.mark.slow
def test_fit_and_predict_from_a_loader(data):
    from numpyro.infer import SVI, Trace_ELBO

    from aimz_lab import ImpactModel
    from aimz_lab.utils.data import ArrayDataset, ArrayLoader

    X, y = data
    batch_size = 10
    loader = ArrayLoader(
        ArrayDataset(X=X, y=y, to_jax=True),
        rng_key=random.key(0),
        batch_size=batch_size,
    )

    # Set up variational inference strategy
    vi = SVI(model, AutoNormal(model), numpyro.optim.Adam(0.1), Trace_ELBO())

    # Initialize ImpactModel with a model, random key, and SVI object
    im = ImpactModel(model, rng_key=random.key(0), svi=vi)
    assert im.inference is vi

    # Use a prepared ArrayLoader for explicit batching/shuffling
    im.fit(loader, epochs=10, progress=False)
    assert len(im.vi_result.losses) == 50

    # Predictions also accept a loader for consistent batching
    preds = im.predict(loader, progress=False)
    assert preds["posterior_predictive"]["y"].shape == (1, 1000, 44)


def test_svi_goes_by_either_name_but_once():
    from aimz_lab import ImpactModel

    vi = new_svi()
    assert ImpactModel(model, random.key(0), inference=vi).inference is vi
    with pytest.raises(InferenceError, match="both"):
        ImpactModel(model, random.key(0), inference=vi, svi=vi)
    with pytest.raises(InferenceError, match="neither"):
        ImpactModel(model, random.key(0))


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray, np.ndarray.tolist])
def test_raw_arrays_stay_in_host_memory(data, convert):
    X, y = map(convert, data)
    signature = KernelSignature(model)
    fitted, _ = training_data(
        signature, X, y, {}, key=random.key(0), batch_size=10, shuffle=True, n_obs=None,
        allow_nonfinite=False,
    )  # fmt: skip
    predicted = predictive_data(signature, X, None, {}, with_output=False, allow_nonfinite=False)
    for array in (fitted.rows["X"], fitted.rows["y"], predicted.rows["X"]):
        assert type(array) is np.ndarray


def test_custom_training_loop(data):
    from aimz_lab.utils.data import ArrayDataset, ArrayLoader

    loader = ArrayLoader(
        ArrayDataset(X=data[0], y=data[1]), rng_key=random.key(0), batch_size=11, shuffle=True
    )
    im = new_model()
    num_epochs = 2

    for epoch in range(num_epochs):
        for batch, n_pad in loader:  # `n_pad` may be > 0 when padded
            if n_pad > 0:
                # Optionally handle or ignore the extra padded rows
                ...

            # Perform one update step on this batch
            if epoch == 0 and im._vi_state is None:
                with pytest.warns(FitWarning, match="n_obs"):
                    im.train_on_batch(**batch)
                continue
            state, loss = im.train_on_batch(**batch)
            assert state is im._vi_state
            assert np.isfinite(loss)

        # (Optional) validation, logging, early stop checks


class _StandIn:
    DataLoader, TensorDataset = torch_like.DataLoader, torch_like.TensorDataset
    tensor = torch_like.Tensor


class _Torch:
    def __init__(self):
        torch = pytest.importorskip("torch", reason="PyTorch is not installed; its stand-in ran")
        self.DataLoader = torch.utils.data.DataLoader
        self.TensorDataset = torch.utils.data.TensorDataset
        self.tensor = torch.as_tensor


@pytest.mark.slow
@pytest.mark.parametrize("library", [_StandIn, _Torch])
def test_other_data_loaders_from_loop_to_prediction(data, library):
    from typing import NamedTuple

    library = library()
    DataLoader, TensorDataset = library.DataLoader, library.TensorDataset
    X, y = map(library.tensor, data)
    im = new_model()
    im.n_obs = len(data[0])  # not in the guide: without it the loop warns, as tested above
    num_epochs = 100

    # PyTorch DataLoader example (CPU → JAX conversion per batch)
    dataset = TensorDataset(X, y)
    loader = DataLoader(dataset, batch_size=11, shuffle=True)

    losses = []
    for _epoch in range(num_epochs):
        for X_batch, y_batch in loader:
            batch = {"X": jnp.asarray(X_batch), "y": jnp.asarray(y_batch)}
            _, loss = im.train_on_batch(**batch)
            losses.append(loss)

    class SVIRunResult(NamedTuple):
        params: dict[str, Array]
        losses: list[float]

    # Store final VI parameters and the collected loss trace (assumes `losses` list built above)
    im.vi_result = SVIRunResult(im.inference.get_params(im._vi_state), losses)

    # Obtain posterior samples
    posterior_sample = im.sample(return_datatree=False)
    assert not im.is_fitted()

    # Register the samples so predictive methods can use them
    im.set_posterior_sample(posterior_sample)

    # Collect per-batch posterior predictive means for target 'y'
    batch_means, batch_inputs = [], []
    for X_batch, _ in loader:
        preds = im.predict_on_batch(X_batch, return_datatree=False)
        # preds['y'] shape: (num_draws, batch_size, ...); average over draws
        assert preds["y"].shape == (1000, 11)
        batch_means.append(preds["y"].mean(axis=0))
        batch_inputs.append(np.asarray(X_batch))

    # Stitch back together along the sample axis
    posterior_predictive_mean = jnp.concatenate(batch_means, axis=0)

    # Oracle: the conjugate posterior mean of the slope, at the rows in the loader's order.
    precision = data[0].T @ data[0] / 0.25 + np.eye(2)
    exact = np.concatenate(batch_inputs) @ np.linalg.solve(precision, data[0].T @ data[1] / 0.25)
    # Monte Carlo error of a mean of 1,000 draws is 0.016; Adam's last steps move by about 0.05.
    np.testing.assert_allclose(posterior_predictive_mean, exact, atol=0.25)
