"""Scenarios that hold a mediator as it was, against the effect by the model's own draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from jax.scipy.special import log_ndtr
from numpyro import handlers

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, TableSpec
from aimz_lab.errors import ArgumentError, DataError, OutputWarning, SiteError
from tests.runs import mean_field

RNG = np.random.default_rng(0)
N = 60
TABLE = pd.DataFrame({"x": RNG.normal(size=N), "t": RNG.integers(0, 2, N)})
TABLE["m"] = 1 + 2 * TABLE.t + TABLE.x + RNG.normal(size=N)
TABLE["out"] = 0.5 * TABLE.t + 1.5 * TABLE.m + RNG.normal(size=N)
ROWS = {name: TABLE[name].to_numpy(np.float32) for name in TABLE}


def mediated(X, t, m=None, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    direct = numpyro.sample("direct", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(a * t + X, 1), obs=m)
        numpyro.sample("y", dist.Normal(direct * t + b * M, 1), obs=y)


def measured(X, t, m=None, y=None):
    """A measurement and a covariate with a model: neither lies between treatment and outcome."""
    effect = numpyro.sample("effect", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("covariate", dist.Normal(effect, 1), obs=X)
        numpyro.sample("M", dist.Normal(2 * t, 1), obs=m)
        numpyro.sample("y", dist.Normal(effect * t + X, 1), obs=y)


@pytest.fixture(scope="module")
def with_table():
    spec = TableSpec(X="x", t="t", m="m", y="out")
    im = ImpactModel(mediated, jax.random.key(0), svi=mean_field(mediated), table=spec)
    return im.fit_on_batch(TABLE, num_steps=2, num_samples=20, progress=False)


@pytest.fixture(scope="module")
def with_arrays():
    im = ImpactModel(mediated, jax.random.key(0), svi=mean_field(mediated))
    rows = {"t": ROWS["t"], "m": ROWS["m"]}
    return im.fit_on_batch(ROWS["x"], ROWS["out"], **rows, num_steps=2, progress=False)


def tables(*left_out, **also):
    """A table without and with the treatment, as arguments."""
    table = TABLE.drop(columns=list(left_out))
    return [{"X": table.assign(t=level), **also} for level in (0, 1)]


def effect_of(im, before, after, **options):
    tree = im.estimate_effect(
        args_baseline=before, args_intervention=after, average=True, **options
    )
    return tree.posterior_predictive.y.values.ravel()


def test_a_mediator_is_not_held_and_without_its_column_it_is_drawn(with_table):
    with pytest.raises(
        ArgumentError, match=r"'t' differs .* changes site 'M'.*of a table, its col"
    ):
        with_table.estimate_effect(TABLE.assign(t=0), TABLE.assign(t=1))
    draws = with_table.posterior
    whole = draws["direct"] + draws["b"] * draws["a"]
    np.testing.assert_allclose(effect_of(with_table, *tables("m")), whole, atol=1e-4)


def test_a_mediator_that_is_set_gives_the_direct_effect(with_table):
    calls = tables(intervention={"M": TABLE.m.to_numpy()})
    direct = with_table.posterior["direct"]
    np.testing.assert_allclose(effect_of(with_table, *calls), direct, atol=1e-4)


def test_a_mediator_may_be_what_the_scenarios_change(with_table):
    calls = [{"X": TABLE}, {"X": TABLE.assign(m=TABLE.m + 1)}]
    slope = with_table.posterior["b"]
    np.testing.assert_allclose(effect_of(with_table, *calls), slope, atol=1e-4)


@pytest.mark.parametrize(
    "asked",
    [
        lambda im: im.decide(dict(zip("ab", tables(), strict=True))),
        lambda im: im.sweep("t", [0, 1], TABLE),
        lambda im: effect_of(im, *tables(return_sites=["M"])),
        lambda im: im.estimate_effect(
            args_baseline=tables()[0], args_intervention=tables()[1], on_batch=True
        ),
    ],
    ids=["decide", "sweep", "the mediator itself", "on_batch"],
)
def test_no_comparison_holds_it(with_table, asked):
    with pytest.raises(ArgumentError, match="effect that goes through 'M' would be missing"):
        asked(with_table)


def test_new_rows_need_no_value_of_what_the_kernel_draws(with_table):
    tree = with_table.predict(TABLE[["x", "t"]], store="memory", return_sites=["M", "y"])
    assert tree.predictions.M.shape == (1, 20, N)
    with pytest.raises(DataError, match="no column 't'"):
        with_table.predict(TABLE[["x"]], store="memory")
    with pytest.raises(DataError, match=r"no column 'm'. Did you mean 'M'\?"):
        with_table.predict(TABLE.rename(columns={"m": "M"}), store="memory")


def test_a_site_is_given_to_all_scenarios_or_to_none(with_table):
    with pytest.raises(ArgumentError, match="Give 'm' to all scenarios, or to none"):
        effect_of(with_table, tables()[0], tables("m")[1])
    with pytest.raises(ArgumentError, match="Give 'm' to all scenarios, or to none"):
        with_table.decide({"a": TABLE, "b": TABLE.drop(columns="m")})


@pytest.mark.parametrize("loaded", [False, True])
def test_arrays_and_loaders_hold_it_neither(with_arrays, loaded):
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": ROWS["m"]} for t in (0, 1)]
    if loaded:
        datasets = [ArrayDataset(**call) for call in calls]
        calls = [{"X": ArrayLoader(one, jax.random.key(0), batch_size=20)} for one in datasets]
    with pytest.raises(ArgumentError, match="leave 'm' out of all scenarios"):
        with_arrays.estimate_effect(args_baseline=calls[0], args_intervention=calls[1])


@pytest.mark.parametrize(
    "other",
    [
        lambda m: m.astype(np.float64) + 1e-9,
        lambda m: np.round(m, 4),
        lambda m: m + 1,
        lambda m: np.where(np.arange(N) == 3, m + 1, m),
    ],
    ids=["a rounding", "fewer digits", "all rows", "one row"],
)
def test_other_data_of_a_mediator_holds_it_too(with_arrays, other):
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": ROWS["m"]} for t in (0, 1)]
    calls[1]["m"] = other(ROWS["m"])
    with pytest.raises(ArgumentError, match="leave 'm' out of all scenarios"):
        with_arrays.estimate_effect(args_baseline=calls[0], args_intervention=calls[1])


def test_observed_sites_aside_of_the_effect_may_stay():
    im = ImpactModel(measured, jax.random.key(0), svi=mean_field(measured))
    rows = {"t": ROWS["t"], "m": ROWS["m"]}
    im.fit_on_batch(ROWS["x"], ROWS["out"], **rows, num_steps=2, progress=False)
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": ROWS["m"]} for t in (0, 1)]
    np.testing.assert_allclose(effect_of(im, *calls), im.posterior["effect"], atol=1e-4)


def observed_treatment(X, t=None, m=None, y=None):
    """A treatment with a model of its own, and a mediator observed on the log scale."""
    b = numpyro.sample("b", dist.Normal(0, 1))
    logm = None if m is None else jnp.log(m)
    with numpyro.plate("row", X.shape[0]):
        T = numpyro.sample("T", dist.Bernoulli(0.5), obs=t)
        M = numpyro.sample("M", dist.Normal(2 * T, 1), obs=logm)
        numpyro.sample("y", dist.Normal(T + b * (M if m is None else logm), 1), obs=y)


def texts_and_numbers(X, dose=0.0, policy="old", m=None, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(2 * dose + (policy == "new"), 1), obs=m)
        numpyro.sample("y", dist.Normal(b * M + X, 1), obs=y)


def with_draws(kernel, **draws):
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    return im.set_posterior_sample({name: np.asarray(a, "f4") for name, a in draws.items()})


def gained(X, t, m, y=None):
    """The data of a site is what a mediator gained over the treatment."""
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("gain", dist.Normal(0, 1), obs=m - t)
        numpyro.sample("y", dist.Normal(b * m + X, 1), obs=y)


B = RNG.normal(size=30)
M = ROWS["m"]


@pytest.mark.parametrize(
    ("kernel", "given", "levels"),
    [
        (observed_treatment, {"m": np.exp(M)}, {"t": (np.zeros(N, "i4"), np.ones(N, "i4"))}),
        (texts_and_numbers, {"m": M}, {"dose": (0.0, 1.0)}),
        (texts_and_numbers, {"m": M}, {"policy": ("old", "new")}),
    ],
    ids=["observed treatment", "number", "text"],
)
def test_what_differs_may_be_observed_a_number_or_a_text(kernel, given, levels):
    im = with_draws(kernel, b=B)
    [(name, values)] = levels.items()
    calls = [{"X": ROWS["x"], **given, name: value} for value in values]
    with pytest.raises(ArgumentError, match=f"'{name}' differs .* changes site 'M'"):
        effect_of(im, *calls)
    with pytest.raises(ArgumentError, match=f"'{name}' differs .* changes site 'M'"):
        im.decide(dict(zip("ab", calls, strict=True)))
    whole = {"t": 1 + 2 * B, "dose": 2 * B, "policy": B}[name]
    calls = [{n: v for n, v in call.items() if n != "m"} for call in calls]
    np.testing.assert_allclose(effect_of(im, *calls).mean(), whole.mean(), atol=0.2)


def test_data_of_a_site_may_be_computed_from_what_differs_and_a_mediator():
    calls = [{"X": ROWS["x"], "m": M, "t": np.full(N, t, "f4")} for t in (0, 1)]
    with pytest.raises(ArgumentError, match="'gain' is computed from 't', .* and from 'm'"):
        effect_of(with_draws(gained, b=B), *calls)


def of_levels(X, group, t, known, y=None):
    """The data of a mediator by group is in a dictionary."""
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("groups", 4):
        numpyro.sample("M", dist.Normal(2 * t, 1), obs=jnp.log(known["m"]))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * known["m"][group] + X, 1), obs=y)


def test_data_of_a_mediator_by_group_in_a_dictionary():
    given = {"group": np.arange(N) % 4, "known": {"m": np.exp(np.arange(4, dtype="f4"))}}
    calls = [{"X": ROWS["x"], **given, "t": np.full(4, t, "f4")} for t in (0, 1)]
    with pytest.raises(ArgumentError, match=r"'t' differs .* at its data, \"known\['m'\]\""):
        effect_of(with_draws(of_levels, b=B), *calls)


def in_one_dictionary(X, D, y=None):
    """The treatment and the mediator are in one container."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(a * D["t"], 1), obs=D.get("m"))
        numpyro.sample("y", dist.Normal(b * M + D["t"] + X, 1), obs=y)


