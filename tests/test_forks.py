"""In a forked process, what works still works, and what would never end is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="This system has no fork."),
]

PROGRAM = '''
import json, os, select, warnings
warnings.simplefilter("ignore")
import numpy as np
{first}

def child(call):
    """Call in a forked process; return what came of it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = call()
            said = "ok" if result is None else str(result)
        except BaseException as error:
            said = f"{{type(error).__name__}}: {{error}}"
        os.write(write, said.encode()[:2000])
        os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], 60)
    if not ready:
        os.kill(pid, 9)
    said = os.read(read, 2000).decode() if ready else "never ended"
    os.waitpid(pid, 0)
    return said

{then}
print(json.dumps({{name: child(call) for name, call in calls.items()}}))
'''

IMPORTS = """
import jax, jax.numpy as jnp
import aimz_lab.predictive.results.store as store
from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from tests.kernels import regression, regression_data
from tests.runs import mean_field, mean_field_model
X, Y = regression_data(300, 3)
DRAWS = {"beta": np.ones((8, 3), np.float32)}
def model():
    return mean_field_model(regression).set_posterior_sample(DRAWS)
"""


def outcomes(first, then):
    code = PROGRAM.format(first=first, then=then)
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]), JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_after_jax_was_used():
    found = outcomes(
        IMPORTS,
        """
im = model()
im.train_on_batch(X, Y, n_obs=300)
folder = __import__("tempfile").mkdtemp()
im.set_posterior_sample(im.posterior).save(folder + "/model")
tree = im.predict_on_batch(X)
store.LOADED_BYTES = 0
stored = im.predict(X, progress=False)
stored.posterior_predictive.y.mean().values
arrays, device = ArrayDataset(X=X, y=Y), ArrayDataset(X=jnp.asarray(X), y=jnp.asarray(Y))
handle = im.fit(X, Y, epochs=10**7, blocking=False, progress=False)
key = jax.random.key(0)
def read(loader):
    return sum(len(batch["X"]) for batch, _ in loader)
calls = {
    # what works
    "rows": lambda: arrays[3]["X"].shape,
    "batches": lambda: read(ArrayLoader(arrays, key, batch_size=50)),
    "shuffled": lambda: read(ArrayLoader(arrays, key, batch_size=50, shuffle=True)),
    "tree": lambda: tree.posterior_predictive.y.mean().values is not None,
    "stored": lambda: bool(np.isfinite(stored.posterior_predictive.y.mean().values)),
    "repr": lambda: repr(im)[:12],
    "posterior": lambda: float(np.asarray(im.posterior["beta"]).mean()),
    # what does not
    "fit": lambda: im.fit(X, Y, progress=False),
    "fit_on_batch": lambda: im.fit_on_batch(X, Y, progress=False),
    "train_on_batch": lambda: im.train_on_batch(X, Y),
    "sample": lambda: im.sample(),
    "predict": lambda: im.predict(X, progress=False),
    "predict_on_batch": lambda: im.predict_on_batch(X),
    "sample_prior_predictive": lambda: im.sample_prior_predictive(X, progress=False),
    "log_likelihood": lambda: im.log_likelihood(X, Y, progress=False),
    "estimate_effect": lambda: im.estimate_effect(None, None, {"X": X}, {"X": X}),
    "load": lambda: ImpactModel.load(folder + "/model", regression, svi=mean_field(regression)),
    "Waiting": lambda: handle.wait(),
    "Reading": lambda: device[3],
    "Reading rows": lambda: device.take(np.arange(4)),
    "Reading rows of": lambda: read(ArrayLoader(device, key, batch_size=50, shuffle=True)),
}
""",
    )
    works = {"rows": "(3,)", "batches": "300", "shuffled": "300", "tree": "True", "stored": "True"}
    works |= {"repr": "<ImpactModel", "posterior": "1.0"}
    for name, said in found.items():
        if name in works:
            assert said == works[name], name
        else:
            assert said.startswith(f"ForkedProcessError: {name}"), (name, said)
            assert 'get_context("spawn")' in said
    assert len(found) == 21


def test_before_jax_was_used():
    """The child of a process that has only imported JAX computes as any other."""
    found = outcomes(
        IMPORTS,
        'calls = {"predict": lambda: model().predict_on_batch(X).posterior_predictive.y.shape}',
    )
    assert found == {"predict": "(1, 8, 300)"}
