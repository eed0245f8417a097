"""How predictions keep a device busy: calls that overlap, and shared values that stay there."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.predictive.pipeline import AT_ONCE_BYTES, calls_at_once
from aimz_lab.predictive.programs import call_programs
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion

GPU = SimpleNamespace(platform="gpu")


@pytest.mark.parametrize(
    ("devices", "call_bytes", "count"),
    [
        ((GPU,), 2**24, 3),
        ((GPU,), AT_ONCE_BYTES // 2, 2),
        ((GPU,), 2 * AT_ONCE_BYTES, 1),
        ((GPU, GPU), 2**24, 1),
    ],
)
def test_a_gpu_computes_while_results_are_copied_unless_they_are_large(devices, call_bytes, count):
    assert calls_at_once(devices, call_bytes) == count


def test_what_calls_share_is_moved_to_the_devices_once(monkeypatch):
    def kernel(X, table, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(X * slope + table.sum(), 1), obs=y)

    im = mean_field_model(kernel)
    im.set_posterior_sample({"slope": jnp.ones(5)})
    passed, arguments = [], call_programs.CallPrograms.rows_arguments

    def spy(self, *args):
        found = arguments(self, *args)
        passed.append(found[4][0].arguments["table"])
        return found

    monkeypatch.setattr(call_programs.CallPrograms, "rows_arguments", spy)
    X, table = np.zeros(3 * 256, np.float32), np.ones(77, np.float32)
    options = {"table": table, "shared": ["table"], "progress": False, "store": "memory"}
    whole = im.predict(X, **options, rng_key=jax.random.key(1), batch_size=256)
    describing, *by_call = passed
    assert isinstance(describing, np.ndarray)
    assert len(by_call) == 3
    assert len({id(each) for each in by_call}) == 1
    assert isinstance(by_call[0], jax.Array)
    one = im.predict(X, **options, rng_key=jax.random.key(1))
    np.testing.assert_allclose(
        one.posterior_predictive["y"].values, whole.posterior_predictive["y"].values, rtol=1e-6
    )
