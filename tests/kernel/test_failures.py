"""Errors in a kernel's code name its line, the reason and the way out."""

from __future__ import annotations

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO

from aimz_lab import Callback, ImpactModel
from aimz_lab.errors import DataTypeError, GuideError, KernelError
from tests.runs import mean_field_model

N = 12
X = np.linspace(0.1, 1, 3 * N, dtype=np.float32).reshape(N, 3)
y = X.sum(1)
g = np.arange(N) % 4
offsets = np.ones(N, np.float32)
left_behind = []


def weights(n=3):
    return numpyro.sample("w", dist.Normal(0, 1).expand([n]).to_event(1))


def observe(mu, y, n):
    with numpyro.plate("obs", n):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def groups(a, X, g, y):
    observe(a[g], y, X.shape[0])


def counts_groups(X, g, y=None):
    k = len(np.unique(g))
    groups(numpyro.sample("a", dist.Normal(0, 1).expand([k]).to_event(1)), X, g, y)


def sizes_a_plate(X, g, y=None):
    with numpyro.plate("groups", int(g.max()) + 1):
        a = numpyro.sample("a", dist.Normal(0, 1))
    groups(a, X, g, y)


def sizes_a_plate_by_an_array(X, g, y=None):
    with numpyro.plate("groups", g.max() + 1):
        a = numpyro.sample("a", dist.Normal(0, 1))
    groups(a, X, g, y)


def loops_over_a_number(X, g, n_groups, y=None):
    a = jnp.stack([numpyro.sample(f"a{i}", dist.Normal(0, 1)) for i in range(n_groups)])
    groups(a, X, g, y)


def picks_rows(X, y=None):
    mu = (X[X[:, 0] > 0.5] @ weights()).mean()
    observe(mu, y, X.shape[0])


def unique_of_jax(X, g, y=None):
    k = jnp.unique(g).shape[0]
    groups(numpyro.sample("a", dist.Normal(0, 1).expand([k]).to_event(1)), X, g, y)


def branches(X, y=None):
    mu = X @ weights()
    if X.max() > 0:
        mu = mu + 1
    observe(mu, y, X.shape[0])


def numpy_in_a_helper(X, y=None):
    observe(_logs(X) @ weights(), y, X.shape[0])


def _logs(values):
    return np.log(values)


def column_by_name(X, y=None):
    observe(X["age"] * numpyro.sample("w", dist.Normal(0, 1)), y, X.shape[0])


def data_frame(X, y=None):
    observe(X.iloc[:, 0] * numpyro.sample("w", dist.Normal(0, 1)), y, X.shape[0])


def math_of_arrays(X, y=None):
    observe(math.exp(X) @ weights(), y, X.shape[0])


def one_value(X, y=None):
    observe(X @ weights() + float(X[0, 0]), y, X.shape[0])


def in_place(X, y=None):
    X[0] = 1
    observe(X @ weights(), y, X.shape[0])


def wrong_length(X, y=None):
    w = weights(2)
    observe(X @ w, y, X.shape[0])


def wrong_plate(X, y=None):
    with numpyro.plate("features", 4):
        w = numpyro.sample("w", dist.Normal(jnp.zeros(3), 1))
    observe(X @ w, y, X.shape[0])


def array_of_all_rows(X, y=None):
    w = weights()
    observe(X @ w + offsets, y, X.shape[0])


def doubled_site(X, y=None):
    w = weights()
    observe(X @ w + numpyro.sample("w", dist.Normal(0, 1)), y, X.shape[0])


def doubled_plate(X, y=None):
    with numpyro.plate("obs", 3):
        w = numpyro.sample("w", dist.Normal(0, 1))
    observe(X @ w, y, X.shape[0])


def rows_in_a_loop(X, y=None):
    w = weights()
    for i in range(X.shape[0]):
        numpyro.sample("y", dist.Normal(X[i] @ w, 1.0), obs=None if y is None else y[i])


def no_distribution(X, y=None):
    numpyro.sample("y", X @ weights(), obs=y)


def no_key(X, y=None):
    observe(X @ dist.Normal(jnp.zeros(3), 1).sample(), y, X.shape[0])


def huge_number(X, n, y=None):
    w = weights()
    observe(X @ w * n, y, X.shape[0])


def unconstrained(X, y=None):
    w, s = weights(), numpyro.param("s", -1.0)
    numpyro.sample("y", dist.Normal(X @ w, s), obs=y)


