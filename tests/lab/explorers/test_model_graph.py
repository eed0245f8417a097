"""The graph of a kernel: against NumPyro's own, in loops and plates; its places on the page."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.infer.inspect import get_model_relations

from aimz_lab.lab.explorers.graph_layout import LABEL, NODE_HEIGHT, NODE_WIDTH, crossings, lay_out
from aimz_lab.lab.explorers.graph_svg import (
    describe_site,
    graph_svg,
    model_layout,
    plate_label,
    second_line,
)
from aimz_lab.lab.explorers.model_graph import GraphSite, KernelCall, model_graph

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro promotes ranks in nested plates

X = np.linspace(-1, 1, 6, dtype=np.float32)
GROUP = np.array([0, 1, 2, 0, 1, 2])


def nested(X, group, y=None):
    centre = numpyro.sample("centre", dist.Normal(0.0, 2.5))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    with numpyro.plate("group", 3):
        level = numpyro.sample("level", dist.Normal(centre, spread))
        with numpyro.plate("column", 2):
            slope = numpyro.sample("slope", dist.Normal(level, 1.0))
    weight = numpyro.param("weight", 0.5)
    mean = numpyro.deterministic("mean", level[group] + weight * slope[0, group] * X)
    noise = numpyro.sample("noise", dist.LogNormal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, noise), obs=y)


def two_outcomes(X, y=None, z=None):
    a = numpyro.sample("a", dist.Normal())
    b = numpyro.sample("b", dist.Normal(0.0, jnp.exp(a)))
    with numpyro.plate("row", X.shape[0]):
        mediator = numpyro.sample("z", dist.Normal(a * X, 1.0), obs=z)
        numpyro.sample("y", dist.Bernoulli(logits=b * mediator), obs=y)


def subsampled(X, y=None):
    mean = numpyro.sample("mean", dist.Normal())
    unused = numpyro.sample("unused", dist.Normal())
    with numpyro.plate("row", 100, subsample_size=X.shape[0]):
        local = numpyro.sample("local", dist.Normal(mean + 0 * unused, 1.0))
        numpyro.sample("y", dist.StudentT(4.0, local, 1.0), obs=y)


def masked(X, y=None):
    cut = numpyro.sample("cut", dist.Normal())
    mean = numpyro.sample("mean", dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)))
    with numpyro.plate("row", X.shape[0]), numpyro.handlers.mask(mask=cut < X):
        numpyro.sample("y", dist.Normal(mean.sum() * X, 1.0), obs=y)
    numpyro.factor("penalty", -(mean[0] ** 2))


ROWS = {"X": X, "y": X}
CALLS = {
    "nested": KernelCall(nested, "y", {**ROWS, "group": GROUP}),
    "two outcomes": KernelCall(two_outcomes, "y", {"X": X, "y": GROUP % 2, "z": X}),
    "subsampled": KernelCall(subsampled, "y", ROWS),
    "masked": KernelCall(masked, "y", ROWS),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_arrows_plates_and_observed_sites_are_those_that_numpyro_finds(call):
    graph = model_graph(call)
    theirs = get_model_relations(call.kernel, model_kwargs=dict(call.rows))
    assert graph.is_proven
    for name, parents in theirs["sample_sample"].items():
        assert {*graph.sites[name].parents} == {*parents, *theirs["sample_param"][name]}, name
    for plate, names in theirs["plate_sample"].items():
        assert {name for name, site in graph.sites.items() if plate in site.plates} == {*names}
    kinds = {name: site.kind for name, site in graph.sites.items()}
    observed = {name for name, kind in kinds.items() if kind in ("observed", "factor")}
    assert observed == {*theirs["observed"]}


def test_sites_have_distributions_plates_arguments_and_their_lines():
    graph = model_graph(CALLS["nested"])
    table = graph.table()
    assert table.index.name == "site"
    assert list(table.loc["slope", ["kind", "distribution", "shape", "plates", "parents"]]) == [
        "latent", "Normal(loc, 1)", (2, 3), ("group", "column"), ("level",),
    ]  # fmt: skip
    assert table.loc["centre", "distribution"] == "Normal(0, 2.5)"
    assert table.loc["mean", "arguments"] == ("X", "group")
    assert graph.sites["weight"].kind == "param"
    assert graph.sites["level"].code.text == (
        'level = numpyro.sample("level", dist.Normal(centre, spread))'
    )
    assert re.fullmatch(r"line \d+ of test_model_graph.py", table.loc["level", "line"])
    assert model_graph(CALLS["subsampled"]).plates["row"] == (100, 6)


def test_sites_of_a_loop_have_their_parents_and_their_lines():
    def walk(X, y=None):
        inertia = numpyro.sample("inertia", dist.Uniform(-1.0, 1.0))
        scale = numpyro.sample("scale", dist.HalfNormal(1.0))

        def step(before, row):
            x, seen = row
            state = numpyro.sample("state", dist.Normal(inertia * before, scale))
            numpyro.sample(
                "y",
                dist.Normal(state + x, 0.1),
                obs=seen,
            )
            return state, None

        scan(step, 0.0, (X, y))

    graph = model_graph(KernelCall(walk, "y", ROWS))
    assert graph.sites["state"].parents == ("inertia", "scale")
    assert (graph.sites["y"].parents, graph.sites["y"].arguments) == (("state",), ("X",))
    assert graph.sites["state"].is_looped
    assert graph.sites["state"].code.text.startswith('state = numpyro.sample("state"')
    assert graph.sites["y"].code.text.endswith("obs=seen,\n)")


def test_shapes_alone_give_the_same_graph():
    call = CALLS["nested"]
    shapes = {
        name: jax.ShapeDtypeStruct(array.shape, jax.dtypes.canonicalize_dtype(array.dtype))
        for name, array in call.rows.items()
    }
    alone = model_graph(KernelCall(nested, "y", shapes, has_values=False))
    assert alone.sites == model_graph(call).sites
    assert alone.read_by("y") == {"X", "group"}
    assert alone.read_by("slope") == set()


def test_rows_whose_number_is_not_known_are_called_rows():
    call = replace(CALLS["nested"], is_any_size=True)
    graph = model_graph(call)
    y = graph.sites["y"]
    assert graph.table().loc["y", "shape"] == y.shown_shape == ("rows",)
    assert "shape (rows)" in describe_site(y)
    assert second_line(y).endswith(" (rows)")
    (rows,) = {plate for plate in y.plates if graph.plates[plate] is None}
    assert plate_label(rows, graph) == f"{rows}: all rows"
    assert graph.sites["level"].shown_shape == graph.sites["level"].shape


@pytest.mark.parametrize(
    ("distribution", "shape", "line"),
    [
        ("Normal(0, 1)", (2, 3), "Normal (2, 3)"),
        ("NegativeBinomial2(mean, concentration)", (1500,), "NegativeBinomial2"),
        ("ZeroInflatedNegativeBinomial2(mean)", (), "ZeroInflat…Binomial2"),
        ("", (), "param"),
    ],
)
def test_a_node_names_its_family_whole_before_its_shape(distribution, shape, line):
    assert second_line(GraphSite("y", "param", distribution, shape)) == line


def regression_of(count):
    """Paths and edges of a regression with hierarchical coefficients: 3 sites each, and 4 more."""
    paths = {"noise": (), "mean": ("row",), "y": ("row",)}
    edges = [("mean", "y"), ("noise", "y")]
    for i in range(count):
        paths |= {f"centre{i}": (), f"spread{i}": (), f"level{i}": (f"group{i}",)}
        edges += [(f"centre{i}", f"level{i}"), (f"spread{i}", f"level{i}"), (f"level{i}", "mean")]
    return paths, edges


@pytest.mark.parametrize("count", [1, 12])
def test_nodes_lie_apart_in_their_plates_alone_and_below_their_parents(count):
    paths, edges = regression_of(count)
    layout = lay_out(paths, edges)
    for (x, y), (u, v) in itertools.combinations(layout.nodes.values(), 2):
        assert abs(x - u) >= NODE_WIDTH or abs(y - v) >= NODE_HEIGHT
    assert all(layout.nodes[one][1] < layout.nodes[other][1] for one, other in edges)
    for box in layout.boxes:
        right, bottom = box.left + box.width, box.top + box.height
        for name, (x, y) in layout.nodes.items():
            across = abs(x - (box.left + right) / 2) - (box.width + NODE_WIDTH) / 2
            down = abs(y - (box.top + bottom) / 2) - (box.height + NODE_HEIGHT) / 2
            assert (max(across, down) < 0) == (box.path[-1] in paths[name])
            if box.path[-1] in paths[name]:
                assert box.left <= x - NODE_WIDTH / 2
                assert bottom >= y + NODE_HEIGHT / 2 + LABEL  # the label is below: arrows end above
                assert x + NODE_WIDTH / 2 <= right
    assert {box.path for box in layout.boxes} == {path for path in paths.values() if path}
    assert layout.width <= 800  # at 600 px, three quarters are seen at once
    for points in layout.edges.values():
        assert all(0 <= x <= layout.width and 0 <= y <= layout.height for x, y in points)
    assert lay_out(paths, edges) == layout


def test_edges_that_need_not_cross_do_not():
    edges = [("a", "y"), ("b", "x"), ("c", "z")]
    layout = lay_out(dict.fromkeys("abcxyz", ()), edges)
    ranks = {name: int(y) for name, (_, y) in layout.nodes.items()}
    centres = {name: x for name, (x, _) in layout.nodes.items()}
    assert crossings(centres, ranks, edges) == 0


def test_names_are_escaped_and_each_site_can_be_picked():
    def hostile(X, y=None):
        a = numpyro.sample('<script>"&', dist.Normal())
        with numpyro.plate("<b>row", X.shape[0]):
            numpyro.sample("y", dist.Normal(a * X, 1.0), obs=y)

    graph = model_graph(KernelCall(hostile, "y", ROWS))
    svg = graph_svg(graph, model_layout(graph), '<script>"&')
    assert "<script>" not in svg
    assert "<b>" not in svg
    assert re.findall(r'data-pick="(.*?)"', svg) == ["&lt;script&gt;&quot;&amp;", "y"]
    assert svg.count('aria-pressed="true"') == 1


def test_an_argument_is_no_site_before_a_site_observes_it():
    def imputed(X, y=None):
        with numpyro.plate("row", X.shape[0]):
            a = numpyro.sample("a", dist.Normal(0.0, 1.0).mask(y > 0))
            numpyro.sample("y", dist.Normal(a, 1.0), obs=y)

    graph = model_graph(KernelCall(imputed, "y", {"X": X, "y": X}))
    assert graph.sites["a"].parents == ()
    assert graph.sites["a"].arguments == ("y",)
    assert graph.sites["y"].parents == ("a",)
