"""Indices are computed from the arguments as the kernel does, and refused out of range."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.infer import MCMC, NUTS

from aimz_lab import ImpactModel
from aimz_lab.errors import DataError
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.rows.indices import IndexProgram, KernelCall

pytestmark = pytest.mark.allow_rank_promotion  # of plates within NumPyro

GROUPS = 4
PARENT = jnp.array([0, 1, 2, 3, -1, 9])
CODES = np.array([0, 1, 2, 3, 0, -1])


def kernel_of(look_up):
    def kernel(group, y=None):
        effects = numpyro.sample("effects", dist.Normal().expand([GROUPS]).to_event(1))
        with numpyro.plate("rows", group.shape[0]):
            numpyro.sample("y", dist.Normal(look_up(effects, group), 1.0), obs=y)

    return kernel


def check(look_up, group, **options):
    IndexCheck(kernel_of(look_up)).rows({"group": np.asarray(group)}, **options)


def is_refused(look_up, group):
    try:
        check(look_up, group)
    except DataError:
        return True
    return False


@jax.custom_jvp
def looked_up(effects, group):
    return effects[group]


looked_up.defjvp(
    lambda primals, tangents: (looked_up(*primals), looked_up(tangents[0], primals[1]))
)


def while_loop(effects, group):
    def step(state):
        i, total = state
        return i + 1, total + effects[group + i]

    return jax.lax.while_loop(lambda s: s[0] < 2, step, (0, jnp.zeros(group.shape[0])))[1]


def counted(effects, group):
    return jax.lax.fori_loop(
        0, 2, lambda i, total: total + effects[group + i], jnp.zeros(group.shape[0])
    )


def by_slice(effects, group):
    return jax.vmap(lambda i: jax.lax.dynamic_slice(effects, (i,), (2,)).sum())(group)


def by_branch(effects, group):
    return jax.vmap(lambda i: jax.lax.switch(i, [lambda j=j: effects[j] for j in range(4)]))(group)


# name: (look-up, groups in range, groups of which one is out of range)
LOOK_UPS = {
    "plain": (lambda a, g: a[g], [0, 3, 1], [0, 4, 1]),
    "a missing code": (lambda a, g: a[g], [0, 3, 1], [0, -1, 1]),
    "code minus one": (lambda a, g: a[g - 1], [1, 4, 2], [1, 0, 2]),
    "weeks": (lambda a, g: a[g // 7], [0, 27, 7], [0, 28, 7]),
    "weeks as floats": (lambda a, g: a[jnp.floor(g / 7).astype(int)], [0, 27, 7], [0, -1, 7]),
    "divmod": (lambda a, g: a[jnp.divmod(g, 7)[0]], [0, 27, 7], [0, 28, 7]),
    "a look-up of a look-up": (lambda a, g: a[PARENT[g]], [0, 3, 1], [0, 4, 1]),
    "a look-up of a large one": (lambda a, g: a[PARENT[g]], [0, 3, 1], [0, 5, 1]),
    "take": (jnp.take, [0, 3, 1], [0, -1, 1]),
    "take beyond the end": (jnp.take, [0, 3, 1], [0, 4, 1]),
    "take_along_axis": (
        lambda a, g: jnp.take_along_axis(a[None], g[None], axis=1)[0],
        [0, 3, 1],
        [0, -1, 1],
    ),
    "two indices": (lambda a, g: a.reshape(2, 2)[g, g], [0, 1, 1], [0, -1, 1]),
    "map": (lambda a, g: jax.lax.map(lambda i: a[i], g), [0, 3, 1], [0, -1, 1]),
    "map of weeks": (lambda a, g: jax.lax.map(lambda i: a[i // 7], g), [0, 27, 7], [0, 28, 7]),
    "vmap": (lambda a, g: jax.vmap(lambda i: a[i - 1])(g), [1, 4, 2], [1, 0, 2]),
    "scan": (
        lambda a, g: jax.lax.scan(lambda total, i: (total + i, a[total]), 0, g)[1],
        [0, 3, 9],
        [4, 0, 0],
    ),
    "a counted loop": (counted, [0, 2, 1], [0, 3, 1]),
    "a loop with a condition": (while_loop, [0, 2, 1], [0, 3, 1]),
    "dynamic_index_in_dim": (
        lambda a, g: jax.vmap(lambda i: jax.lax.dynamic_index_in_dim(a, i, keepdims=False))(g),
        [0, 3, 1],
        [0, -1, 1],
    ),
    "dynamic_slice": (by_slice, [0, 2, 1], [0, 3, 1]),
    "switch": (by_branch, [0, 3, 1], [0, 4, 1]),
    "one_hot": (lambda a, g: jax.nn.one_hot(g, GROUPS) @ a, [0, 3, 1], [0, -1, 1]),
    "segment_sum": (
        lambda a, g: a[0] + jax.ops.segment_sum(1.0 * g, g, GROUPS)[0],
        [0, 3, 1],
        [0, 4, 1],
    ),
    "set": (lambda a, g: a.at[g].set(0.0)[:1], [0, 3, 1], [0, -1, 1]),
    "searchsorted": (
        lambda a, g: a[jnp.searchsorted(jnp.arange(1.0, 5.0), g)],
        [0.0, 3.5, 1.0],
        [0.0, 9.0, 1.0],
    ),
    "floats with NaN": (lambda a, g: a[g.astype(int)], [0.0, 3.0, 1.0], [0.0, np.nan, 1.0]),
    "unsigned below zero": (
        lambda a, g: jnp.tile(a, 64)[g - 1],
        np.array([1, 4, 2], np.uint8),
        np.array([1, 0, 2], np.uint8),
    ),
    "too large for its type": (
        lambda a, g: a[g * 100 // 100],
        np.array([0, 1, 1], np.int8),
        np.array([0, 2, 1], np.int8),
    ),
    "a call": (jax.jit(lambda a, g: a[g]), [0, 3, 1], [0, 4, 1]),
    "a checkpoint": (jax.checkpoint(lambda a, g: a[g]), [0, 3, 1], [0, 4, 1]),
    "a derivative of its own": (looked_up, [0, 3, 1], [0, 4, 1]),
    "with a draw": (
        lambda a, g: a[2 * g + numpyro.sample("z", dist.Bernoulli(0.5))],
        [0, 1, 1],
        [0, 2, 1],
    ),
    "beside a draw": (
        lambda a, g: a.reshape(2, 2)[g, numpyro.sample("z", dist.Bernoulli(0.5))],
        [0, 1, 1],
        [0, -1, 1],
    ),
    "a missing code read as the first": (
        lambda a, g: jnp.where(g >= 0, a[jnp.maximum(g, 0)], 0.0),
        [0, -1, 1],
        [0, 4, 1],
    ),
    "filled by the kernel": (
        lambda a, g: a.at[g].get(mode="fill", fill_value=0.0),
        [0, 9, 1],
        [0, -1, 1],
    ),
    "clipped, but from the end": (lambda a, g: a.at[g].get(mode="clip"), [0, 9, 1], [0, -1, 1]),
}

MEANT = {
    "clip": lambda a, g: a[jnp.clip(g, 0, 3)],
    "take with clip": lambda a, g: jnp.take(a, g, mode="clip"),
    "take with wrap": lambda a, g: jnp.take(a, g, mode="wrap"),
    "remainder": lambda a, g: a[g % 4],
    "from the end, in the kernel's words": lambda a, g: a[jnp.where(g < 0, g + 4, g) % 4],
    "one entry from the end": lambda a, g: a[-1] * g,
    "some entries from the end": lambda a, g: a[jnp.array([-1, 0])].sum() * g,
    "interp": lambda a, g: jnp.interp(g, jnp.arange(4.0), a),
    "digitize": lambda a, g: a[jnp.digitize(g, jnp.arange(1.0, 4.0))],
    "sorted": lambda a, g: jnp.sort(g)[jnp.argsort(jnp.argsort(g))] * a[0],
    "nonzero": lambda a, g: a[0] + jnp.nonzero(g > 0, size=2)[0].sum() * g,
    "quantile": lambda a, g: jnp.quantile(1.0 * g, 0.3) * a[0],
    "rows by number": lambda a, g: g[jnp.arange(g.shape[0])] * a[0],
    "true or false": lambda a, g: a[(g > 1).astype(int)],
}


@pytest.mark.slow
@pytest.mark.parametrize("how", LOOK_UPS)
def test_an_index_in_range_passes_and_one_out_of_range_is_refused(how):
    look_up, good, bad = LOOK_UPS[how]
    assert not is_refused(look_up, good)
    assert is_refused(look_up, bad)


@pytest.mark.parametrize("how", MEANT)
def test_what_the_kernel_says_is_meant(how):
    check(MEANT[how], np.array([0, 9, -1]))


def test_a_branch_counts_only_if_it_is_taken():
    def look_up(effects, group):
        return jax.lax.cond(group[0] > 0, lambda: effects[group], lambda: effects[0 * group])

    check(look_up, [0, 9])
    with pytest.raises(DataError, match="entry 9 in row 1"):
        check(look_up, [1, 9])


def test_an_array_in_the_code_of_the_kernel_is_data_too():
    group = np.zeros(len(CODES))
    with pytest.raises(DataError, match=r"own array of indices points at entry -1 in row 5"):
        check(lambda effects, group: effects[CODES] + group, group)
    check(lambda effects, group: effects[np.abs(CODES)] + group, group)


class TestTheMessage:
    def test_names_argument_number_row_and_range(self):
        with pytest.raises(DataError, match=r"'group' points at entry 4 in row 12.* \(0 to 3\)"):
            check(lambda a, g: a[g], [0, 3, 4], first_row=10)

    def test_says_what_to_do_about_missing_codes(self):
        with pytest.raises(DataError, match=r"count from the end.*jnp\.maximum\(i, 0\)"):
            check(lambda a, g: a[g], [0, -1])

    def test_names_what_is_computed(self):
        with pytest.raises(DataError, match="entry 4 in row 1"):
            check(lambda a, g: a[g // 7], [0, 28])

    def test_says_that_a_missing_value_has_no_index(self):
        with pytest.raises(DataError, match=r"'group' becomes an index in row 1.*NaN"):
            check(lambda a, g: a[g.astype(int)], [0, np.nan])


def test_codes_of_a_categorical_output_are_indices_unless_masked():
    def kernel(X, seen, y=None):
        logits = numpyro.sample("logits", dist.Normal().expand([3]).to_event(1))
        with numpyro.plate("rows", X.shape[0]), numpyro.handlers.mask(mask=seen):
            numpyro.sample("y", dist.Categorical(logits=logits), obs=y)

    indices = IndexCheck(kernel)
    rows = {"X": np.zeros(3), "seen": np.array([True, True, False]), "y": np.array([0, 2, -1])}
    indices.rows(rows)
    with pytest.raises(DataError, match=r"'y' points at entry 3 in row 1"):
        indices.rows({**rows, "y": np.array([0, 3, -1])})
    with pytest.raises(DataError, match="entry -1 in row 2"):
        indices.rows({**rows, "seen": np.array([True, True, True])})


def test_indices_in_a_scan_of_numpyro():
    def kernel(X, group, y=None):
        effects = numpyro.sample("effects", dist.Normal().expand([GROUPS]).to_event(1))

        def step(before, row):
            one, observed = row
            now = numpyro.sample("y", dist.Normal(before + effects[one], 1.0), obs=observed)
            return now, now

        scan(step, 0.0, (group, y), length=len(X))

    indices, rows = IndexCheck(kernel), {"X": np.zeros(3), "y": np.zeros(3)}
    indices.rows({**rows, "group": np.array([0, 1, 3])})
    with pytest.raises(DataError, match="'group' points at entry -1 in row 1"):
        indices.rows({**rows, "group": np.array([0, -1, 3])})


def test_values_set_by_hand_and_shared_tables_are_indices_too():
    def kernel(X, parent, y=None):
        effects = numpyro.sample("effects", dist.Normal().expand([GROUPS]).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            kind = numpyro.sample("kind", dist.Categorical(probs=jnp.ones(2) / 2))
            numpyro.sample("y", dist.Normal(effects[parent[kind]], 1.0), obs=y)

    indices, rows = IndexCheck(kernel), {"X": np.zeros(3)}
    indices.rows(rows, shared={"parent": np.array([0, 3])}, intervention={"kind": np.array(1)})
    with pytest.raises(DataError, match="'kind' points at entry 2"):
        indices.rows(rows, shared={"parent": np.array([0, 3])}, condition={"kind": np.array(2)})
    by_row = {"kind": np.array([0, 1, -1])}
    with pytest.raises(DataError, match="'kind' points at entry -1 in row 2"):
        indices.rows(rows, shared={"parent": np.array([0, 3])}, intervention=by_row)
    with pytest.raises(DataError, match="'parent' points at entry 4"):
        indices.rows(rows, shared={"parent": np.array([0, 4])})


def test_a_kernel_that_runs_on_batches_only_is_checked_batch_by_batch():
    def kernel(group, y=None):
        effects = numpyro.sample("effects", dist.Normal().expand([GROUPS]).to_event(1))
        with numpyro.plate("rows", 4):
            numpyro.sample("y", dist.Normal(effects[group - 1], 1.0), obs=y)

    indices, group = IndexCheck(kernel), np.arange(10) % 4 + 1
    indices.rows({"group": group}, piece=4)
    group[9] = 0
    with pytest.raises(DataError, match="entry -1 in row 9"):
        indices.rows({"group": group}, piece=4)


def test_later_calls_are_checked_with_their_own_rows():
    indices = IndexCheck(kernel_of(lambda a, g: a[g // 7]))
    indices.rows({"group": np.array([0, 7])})
    with pytest.raises(DataError, match="entry 5 in row 1"):
        indices.rows({"group": np.array([0, 35])})


def test_entries_that_a_library_leaves_out_on_purpose_are_no_lookups():
    def kernel(X, y=None):
        chol = numpyro.sample("chol", dist.LKJCholesky(3, 1.0))  # built by jnp.tril_indices
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(3), scale_tril=chol), obs=y)

    X = np.ones((5, 3), np.float32)
    IndexCheck(kernel).rows({"X": X, "y": X})


def level(n=GROUPS, name="z"):
    return numpyro.sample(name, dist.Categorical(probs=jnp.ones(n) / n))


def anywhere():
    return numpyro.sample("t", dist.Normal(0.0, 5.0))


IN_RANGE_FOR_SURE = {
    "a level": lambda a, g: a[level()],
    "true or false": lambda a, g: a[numpyro.sample("z", dist.Bernoulli(0.5))],
    "a number of the right support": lambda a, g: a[
        numpyro.sample("z", dist.DiscreteUniform(0, 3))
    ],
    "one less": lambda a, g: a[numpyro.sample("z", dist.DiscreteUniform(1, 4)) - 1],
    "with data": lambda a, g: a[2 * (g > 0) + level(2)],
    "a half": lambda a, g: a[level(8) // 2],
    "clip": lambda a, g: a[jnp.clip((g * anywhere()).astype(int), 0, 3)],
    "clip before the cast": lambda a, g: a[jnp.clip(g * anywhere(), 0, 3).astype(int)],
    "remainder": lambda a, g: a[(g * anywhere()).astype(int) % 4],
    "least and greatest": lambda a, g: a[jnp.maximum(jnp.minimum(g + level(9), 3), 0)],
    "a comparison": lambda a, g: a[(g > anywhere()).astype(int)],
    "a switchpoint": lambda a, g: a[jnp.where(g < anywhere(), 0, 1)],
    "a look-up of a look-up": lambda a, g: a[jnp.array([0, 3, 1])[level(3)]],
    "the greatest": lambda a, g: a[jnp.argmax(a)],
    "order": lambda a, g: a[jnp.argsort(a)[:1]],
    "the largest": lambda a, g: a[jax.lax.top_k(a, 1)[1]],
    "a distance": lambda a, g: a[jnp.abs(level() - 3)],
    "a distance, clipped": lambda a, g: a[jnp.minimum(jnp.abs(anywhere()).astype(int), 3)],
    "a share": lambda a, g: a[jnp.floor(3 * jax.nn.sigmoid(anywhere())).astype(int)],
    "search": lambda a, g: a[jnp.searchsorted(jnp.arange(3.0), anywhere())],
    "map": lambda a, g: jax.lax.map(lambda i: a[i], level() + 0 * g[:0].sum(dtype=int)[None]),
    "one_hot": lambda a, g: jax.nn.one_hot(level(), GROUPS) @ a,
    "joined columns": lambda a, g: a.reshape(2, 2)[level(2), level(2, "w")],
    "a branch": lambda a, g: by_branch(a, level() + 0 * g),
    "a mixture": lambda a, g: numpyro.sample(
        "m", dist.MixtureSameFamily(dist.Categorical(logits=a), dist.Normal(a, 1.0))
    ),
}

MAY_BE_OUT_OF_RANGE = {
    "a level too many": lambda a, g: a[level(5)],
    "from the end": lambda a, g: a[level() - 1],
    "nine times": lambda a, g: a[9 * numpyro.sample("z", dist.Bernoulli(0.5))],
    "with data": lambda a, g: a[(g * anywhere()).astype(int)],
    "with a bounded one": lambda a, g: a[(g * numpyro.sample("u", dist.Uniform(0, 2))).astype(int)],
    "draws alone": lambda a, g: a[anywhere().astype(int)],
    "clip of one side": lambda a, g: a[jnp.maximum(anywhere().astype(int), 0)],
    "clip, then one more": lambda a, g: a[jnp.clip(anywhere().astype(int), 0, 3) + 1],
    "a larger remainder": lambda a, g: a[anywhere().astype(int) % 5],
    "remainder of lax": lambda a, g: a[jax.lax.rem(anywhere().astype(int), 4)],
    "one_hot": lambda a, g: jax.nn.one_hot(level(5), GROUPS) @ a,
    "map": lambda a, g: jax.lax.map(lambda i: a[(i * anywhere()).astype(int)], g),
    "a large count": lambda a, g: a[numpyro.sample("z", dist.Poisson(2.0))],
}


@pytest.mark.parametrize("how", IN_RANGE_FOR_SURE)
def test_latents_whose_support_or_kernel_keeps_them_in_range(how):
    call = KernelCall(kernel_of(IN_RANGE_FOR_SURE[how]), {"group": np.array([0, 5, -1])})
    IndexProgram(call).check(call)


@pytest.mark.slow
@pytest.mark.parametrize("how", MAY_BE_OUT_OF_RANGE)
def test_latents_that_may_leave_the_range_are_refused(how):
    assert is_refused(MAY_BE_OUT_OF_RANGE[how], [0, 1, 3])


def test_the_message_about_latents_says_to_clip():
    with pytest.raises(DataError, match=r"latent draws and 'group'.*jnp\.clip\(index, 0, 3\)"):
        check(lambda a, g: a[(g * anywhere()).astype(int)], [0, 1])


class TestPosteriorDraws:
    T = np.linspace(0.02, 1.98, 50, dtype=np.float32)
    A = np.tile(np.float32([1, 2, 3, 4]), (50, 1))

    @staticmethod
    def mixed(combine):
        return kernel_of(
            lambda a, g: a[combine(g, numpyro.sample("t", dist.Uniform(0, 2))).astype(int)]
        )

    def test_each_draw_is_checked_on_each_row(self):
        indices = IndexCheck(self.mixed(lambda g, t: g * t))
        draws = {"effects": self.A, "t": self.T}
        indices.rows({"group": np.float32([0, 1, 2])}, draws=draws)
        with pytest.raises(
            DataError, match=r"'group' and 't' points at entry 4 in row 3 with draw"
        ):
            indices.rows({"group": np.float32([0, 1, 2, 3])}, draws=draws)
        t = np.where(np.arange(50) == 7, np.float32(4), np.float32(0))
        with pytest.raises(DataError, match="entry 4 in row 0 with draw 7"):
            indices.rows({"group": np.float32([1])}, draws={**draws, "t": t})

    def test_a_number_below_zero_is_refused(self):
        indices = IndexCheck(self.mixed(lambda g, t: g - t))
        with pytest.raises(DataError, match=r"entry -1 in row 0 with draw 25"):
            indices.rows({"group": np.float32([0, 3])}, draws={"effects": self.A, "t": self.T})

    def test_draws_of_levels(self):
        indices = IndexCheck(kernel_of(lambda a, g: a[level()] + 0 * g))
        rows, z = {"group": np.arange(3)}, np.arange(50) % 4
        indices.rows(rows, draws={"z": z})
        with pytest.raises(DataError, match="'z' points at entry 7 with draw 2"):
            indices.rows(rows, draws={"z": np.where(np.arange(50) == 2, 7, z)})

    def test_a_set_value_comes_before_the_draws(self):
        indices = IndexCheck(self.mixed(lambda g, t: g * t))
        rows, draws = {"group": np.float32([0, 3])}, {"effects": self.A, "t": self.T}
        for role in "intervention", "condition":
            indices.rows(rows, draws=draws, **{role: {"t": np.float32(1)}})
            with pytest.raises(DataError, match="entry 6 in row 1"):
                indices.rows(rows, draws=draws, **{role: {"t": np.float32(2)}})

    def test_states_of_a_scan(self):
        def kernel(X, y=None):
            effects = numpyro.sample("effects", dist.Normal().expand([3]).to_event(1))
            first = level(3, "first")

            def step(state, observed):
                state = numpyro.sample("state", dist.Categorical(logits=effects + effects[state]))
                numpyro.sample("y", dist.Normal(effects[state], 1.0), obs=observed)
                return state, None

            scan(step, first, y, length=len(X))

        indices, rows = IndexCheck(kernel), {"X": np.zeros(6), "y": np.zeros(6)}
        indices.rows(rows)
        draws = {"first": np.ones(5, int), "state": np.ones((5, 6), int)}
        indices.rows(rows, draws=draws)
        with pytest.raises(DataError, match="points at entry 4 with draw 0"):
            indices.rows(rows, draws={**draws, "state": 4 * draws["state"]})


@pytest.mark.slow
def test_a_model_refuses_draws_that_lead_out_of_range():
    def kernel(X, y=None):
        a = numpyro.sample("a", dist.Normal(0, 5).expand([GROUPS]).to_event(1))
        t = numpyro.sample("t", dist.Uniform(0, 2))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(a[(X * t).astype(int)], 0.1), obs=y)

    im = ImpactModel(kernel, jax.random.key(0), MCMC(NUTS(kernel), num_warmup=2, num_samples=2))
    X = np.float32([0, 1, 2.5, 3])
    with pytest.raises(DataError, match=r"'X' points at entry 5 in row 2 for a possible draw"):
        im.fit_on_batch(X, X)
    a, t = TestPosteriorDraws.A, TestPosteriorDraws.T
    im.set_posterior_sample({"a": a, "t": t})
    for call in (
        lambda: im.predict(X),
        lambda: im.log_likelihood(X, X),
        lambda: im.estimate_effect(args_baseline={"X": 0 * X}, args_intervention={"X": X}),
    ):
        with pytest.raises(DataError, match="'X' and 't' points at entry 4 in row 3 with draw 33"):
            call()
    im.set_posterior_sample({"a": a, "t": np.minimum(t, 1.3)})
    im.predict(X)
