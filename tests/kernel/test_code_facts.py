"""What is compared of code is what it says, and the constants that it reads."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer.autoguide import AutoNormal

from aimz_lab.kernel.code_facts import code_differences, code_facts

RATE = np.float32(0.5)
KNOTS = (1, 2.5, "end")


def helper(X):
    return X * RATE


def kernel(X, y=None):
    return helper(X) + len(KNOTS)


class Linear:
    sd = 2.0

    def __init__(self, weight):
        self.weight = weight

    def mean(self, X):
        return X * self.weight

    def __call__(self, X, y=None):
        return self.mean(X) * self.sd


def power_of(exponent):
    return lambda X, y=None: X**exponent


def test_helpers_and_constants_are_found_by_name():
    facts = code_facts(kernel)
    assert list(facts["functions"]) == ["", "helper"]
    assert None not in facts["functions"].values()
    assert facts["constants"] == {"RATE": "0.5", "KNOTS": "(1, 2.5, 'end')", "y": "None"}


def test_objects_methods_partials_and_closures_are_read():
    facts = code_facts(Linear(3))
    assert list(facts["functions"]) == ["", "mean"]
    assert {"weight": "3", "sd": "2"}.items() <= facts["constants"].items()
    assert code_facts(Linear(3).mean)["constants"] == {"weight": "3"}
    assert code_facts(power_of(2))["constants"]["exponent"] == "2"
    assert code_facts(functools.partial(kernel, scale=4))["constants"]["scale"] == "4"
    for wrapped in (jax.jit(kernel), handlers.scale(kernel, 2.0), functools.partial(kernel)):
        assert code_facts(wrapped)["functions"] == code_facts(kernel)["functions"]


@pytest.mark.parametrize("none", [None, 3, AutoNormal(kernel), numpyro.sample, np.sum])
def test_what_belongs_to_a_library_or_cannot_be_called_has_none(none):
    assert code_facts(none) == {"functions": {}, "constants": {}}


def test_code_without_its_source_is_not_compared():
    space = {}
    exec("def kernel(X): return X", space)
    facts = code_facts(space["kernel"])
    assert facts["functions"] == {"": None}
    assert code_differences(code_facts(kernel), facts, "kernel") == []


def both(X, inner):
    return helper(X) + inner(X)


def test_helpers_of_the_same_name_are_told_apart():
    def made():
        def helper(X):
            return X

        return lambda X, y=None: both(X, helper)

    facts = code_facts(made())
    assert list(facts["functions"]) == ["", "helper", "both", "helper'"]
    assert facts["functions"]["helper"] != facts["functions"]["helper'"]


@dataclasses.dataclass
class Settings:
    sd: float
    epochs: int
    calls: int = 0


def configured(values, *, settings=None, knots=None, prior=None, link=jnp.tanh):
    seen = []

    def kernel(X, y=None):
        seen.append(X)
        settings.calls += 1
        scale = values["sd"] * settings.sd
        return link(scale * X) + jnp.interp(X, knots, knots) + prior.sample(X)

    return kernel


GIVEN = {
    "values": {"sd": 2.0, "epochs": 3},
    "settings": Settings(0.5, 10),
    "knots": np.linspace(0, 1, 5),
    "prior": dist.Normal(0.0, 2.0),
}


def differences(made, one, other):
    return code_differences(code_facts(made(**one)), code_facts(made(**other)), "kernel")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"values": {"sd": 3.0}}, "values['sd'], which the kernel reads (2 there and 3 here)"),
        ({"settings": Settings(1.5, 10)}, "settings.sd, which the kernel reads (0.5 there and"),
        ({"knots": np.array([0, 0.2, 0.5, 0.75, 1])}, "knots, which the kernel reads (float64[5]"),
        ({"prior": dist.Normal(0.0, 3.0)}, "prior.scale, which the kernel reads (2 there and 3"),
        ({"link": jnp.sin}, "link, which the kernel reads (tanh there and sin here)"),
    ],
)
def test_arrays_and_configurations_that_are_read_are_compared(change, difference):
    (found,) = differences(configured, GIVEN, GIVEN | change)
    assert found.startswith(difference)


def test_what_is_not_read_or_changed_by_the_code_itself_is_not_compared():
    other = {
        "values": {"sd": 2.0, "epochs": 30, "more": 1},
        "settings": Settings(0.5, 99, calls=5),
        "knots": GIVEN["knots"] * (1 + 1e-15),
    }
    assert differences(configured, GIVEN, GIVEN | other) == []


def test_a_collection_that_is_used_as_a_whole_is_compared_as_a_whole():
    def made(priors, several=()):
        return lambda X, y=None: [X * sd for sd in priors.values()] + [several]

    one = {"a": 1.0, "b": SimpleNamespace(sd=np.ones(3))}
    assert differences(made, {"priors": one}, {"priors": one | {"c": 3.0}}) == [
        "priors, which the kernel reads (dict of 2 there and dict of 3 here)"
    ]
    (found,) = differences(
        made, {"priors": one}, {"priors": {**one, "b": SimpleNamespace(sd=np.zeros(3))}}
    )
    assert found.startswith("priors['b'].sd, which the kernel reads (float64[3] ")
    many = {"priors": one, "several": list(range(100))}
    (found,) = differences(made, many, {"priors": one, "several": [*range(99), 0]})
    assert found.startswith("several, which the kernel reads (list of 100, ")


class Slope(AutoNormal):
    def _get_posterior(self):
        return 1


def test_a_guide_of_the_users_own_class_is_compared_by_its_source():
    assert list(code_facts(Slope(kernel))["functions"]) == ["_get_posterior"]