def read_beside_its_site(X, D, y=None):
    numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("M", dist.Normal(D["t"], 1), obs=D["m"])
        numpyro.sample("y", dist.Normal(b * D["m"] + D["t"] + X, 1), obs=y)


def in_a_factor(X, D, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.factor("M", dist.Normal(a * D["t"], 1).log_prob(D["m"]))
        numpyro.sample("y", dist.Normal(b * D["m"] + D["t"] + X, 1), obs=y)


def in_one_matrix(X, y=None):
    """The treatment is the first column, the mediator the second."""
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(X[:, 0], 1), obs=X[:, 1])
        numpyro.sample("y", dist.Normal(b * M + X[:, 0], 1), obs=y)


@pytest.mark.filterwarnings("ignore:The kernel does not run on another number of rows")
@pytest.mark.parametrize("kernel", [in_one_dictionary, read_beside_its_site, in_a_factor])
def test_a_mediator_is_not_held_beside_its_treatment_in_a_container(kernel):
    im = with_draws(kernel, a=B, b=B + 1)
    calls = [{"X": ROWS["x"], "D": {"t": np.full(N, t, "f4"), "m": M}} for t in (0, 1)]
    with pytest.raises(ArgumentError, match=r""""D\['t'\]" differs .* changes .* 'M'"""):
        effect_of(im, *calls)
    with pytest.raises(ArgumentError, match=r"""\"D\['m'\]\""""):
        im.decide(dict(zip("ab", calls, strict=True)))


