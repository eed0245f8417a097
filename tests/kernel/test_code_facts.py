"""What is compared of code is what it says, and the constants that it reads."""

from __future__ import annotations

import functools

import jax
import numpy as np
import numpyro
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
