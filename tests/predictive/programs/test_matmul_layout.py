"""Products turned round: the same values, with the draws first, through calls and batched axes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import DotAlgorithm, Precision

from aimz_lab.predictive.programs.matmul_layout import draws_first

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)
DRAWS = {
    "vector": jnp.asarray(np.random.default_rng(1).normal(size=(7, 3)), jnp.float32),
    "matrix": jnp.asarray(np.random.default_rng(2).normal(size=(7, 3, 4)), jnp.float32),
    "key": jax.random.key_data(jax.random.split(jax.random.key(0), 7)),
}
ALGORITHM = DotAlgorithm(np.float32, np.float32, np.float32)

KERNELS = {
    "vector": lambda x, d: x @ d["vector"],
    "matrix": lambda x, d: x @ d["matrix"],
    "from the left": lambda x, d: d["vector"] @ x.T,
    "einsum": lambda x, d: jnp.einsum("rf,fk->kr", x, d["matrix"]).T,
    "batched": lambda x, d: jnp.einsum("rf,fk->fkr", x, d["matrix"]),
    "several contracted": lambda x, d: jnp.tensordot(x[:, :, None] * x[:, None], d["vector"], 1),
    "within a call": lambda x, d: jax.jit(lambda a, b: jnp.tanh(a @ b))(x, d["matrix"]),
    "both of the draw": lambda x, d: x[:, :1] * (d["vector"] @ d["matrix"])[None],
    "neither of the draw": lambda x, d: (x @ x.T) * d["vector"][0],
    "within a loop": lambda x, d: jax.lax.fori_loop(0, 2, lambda _, v: x @ v[:3], x @ d["vector"]),
    "two precisions": lambda x, d: jnp.dot(
        x, d["matrix"], precision=(Precision.HIGHEST, Precision.DEFAULT)
    ),
    "wider than its factors": lambda x, d: jnp.dot(
        x.astype(jnp.bfloat16), d["vector"].astype(jnp.bfloat16), preferred_element_type=jnp.float32
    ),
    "with noise": lambda x, d: (
        x @ d["vector"] + jax.random.normal(jax.random.wrap_key_data(d["key"]), x.shape[:1])
    ),
    "a constant": lambda x, d: jnp.where(x[:, 0] > 0, x @ jnp.arange(3.0), 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_values_are_those_of_the_kernel(name):
    def one_draw(draw):
        return {"site": jax.vmap(lambda x: KERNELS[name](x, draw))(ROWS)}

    plain, turned = (jax.jit(jax.vmap(f)) for f in (one_draw, draws_first(one_draw)))
    np.testing.assert_allclose(turned(DRAWS)["site"], plain(DRAWS)["site"], rtol=2e-6, atol=2e-6)


def products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        inner = equation.params.get("jaxpr")
        if inner is not None:
            yield from products(inner.jaxpr)


@pytest.mark.parametrize("name", ["vector", "matrix", "within a call"])
def test_draws_come_first_in_the_product(name):
    def one_draw(draw):
        return jax.vmap(lambda x: KERNELS[name](x, draw))(ROWS)

    [as_written] = products(jax.make_jaxpr(jax.vmap(one_draw))(DRAWS).jaxpr)
    [turned] = products(jax.make_jaxpr(jax.vmap(draws_first(one_draw)))(DRAWS).jaxpr)
    assert as_written.outvars[0].aval.shape[:2] == (2, 5)  # blocks and rows
    assert turned.outvars[0].aval.shape[0] == 7
    assert turned.outvars[0].aval.shape[-2:] == (2, 5)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        (None, None),
        ((Precision.HIGHEST, Precision.DEFAULT), (Precision.DEFAULT, Precision.HIGHEST)),
        (ALGORITHM, ALGORITHM),
    ],
)
def test_a_precision_stays_with_its_factor(precision, expected):
    def one_draw(draw):
        return jnp.dot(ROWS[0], draw["vector"], precision=precision)

    [turned] = products(
        jax.make_jaxpr(draws_first(one_draw))(jax.tree.map(lambda v: v[0], DRAWS)).jaxpr
    )
    assert turned.params["precision"] == expected


def test_a_call_without_products_of_draws_stays_the_same_object():
    def one_draw(draw):
        key = jax.random.wrap_key_data(draw["key"])
        return jax.random.normal(key, (5,)), ROWS[0] @ draw["vector"], jax.random.normal(key, (5,))

    draw = jax.tree.map(lambda v: v[0], DRAWS)
    rewritten = jax.make_jaxpr(draws_first(one_draw))(draw).jaxpr
    noises = [e.params["jaxpr"] for e in rewritten.eqns if e.params.get("name") == "_normal"]
    assert len(noises) == 2
    assert noises[0] is noises[1]