@pytest.mark.filterwarnings("ignore:The kernel does not run on another number of rows")
@pytest.mark.parametrize("empty", [{}, {"m": None}])
def test_a_mediator_may_be_left_out_of_a_container_or_moved_in_it(empty):
    im = with_draws(in_one_dictionary, a=B, b=B + 1)
    treatments = [np.full(N, t, "f4") for t in (0, 1)]
    calls = [{"X": ROWS["x"], "D": {"t": t, **empty}} for t in treatments]
    np.testing.assert_allclose(effect_of(im, *calls), B * (B + 1) + 1, atol=1e-4)
    calls = [{"X": ROWS["x"], "D": {"t": treatments[0], "m": m}} for m in (M, M + 1)]
    np.testing.assert_allclose(effect_of(im, *calls), B + 1, atol=1e-4)


def test_a_mediator_is_not_held_beside_its_treatment_in_a_matrix():
    im = with_draws(in_one_matrix, b=B)
    given = np.stack([np.zeros(N), M], axis=1)
    with pytest.raises(ArgumentError, match="changes site 'M', whose data is in 'X' too"):
        effect_of(im, {"X": given}, {"X": given + np.array([1, 0])})
    moved = effect_of(im, {"X": given}, {"X": given + np.array([0, 1])})
    np.testing.assert_allclose(moved, B, atol=1e-4)