def leaks(X, y=None):
    left_behind.append(weights())
    observe(X @ left_behind[0], y, X.shape[0])


GROUPS, BIG = {"g": g}, {"n": 2**40}
MISTAKES = [
    (counts_groups, GROUPS, r"np\.unique\(g\)", "values of 'g'.*jnp.*n_groups=5"),
    (sizes_a_plate, GROUPS, r"int\(g\.max\(\)\)", "values of 'g'.*n_groups=5"),
    (sizes_a_plate_by_an_array, GROUPS, r"g\.max\(\) \+ 1", "size of a plate.*n_groups=5"),
    (loops_over_a_number, {**GROUPS, "n_groups": np.int64(4)}, "range", r"n_groups=int\(n_groups"),
    (picks_rows, {}, "mu = ", r"jnp\.where\(mask.*handlers\.mask"),
    (unique_of_jax, GROUPS, r"jnp\.unique", "How many entries jnp.unique returns.*n_groups=5"),
    (branches, {}, r"if X\.max\(\)", r"jnp\.where\(condition"),
    (numpy_in_a_helper, {}, r"in _logs: `return np\.log", "values of 'values'.*jax.numpy"),
    (column_by_name, {}, r'X\["age"\]', "arrays, and no DataFrame"),
    (data_frame, {}, r"X\.iloc", "arrays, and no DataFrame"),
    (math_of_arrays, {}, r"math\.exp\(X\)", r"jnp\.exp\(X\)"),
    (one_value, {}, r"float\(X", "values of 'X'"),
    (in_place, {}, r"X\[0\] = 1", r"X\.at\[0\]\.set\(1\)"),
    (wrong_length, {}, "X @ w", r"X \(\d+, 3\), w \(2,\).* last site before is 'w'"),
    (wrong_plate, {}, "w = numpyro", r"site 'w' has shape \(3,\).*plate 'features' takes 4"),
    (array_of_all_rows, {}, "offsets", r"offsets \(12,\).*'offsets' is no argument"),
    (doubled_site, {}, "observe", "already a site or plate 'w'"),
    (rows_in_a_loop, {}, "numpyro.sample", "one site in a plate, without a loop"),
    (no_distribution, {}, "X @ weights", "second argument of numpyro.sample is a distribution"),
    (no_key, {}, r"\.sample\(\)", "gets its key by itself"),
    (huge_number, BIG, r"\* n", "2,147,483,647"),
    (unconstrained, {}, "dist.Normal", "has to be positive"),
    (leaks, {}, "left_behind", "an earlier run of the kernel left behind"),
]


def ways_of_running(kernel):
    """Calls that run a kernel."""
    prior = mean_field_model(kernel)
    drawn = mean_field_model(kernel).set_posterior_sample({"w": np.ones((2, 3), np.float32)})
    chains = ImpactModel(kernel, jax.random.key(0), MCMC(NUTS(kernel), num_warmup=2, num_samples=2))
    rows = X[:8]
    return {
        "fit": partial(prior.fit, X, y, batch_size=8, progress=False),
        "train_on_batch": partial(prior.train_on_batch, rows, y[:8], n_obs=8),
        "chains": partial(chains.fit_on_batch, rows, y[:8], progress=False),
        "prior": partial(prior.sample_prior_predictive_on_batch, rows, num_samples=2),
        "predict": partial(drawn.predict, rows, progress=False),
        "log_likelihood": partial(drawn.log_likelihood, rows, y[:8], progress=False),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "arguments", "line", "advice"),
    MISTAKES,
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_kernel_cannot_do_is_refused_by_its_line(kernel, arguments, line, advice):
    left_behind.clear()
    with pytest.raises(KernelError) as caught:
        ways_of_running(kernel)["fit"](**arguments)
    message = str(caught.value)
    named = rf"The kernel '{kernel.__name__}' fails in line \d+ of test_failures.py"
    assert re.match(named, message)
    assert re.search(line, message)
    assert re.search(advice, message)
    assert caught.value.__cause__ is not None


@pytest.mark.slow
@pytest.mark.parametrize("call", ["train_on_batch", "chains", "prior", "predict", "log_likelihood"])
@pytest.mark.parametrize("kernel", [branches, numpy_in_a_helper, wrong_length])
def test_in_every_call(kernel, call):
    with pytest.raises(KernelError, match=f"The kernel '{kernel.__name__}' fails in line"):
        ways_of_running(kernel)[call]()


