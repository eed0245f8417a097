"""What is compared of code is what it says, and the constants that it reads."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
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


class Base:
    def scaled(self, X):
        return X

    @classmethod
    def shifted(cls, X):
        return X + cls.shift


def with_a_class(c):
    class C(Base):
        sd = shift = c

        def own(self, X):
            return self.sd * X

    return C


def with_an_inherited_method(c):
    class Kind(Base):
        def scaled(self, X):
            return c * X

    class C(Kind):
        def scaled(self, X):
            return super().scaled(X) + 1

    return C


def with_levels(c):
    class Level(enum.Enum):
        LOW = c

        def doubled(self):
            return 2 * self.value

    return Level


def with_a_slot(c):
    class C:
        __slots__ = ("sd",)

    made = C()
    made.sd = c
    return made


def with_an_attribute(c):
    def scaled(X):
        return scaled.sd * X

    scaled.sd = c
    return scaled


class Adder:
    def __init__(self, sd):
        self.sd = sd

    def add(self, X):
        return X + self.sd

    def update(self, X):
        return X * self.sd


def power(X, exponent):
    return X**exponent


def drawn(X, y=None):
    return numpyro.sample("y", dist.Normal(numpyro.sample("c", dist.Normal()), 1), obs=y)


def class_attribute(c):
    C = with_a_class(c)
    return lambda X, y=None: C.sd * X


def attribute_of_an_object_made_in_the_kernel(c):
    C = with_a_class(c)
    return lambda X, y=None: C().sd * X


def class_attribute_in_a_method(c):
    C = with_a_class(c)
    return lambda X, y=None: C().own(X)


def class_attribute_in_an_inherited_classmethod(c):
    C = with_a_class(c)
    return lambda X, y=None: C.shifted(X)


def inherited_method_of_an_object(c):
    given = with_an_inherited_method(c)()
    return lambda X, y=None: given.scaled(X)


def inherited_method_of_an_object_made_in_the_kernel(c):
    C = with_an_inherited_method(c)
    return lambda X, y=None: C().scaled(X)


def value_of_a_member(c):
    Level = with_levels(c)
    return lambda X, y=None: Level.LOW.value * X


def member_as_a_closure(c):
    low = with_levels(c).LOW
    return lambda X, y=None: low.doubled() * X


def slot(c):
    given = with_a_slot(c)
    return lambda X, y=None: given.sd * X


def method_named_add(c):
    given = Adder(c)
    return lambda X, y=None: given.add(X)


def method_named_update(c):
    given = Adder(c)
    return lambda X, y=None: given.update(X)


def second_object_of_a_class(c):
    given = [Adder(0.0), Adder(c)]
    return lambda X, y=None: given[0].add(X) + given[1].add(X)


def key_named_as_a_list(c):
    CFG, settings = {"mu": c}, SimpleNamespace(mu=0.0)

    def kernel(X, y=None):
        mu = []
        mu.append(CFG["mu"])
        settings.mu += 1
        return mu[0] * X

    return kernel


def key_beside_a_count(c):
    state = {"weight": c, "calls": 0}

    def kernel(X, y=None):
        state["calls"] += 1
        return state["weight"] * X

    return kernel


def partial_below_jit(c):
    raised = jax.jit(functools.partial(power, exponent=c))
    return lambda X, y=None: raised(X)


def partial_below_vmap(c):
    raised = jax.vmap(functools.partial(power, exponent=c))
    return lambda X, y=None: raised(X)


def jitted_kernel(c):
    return jax.jit(functools.partial(power, exponent=c))


def handler(c):
    return handlers.do(drawn, data={"c": c})


def attribute_of_a_function(c):
    scaled = with_an_attribute(c)
    return lambda X, y=None: scaled(X)


def attribute_of_a_function_in_the_kernel(c):
    scaled = with_an_attribute(c)
    return lambda X, y=None: scaled.sd * X


def day(c):
    start = datetime.date(2020, 1, int(c))
    return lambda X, y=None: X - start.toordinal()


@pytest.mark.parametrize(
    "made",
    [
        class_attribute,
        attribute_of_an_object_made_in_the_kernel,
        class_attribute_in_a_method,
        class_attribute_in_an_inherited_classmethod,
        inherited_method_of_an_object,
        inherited_method_of_an_object_made_in_the_kernel,
        value_of_a_member,
        member_as_a_closure,
        slot,
        method_named_add,
        method_named_update,
        second_object_of_a_class,
        key_named_as_a_list,
        key_beside_a_count,
        partial_below_jit,
        partial_below_vmap,
        jitted_kernel,
        handler,
        attribute_of_a_function,
        attribute_of_a_function_in_the_kernel,
        day,
    ],
)
def test_each_kind_of_constant_is_compared(made):
    one, alike, other = code_facts(made(1.0)), code_facts(made(1.0)), code_facts(made(4.0))
    assert code_differences(one, alike, "kernel") == []
    assert code_differences(one, other, "kernel") != []


def test_functions_of_inherited_classes_are_compared():
    def scaled(self, X):
        return X

    def doubled(self, X):
        return 2 * X

    def made(function):
        C = type("C", (type("Kind", (Base,), {"scaled": function}),), {})
        return lambda X, y=None: C().scaled(X)

    found = code_differences(code_facts(made(scaled)), code_facts(made(doubled)), "kernel")
    assert found == ["the source of scaled, which the kernel calls"]


def test_the_order_of_methods_may_be_another():
    def first(self, X):
        return helper(X)

    def method():
        def helper(X):
            return X

        return lambda self, X: helper(X)

    def made(*parts):
        C = type("C", (), dict(parts))
        return lambda X, y=None: C().first(X) + C().second(X)

    parts = ("first", first), ("second", method())
    assert code_facts(made(*parts)) == code_facts(made(*reversed(parts)))


SEEN = []


def remember(X):
    SEEN.append(X)


class Recorder:
    count = made = 0

    def __init__(self):
        Recorder.made += 1
        self.seen, self.calls, self.by_name = [], 0, {}

    def add(self, X):
        self.calls += 1
        type(self).count += 1
        self.seen.append(X)
        self.by_name["last"] = X
        return X * (len(self.seen) > 0) * (self.calls > 0) * (self.count > 0)


@pytest.mark.parametrize("is_made_inside", [False, True])
def test_what_code_changes_itself_is_not_compared(is_made_inside):
    recorder, cache, deque, log = Recorder(), {}, collections.deque(), np.zeros(3)
    numbers = [0] * 3

    def kernel(X, y=None):
        cache[len(cache)] = X
        deque.append(X)
        log[0] += 1
        numbers[0] += 1
        kernel.calls = getattr(kernel, "calls", 0) + 1
        shared = Recorder() if is_made_inside else recorder
        remember(X)
        return (
            len(SEEN)
            + shared.made
            + shared.add(X)
            + len(cache)
            + len(deque)
            + log.sum()
            + sum(numbers)
            + kernel.calls
        )

    before = code_facts(kernel)
    kernel(1.0)
    kernel(1.0)
    assert code_differences(before, code_facts(kernel), "kernel") == []