def with_its_own_lag(X, m, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(jnp.roll(m, 1), 1), obs=m)
        numpyro.sample("y", dist.Normal(b * M + X, 1), obs=y)


def with_a_mask(X, m, seen, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        M = numpyro.sample("M", dist.Normal(0, 1), obs=jnp.where(seen, m, 0))
        numpyro.sample("y", dist.Normal(b * M + X, 1), obs=y)


@pytest.mark.filterwarnings("ignore:The kernel computes across rows")
@pytest.mark.parametrize(
    ("kernel", "given"), [(with_its_own_lag, {}), (with_a_mask, {"seen": np.ones(N, bool)})]
)
def test_data_of_a_mediator_may_move_beside_its_lag_or_a_mask(kernel, given):
    calls = [{"X": ROWS["x"], "m": m, **given} for m in (M, M + 1)]
    np.testing.assert_allclose(effect_of(with_draws(kernel, b=B), *calls), B, atol=1e-4)


def of_gains(X, pre, t=0.0, m=None, ref=0.0, y=None):
    """The mediator is observed as its gain over a baseline, by row or one number."""
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        data = None if m is None else m - pre - ref
        gain = numpyro.sample("gain", dist.Normal(2 * t, 1), obs=data)
        numpyro.sample("y", dist.Normal(b * (pre + ref + gain) + X, 1), obs=y)


PRE = RNG.normal(size=N).astype("f4")


@pytest.mark.parametrize("moved", [{"pre": PRE + 1}, {"ref": 1.0}, {"ref": np.ones(())}])
def test_a_gain_over_a_baseline_is_not_held_where_the_baseline_moves(moved):
    im = with_draws(of_gains, b=B)
    call = {"X": ROWS["x"], "pre": PRE}
    call |= {"ref": np.zeros(())} if isinstance(moved.get("ref"), np.ndarray) else {}
    with pytest.raises(ArgumentError, match=r"from 'm', which they hold.*Leave 'm' out of all"):
        effect_of(im, {**call, "m": M}, {**call, "m": M, **moved})
    np.testing.assert_allclose(effect_of(im, call, {**call, **moved}), B, atol=1e-4)
    both = {**call, "m": M + 1, **moved}
    if "pre" in moved:
        np.testing.assert_allclose(effect_of(im, {**call, "m": M}, both), B, atol=1e-4)


def test_what_to_leave_out_is_what_the_kernel_does_without():
    calls = [{"X": ROWS["x"], "pre": PRE, "m": M, "t": t} for t in (0.0, 1.0)]
    with pytest.raises(ArgumentError, match=r"leave 'm' out of all scenarios \(of a table"):
        effect_of(with_draws(of_gains, b=B), *calls)


def test_gains_that_do_not_reach_the_output_may_stay():
    def kernel(X, pre, w=None, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("gain", dist.Normal(0, 1), obs=None if w is None else w - pre)
            numpyro.sample("y", dist.Normal(b * pre + X, 1), obs=y)

    calls = [{"X": ROWS["x"], "pre": pre, "w": M} for pre in (PRE, PRE + 1)]
    np.testing.assert_allclose(effect_of(with_draws(kernel, b=B), *calls), B, atol=1e-4)


def only_in_data(X, t, m=None, y=None):
    """The mediator is observed on the scale of its gain over the treatment."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        gain = numpyro.sample("gain", dist.Normal(a, 1), obs=None if m is None else m - t)
        numpyro.sample("y", dist.Normal(gain + t + X, 1), obs=y)


def read_elsewhere(X, t, m=None, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("gain", dist.Normal(a, 1), obs=None if m is None else m - t)
        numpyro.sample("y", dist.Normal((t if m is None else m) + X, 1), obs=y)


@pytest.mark.slow
def test_a_table_may_lack_the_column_of_what_is_only_observed():
    spec, table = TableSpec(X="x", t="t", m="m", y="out"), TABLE.drop(columns="m")
    im = ImpactModel(only_in_data, jax.random.key(0), svi=mean_field(only_in_data), table=spec)
    im.fit_on_batch(TABLE, num_steps=2, num_samples=20, progress=False)
    calls = [{"X": table.assign(t=level)} for level in (0, 1)]
    np.testing.assert_allclose(effect_of(im, *calls), 1, atol=1e-4)
    tree = im.predict(table, store="memory", return_sites=["gain", "y"])
    assert tree.predictions.gain.std() > 0.5
    with pytest.raises(DataError, match="no column 't'"):
        im.predict(TABLE[["x", "m"]], store="memory")
    im = ImpactModel(read_elsewhere, jax.random.key(0), svi=mean_field(read_elsewhere), table=spec)
    im.fit_on_batch(TABLE, num_steps=2, num_samples=20, progress=False)
    with pytest.raises(DataError, match="no column 'm'"):
        im.predict(table, store="memory")


def with_a_limit(X, t, limit, y=None):
    """A factor of the censored, with an offset and a limit that no treatment changes."""
    b = numpyro.sample("b", dist.Normal(0, 1))
    mean = b * t + X
    with numpyro.plate("row", X.shape[0]):
        numpyro.factor("censored", jnp.where(limit > 1, jnp.log(limit - mean + 10), 0.0))
        numpyro.sample("y", dist.Normal(mean, 1), obs=y)


def test_an_offset_of_a_factor_is_kept_by_word():
    im = with_draws(with_a_limit, b=B)
    limit = np.full(N, 2, "f4")
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "limit": limit} for t in (0, 1)]
    with pytest.raises(ArgumentError, match=r"as an offset or a limit does, pass held='keep'"):
        effect_of(im, *calls)
    kept = [{**call, "held": "keep"} for call in calls]
    np.testing.assert_allclose(effect_of(im, *kept), B, atol=1e-4)
    with pytest.raises(ArgumentError, match="Pass one to all of them"):
        effect_of(im, kept[0], {**calls[1], "held": "redraw"})


def latent_mediator(X, t, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        E = numpyro.sample("E", dist.Normal(a * t, 0.1))
        numpyro.sample("y", dist.Normal(t + 3 * E, 1), obs=y)


def level_by_group(X, group, u, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("groups", u.shape[0]):
        E = numpyro.sample("E", dist.Normal(a * u, 0.1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X + 3 * E[group], 1), obs=y)


@pytest.mark.allow_rank_promotion
@pytest.mark.filterwarnings("ignore:Nothing is known of a training")
@pytest.mark.filterwarnings("ignore:The posterior holds one value a row")
@pytest.mark.parametrize(
    ("kernel", "calls", "direct"),
    [
        (latent_mediator, [{"t": np.full(N, t, "f4")} for t in (0, 1)], 1.0),
        (
            level_by_group,
            [{"group": np.arange(N) % 4, "u": np.full(4, u, "f4")} for u in (0, 1)],
            0.0,
        ),
    ],
)
def test_draws_of_a_latent_mediator_are_drawn_anew_or_kept_by_word(kernel, calls, direct):
    n = N if kernel is latent_mediator else 4
    im = with_draws(kernel, a=B, E=RNG.normal(size=(30, n)))
    calls = [{"X": ROWS["x"], **call} for call in calls]
    with pytest.raises(SiteError, match="changes site 'E', of which the posterior holds draws"):
        effect_of(im, *calls)
    with pytest.raises(SiteError, match="held='redraw'"):
        im.decide(dict(zip("ab", calls, strict=True)))
    kept = effect_of(im, *({**call, "held": "keep"} for call in calls))
    np.testing.assert_allclose(kept, direct, atol=1e-4)
    anew = [{**call, "held": "redraw"} for call in calls]
    np.testing.assert_allclose(effect_of(im, *anew), direct + 3 * B, atol=1e-3)
    worth = im.decide(dict(zip("ab", anew, strict=True))).table["utility"]
    assert worth["b"] - worth["a"] == pytest.approx((direct + 3 * B).mean(), abs=1e-3)
    with pytest.raises(ArgumentError, match="held='redraw' works in sweep"):
        im.estimate_effect(args_baseline=anew[0], args_intervention=anew[1], on_batch=True)


@pytest.mark.allow_rank_promotion
@pytest.mark.filterwarnings("ignore:The posterior holds one value a row")
@pytest.mark.parametrize(("held", "through"), [("keep", 0), ("redraw", 3)])
def test_a_sweep_of_a_column_takes_the_same_word(held, through):
    spec = TableSpec(X="x", t="t", y="out")
    im = ImpactModel(
        latent_mediator, jax.random.key(0), svi=mean_field(latent_mediator), table=spec
    )
    im.fit_on_batch(TABLE, num_steps=2, num_samples=20, progress=False)
    with pytest.raises(SiteError, match="held='redraw'"):
        im.sweep("t", [0.0, 1.0], TABLE, reference=0.0)
    effect = im.sweep("t", [0.0, 1.0], TABLE, reference=0.0, held=held).posterior_predictive.y
    expected = 1 + through * im.posterior["a"]
    np.testing.assert_allclose(effect.sel(t=1.0).values.ravel(), expected, atol=1e-3)


def effects_by_row(X, t, y=None):
    """Draws by row that no argument changes: the residual of each row."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(a * t + level, 1), obs=y)


@pytest.mark.filterwarnings("ignore:The posterior holds one value a row")
def test_draws_that_nothing_changes_are_kept():
    im = with_draws(effects_by_row, a=B, level=RNG.normal(size=(30, N)))
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4")} for t in (0, 1)]
    np.testing.assert_allclose(effect_of(im, *calls), B, atol=1e-4)


def test_predictions_at_hand_warn_of_what_they_hold(with_arrays):
    options = {"m": M, "rng_key": jax.random.key(1), "store": "memory", "progress": False}
    trees = [with_arrays.predict(ROWS["x"], t=np.full(N, t, "f4"), **options) for t in (0, 1)]
    with pytest.warns(OutputWarning, match="Both predictions hold 'M' at the data given"):
        with_arrays.estimate_effect(*trees)


def sites_of(names):
    return [numpyro.sample(name, dist.Normal(0, 1)) for name in names]


def density_alone(X, t, m, y=None):
    a, b, direct = sites_of(["a", "b", "direct"])
    with numpyro.plate("row", X.shape[0]):
        numpyro.factor("M", dist.Normal(a * t + X, 1).log_prob(m))
        numpyro.sample("y", dist.Normal(direct * t + b * m, 1), obs=y)


def one_vector(X, t, m, y=None):
    c = numpyro.sample("c", dist.Normal(0, 1).expand([4]).to_event(1))
    numpyro.factor("M", jnp.sum(X * dist.StudentT(3, c[0] + c[1] * t).log_prob(m)))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(c[2] * t + c[3] * m, 1), obs=y)


def computed_sites(X, t, m, y=None):
    a, b = sites_of("ab")
    with numpyro.plate("row", X.shape[0]):
        loc = numpyro.deterministic("loc", a * t)
        half = numpyro.deterministic("half", m / 2)
        numpyro.factor("M", jax.vmap(lambda loc, m: -((m - loc) ** 2))(loc, half))
        numpyro.sample("y", dist.Normal(b * half, 1), obs=y)


def zeros_trick(X, t, m, y=None):
    a, b = sites_of("ab")
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("M", dist.Normal(a * t - m, 1), obs=jnp.zeros(X.shape[0]))
        numpyro.sample("y", dist.Normal(b * m, 1), obs=y)


@pytest.mark.parametrize(
    ("kernel", "sites"),
    [
        (density_alone, {"a": (), "b": (), "direct": ()}),
        (one_vector, {"c": (4,)}),
        (computed_sites, {"a": (), "b": ()}),
        (zeros_trick, {"a": (), "b": ()}),
    ],
)
def test_a_mediator_that_only_a_density_describes_is_refused(kernel, sites):
    im = with_draws(kernel, **{name: RNG.normal(size=(30, *s)) for name, s in sites.items()})
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": M} for t in (0, 1)]
    with pytest.raises(ArgumentError, match="'t' differs .* 'M', which may be the log density of"):
        effect_of(im, *calls)
    with pytest.raises(ArgumentError, match="'t' differs"):
        effect_of(im, calls[0], {**calls[1], "m": M + 1})
    assert np.isfinite(effect_of(im, calls[0], {**calls[0], "m": M + 1})).all()


def test_a_density_of_training_alone_is_refused_too():
    def kernel(X, t, m, y=None):
        a, b = sites_of("ab")
        with numpyro.plate("row", X.shape[0]):
            if y is not None:
                numpyro.factor("M", dist.Normal(a * t, 1).log_prob(m))
            numpyro.sample("y", dist.Normal(t + b * m, 1), obs=y)

    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    rows = {"t": ROWS["t"], "m": M}
    im.fit_on_batch(ROWS["x"], ROWS["out"], **rows, num_steps=2, progress=False)
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": M} for t in (0, 1)]
    with pytest.raises(ArgumentError, match="changes factor 'M'"):
        effect_of(im, *calls)


def penalties(X, t, m, y=None):
    a, b = sites_of("ab")
    numpyro.factor("ridge", -(b**2))
    with numpyro.plate("row", X.shape[0]):
        numpyro.factor("positive", -jax.nn.relu(-(a * t + b * X)))
        numpyro.sample("y", dist.Normal(a * t + b * X, 1), obs=y)


def censored(X, t, m, y=None):
    a, b = sites_of("ab")
    with numpyro.plate("row", X.shape[0]):
        tail = log_ndtr(a * t + b * X - 2)
        numpyro.factor("above", jnp.where(m > 0, tail, 0.0))
        with handlers.mask(mask=m <= 0):
            numpyro.sample("y", dist.Normal(a * t + b * X, 1), obs=y)


def weighted(X, t, m, y=None):
    a, b = sites_of("ab")
    with numpyro.plate("row", X.shape[0]):
        numpyro.factor("weighted", m * dist.Normal(a * t + b * X, 1).log_prob(2.0))
        numpyro.sample("y", dist.Normal(a * t + b * X, 1), obs=y)


def propensity(X, t, m, y=None):
    a, b = sites_of("ab")
    with numpyro.plate("row", X.shape[0]):
        numpyro.factor("treated", dist.Bernoulli(logits=b * X).log_prob(t.astype(int)))
        numpyro.sample("y", dist.Normal(a * t + b * X, 1), obs=y)


def fixed_parameter(X, t, m, y=None):
    a, b = sites_of("ab")
    with handlers.substitute(data={"sigma": 1.0}):
        sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a * t + b * X, sigma), obs=y)