def test_in_effects_and_on_a_thread():
    im = mean_field_model(branches).set_posterior_sample({"w": np.ones((2, 3), np.float32)})
    with pytest.raises(KernelError, match="branches"):
        im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
    with pytest.raises(KernelError, match="branches"):
        im.fit(X, y, blocking=False, progress=False)


def test_a_kernel_that_uses_its_output_without_data():
    def kernel(X, y=None):
        level = y.mean()
        observe(X @ weights() + level, y, X.shape[0])

    im = mean_field_model(kernel)
    with pytest.raises(KernelError, match=r"level = y\.mean\(\).*'y' is None wherever"):
        im.sample_prior_predictive_on_batch(X, num_samples=2)


def test_plates_of_one_name_and_two_sizes_are_refused():
    with pytest.raises(KernelError, match="two plates 'obs', of 3 and of 12"):
        mean_field_model(doubled_plate).fit_on_batch(X, y, progress=False)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, ValueError, AssertionError])
def test_errors_of_the_users_own_keep_their_type_and_get_the_line(error):
    def kernel(X, y=None):
        if error is ZeroDivisionError:
            1 / 0  # noqa: B018
        if error is KeyError:
            {}["k"]
        raise error("mine")

    with pytest.raises(error) as caught:
        mean_field_model(kernel).fit(X, y, progress=False)
    notes = [note for note in caught.value.__notes__ if "The kernel 'kernel' fails" in note]
    assert len(notes) == 1
    assert "test_failures.py" in notes[0]


def fine(X, y=None):
    observe(X @ weights(), y, X.shape[0])


def test_errors_of_callbacks_stay_as_they_are():
    class Fails(Callback):
        critical = True

        def on_fit_begin(self, run):
            np.log(jnp.ones(3)).reshape(5)

    with pytest.raises(ValueError, match="reshape") as caught:
        mean_field_model(fine).fit(X, y, epochs=1, callbacks=[Fails()], progress=False)
    assert not isinstance(caught.value, KernelError)


def test_a_guide_of_the_users_is_named_as_a_guide():
    def guide(X, y=None):
        loc = numpyro.param("loc", jnp.zeros(2))
        numpyro.sample("w", dist.Normal(X @ loc, 1.0).to_event(1))

    svi = SVI(fine, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
    im = ImpactModel(fine, jax.random.key(0), svi=svi)
    with pytest.raises(GuideError, match=r"The guide 'guide' fails.*X \(12, 3\), loc \(2,\)"):
        im.fit(X, y, progress=False)


class Kernel:
    """A kernel that is an object."""

    def __call__(self, X, y=None):
        observe(np.log(X) @ weights(), y, X.shape[0])

    def run(self, X, y=None):
        self(X, y)


def of_a_power(power, X, y=None):
    observe(np.log(X) ** power @ weights(), y, X.shape[0])


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (Kernel(), "Kernel"),
        (Kernel().run, "run"),
        (partial(of_a_power, 2), "of_a_power"),
        (lambda X, y=None: of_a_power(1, X, y), "<lambda>"),
        (numpyro.handlers.reparam(numpy_in_a_helper, config={}), "numpy_in_a_helper"),
    ],
    ids=["object", "method", "partial", "lambda", "handler"],
)
def test_kernels_of_any_form_are_named(kernel, name):
    with pytest.raises(KernelError, match=rf"The kernel '{name}' fails.*np\.log"):
        mean_field_model(kernel).fit_on_batch(X, y, num_steps=1, progress=False)


@pytest.mark.parametrize("data", [g.astype(np.float32), g > 1], ids=["float", "bool"])
@pytest.mark.allow_rank_promotion
def test_categories_are_whole_numbers(data):
    def kernel(X, y=None):
        w = weights()
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Categorical(logits=jnp.outer(X @ w, jnp.arange(4))), obs=y)

    im = mean_field_model(kernel)
    with pytest.raises(DataTypeError, match=r"'y' is .* Categorical.*whole numbers.*astype\(int\)"):
        im.fit_on_batch(X, data, num_steps=1, progress=False)
    im.set_posterior_sample({"w": np.ones((2, 3), np.float32)})
    with pytest.raises(DataTypeError, match="Categorical"):
        im.log_likelihood(X, data, progress=False)


@pytest.mark.parametrize("kernel", [Kernel, lambda X, y=None: (yield)], ids=["class", "generator"])
def test_what_is_no_kernel_is_refused_at_once(kernel):
    with pytest.raises(KernelError, match="is a class; pass an object|has a yield"):
        mean_field_model(kernel)