@pytest.mark.filterwarnings("ignore:.*sigma")
@pytest.mark.parametrize("kernel", [penalties, censored, weighted, propensity, fixed_parameter])
def test_densities_of_anything_else_are_no_mediators(kernel):
    im = with_draws(kernel, a=B, b=B)
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": M} for t in (0, 1)]
    np.testing.assert_allclose(effect_of(im, *calls), B, atol=1e-4)


def by_handler(handler):
    def kernel(X, t, m, y=None):
        a, direct = sites_of(["a", "direct"])
        with numpyro.plate("row", X.shape[0]):
            with handler(data={"M": m}):
                M = numpyro.sample("M", dist.Normal(a * t, 1))
            numpyro.sample("y", dist.Normal(direct * t + 2 * M, 1), obs=y)

    return kernel


@pytest.mark.parametrize("handler", [handlers.do, handlers.substitute])
def test_a_mediator_that_a_handler_of_the_kernel_sets_is_kept_by_word_alone(handler):
    im = with_draws(by_handler(handler), a=B, direct=B)
    calls = [{"X": ROWS["x"], "t": np.full(N, t, "f4"), "m": M} for t in (0, 1)]
    for held in ("refuse", "redraw"):
        with pytest.raises(SiteError, match="'M', which the kernel sets to a value of its own"):
            effect_of(im, *({**call, "held": held} for call in calls))
    kept = effect_of(im, *({**call, "held": "keep"} for call in calls))
    np.testing.assert_allclose(kept, B, atol=1e-4)
