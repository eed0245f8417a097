"""Which numbers of a kernel's priors can be moved, and why others cannot."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.interpreters.partial_eval import dce_jaxpr
from numpyro import handlers
from numpyro.distributions import Delta, Distribution, ExpandedDistribution, Independent
from numpyro.primitives import Messenger

from aimz_lab.errors import KernelError
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.prior_draws import can_be_sampled, seeded
from aimz_lab.kernel.read_code import is_library
from aimz_lab.kernel.tracing import site_kind, tracing_lock
from aimz_lab.lab.explorers.remade import Path, arrays_of, inner, remade, takes_whole
from aimz_lab.system.parsing import parsed

SURE = (
    *(dist.Normal, dist.LogNormal, dist.HalfNormal, dist.StudentT, dist.Cauchy, dist.HalfCauchy),
    *(dist.Laplace, dist.Logistic, dist.Gumbel, dist.Uniform, dist.Beta, dist.Gamma),
    *(dist.InverseGamma, dist.Exponential, dist.Weibull, dist.Pareto, dist.Poisson),
    *(dist.BernoulliProbs, dist.BernoulliLogits),
)
"""Distributions that are known to be the same when they are made anew; others are tried."""

_LOOP = "it is drawn in a loop (scan or cond), which replaces no prior from outside"


@dataclass(frozen=True)
class Statement:
    """Where a site stands in the kernel.

    Attributes:
        written: The expression of its distribution; empty if the text cannot be had.
        target: What its value is assigned to, such as ``"slope ="``.
        plates: Name, size and dimension of the plates around it, outermost first.
        is_direct: Whether the kernel itself calls ``numpyro.sample``, not a function of a library.
        around: What the kernel writes behind the distribution, such as ``".to_event(1)"``.
        sample_shape: The argument of that name.
    """

    written: str = ""
    target: str = ""
    plates: tuple[tuple[str, int, int], ...] = ()
    is_direct: bool = True
    around: str = ""
    sample_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class PriorSite:
    """The prior of a latent site.

    Attributes:
        name: Its name.
        family: Name of the class of its distribution, without what stands around it.
        numbers: The numbers that can be moved, as the kernel has them; an ``int`` where the family
            takes whole numbers alone.
        shapes: Shapes of the arrays that hold these numbers.
        fixed: Why others cannot be moved, by their names.
        why: Why nothing of it can be moved; empty if something can.
        written: Its distribution as the kernel has it, without what stands around it; ``None`` if
            its numbers are not known.
        statement: Where it stands.
    """

    name: str
    family: str = ""
    numbers: Mapping[Path, float] = field(default_factory=dict)
    shapes: Mapping[Path, tuple[int, ...]] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    written: Distribution | None = None
    statement: Statement = field(default_factory=Statement)


def control_name(site: str, path: Path) -> str:
    """Return the name of the control of a number.

    Args:
        site: Name of the site.
        path: The arguments that lead to the number.
    """
    return f"{site}.{path[-1]}"


def read_prior_sites(
    kernel: Callable, arguments: KernelArguments, params: Mapping[str, Any]
) -> dict[str, PriorSite]:
    """Read the priors of a kernel's latent sites, and which of their numbers can be moved.

    A number can be moved if it follows from no other site, from no data and from no key: by the
    kernel's traced program, not by trying.

    Args:
        kernel: A function with NumPyro primitives; its output is left out of the arguments.
        arguments: The arguments of one call.
        params: Values of ``param`` sites.

    Raises:
        KernelError: If a prior cannot be drawn from.
        Exception: Whatever the kernel raises.
    """
    own = handlers.substitute(kernel, data=params) if params else kernel
    values = _values(own, arguments)
    seen: dict[str, _Seen] = {}

    def made_of(values: dict, rows: dict, shared: dict, key: jax.Array) -> dict:
        watched = _Watch(own, values)
        handlers.seed(watched, key)(**rows, **shared, **arguments.static)
        seen.clear()
        seen.update(watched.seen)
        return {name: [jnp.asarray(a) for _, a in one.arrays] for name, one in seen.items()}

    def read(values: dict, rows: dict, shared: dict, key: jax.Array) -> dict:
        watched = _Watch(own, values)
        handlers.seed(watched, key)(**rows, **shared, **arguments.static)
        return {n: (one.core, _differs(one, key)) for n, one in watched.seen.items() if not one.why}

    given = (values, dict(arguments.rows), dict(arguments.shared), jax.random.key(0))
    with tracing_lock:
        traced, out = jax.make_jaxpr(made_of, return_shape=True)(*given)
        used = _used(traced.jaxpr, out, given)
        found = jax.jit(read)(*given)
    return {
        name: _site(name, one, used[name], *found.get(name, (None, True)))
        for name, one in seen.items()
    }


def _values(kernel: Callable, arguments: KernelArguments) -> dict[str, np.ndarray]:
    """Return a value of the right shape and type for each latent site."""

    def run(key: jax.Array, rows: dict, shared: dict) -> dict:
        sites = handlers.trace(seeded(kernel, key)).get_trace(**rows, **shared, **arguments.static)
        latent = {n: s for n, s in sites.items() if site_kind(s) == "latent"}
        for name, site in latent.items():
            if not can_be_sampled(site["fn"]):
                msg = (
                    f"The prior of {name!r} has no sampler ({type(inner(site['fn'])).__name__}), "
                    "so that there are no draws of the prior to look at. Give it a proper prior, "
                    "such as numpyro.distributions.Normal(0, 10)."
                )
                raise KernelError(msg)
        return {name: site["value"] for name, site in latent.items()}

    with tracing_lock:
        shapes = jax.eval_shape(
            run, jax.random.key(0), dict(arguments.rows), dict(arguments.shared)
        )
    return {name: np.zeros(one.shape, one.dtype) for name, one in shapes.items()}


@dataclass
class _Seen:
    """A latent site in one trace.

    Attributes:
        core: Its distribution, without what stands around it.
        arrays: Its numbers and arrays, by the arguments that lead to them.
        why: Why it cannot be moved.
        statement: Where it stands.
    """

    core: Distribution
    arrays: list[tuple[Path, Any]]
    why: str
    statement: Statement


class _Watch(Messenger):
    """Gives every latent site a value, and keeps what its distribution is made of."""

    def __init__(self, fn: Callable, values: Mapping[str, Any]) -> None:
        self.seen: dict[str, _Seen] = {}
        self._values = values
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Keep the site, and give it its value."""
        name = msg.get("name")
        if msg["type"] == "control_flow":
            msg["kwargs"]["substitute_stack"].append(("substitute", dict(self._values)))
        if msg["type"] != "sample" or name not in self._values:
            return
        core = inner(msg["fn"])
        try:
            arrays = list(arrays_of(core))
        except TypeError:
            arrays = None
        frames = list(_callers())
        statement = _statement(msg, frames)
        why = _why_not(msg, core, arrays, frames)
        if self.seen.get(name) is None:
            self.seen[name] = _Seen(core, arrays or [], why, statement)
        if not msg.get("_control_flow_done"):
            msg["value"] = self._values[name]


def _why_not(msg: dict, core: Distribution, arrays: list | None, frames: list) -> str:
    kind = type(core).__name__
    if msg.get("_control_flow_done"):
        return _LOOP
    if any(frame.f_globals.get("__name__") == "numpyro.infer.reparam" for frame in frames):
        return "it comes from a reparametrisation; change the prior where the kernel writes it"
    if msg["value"] is not None:
        return "its value is set from outside"
    if not type(core).__module__.startswith("numpyro."):
        return f"its distribution {kind} is none of NumPyro's"
    if isinstance(core, Delta):
        return "its value is fixed"
    if arrays is None:
        return f"{kind} is not made of numbers alone"
    if _mask_of(msg["fn"]) is _UNKNOWN:
        return "its mask is an array"
    return "" if arrays else f"{kind} has no numbers"


_UNKNOWN = object()


def _layers(distribution: Distribution) -> Iterator[Distribution]:
    while hasattr(distribution, "base_dist") and distribution is not inner(distribution):
        yield distribution
        distribution = distribution.base_dist


def _mask_of(distribution: Distribution) -> Any:
    """Return the mask around a distribution: ``None``, a bool, or ``_UNKNOWN``."""
    masks = [one._mask for one in _layers(distribution) if hasattr(one, "_mask")]
    return next((m if isinstance(m, bool) else _UNKNOWN for m in masks), None)


def _callers() -> Iterator[Any]:
    """Yield the frames from NumPyro's primitive up to the first line of the user's."""
    frame = sys._getframe(2)
    while frame is not None:
        yield frame
        if not is_library(frame.f_code.co_filename):
            return
        frame = frame.f_back


def _statement(msg: dict, frames: list) -> Statement:
    plates = tuple((f.name, f.size, f.dim) for f in reversed(msg["cond_indep_stack"] or []))
    is_user = bool(frames) and not is_library(frames[-1].f_code.co_filename)
    between = [frame.f_globals.get("__name__", "") for frame in frames[:-1]]
    within = ("numpyro.primitives", "numpyro.handlers", __name__)
    target, written = _text_of(frames[-1], msg["name"]) if is_user else ("", "")
    return Statement(
        written=written,
        target=target,
        plates=plates,
        is_direct=is_user and all(name in within for name in between),
        around=_around(msg["fn"], [dim for _, _, dim in plates]),
        sample_shape=tuple(msg["kwargs"].get("sample_shape") or ()),
    )


def _text_of(frame: Any, name: str) -> tuple[str, str]:
    """Return what a site's value is assigned to, and the expression of its distribution."""
    try:
        tree = parsed("".join(linecache.getlines(frame.f_code.co_filename)))
    except SyntaxError:  # a cell with magics, whose text is not Python
        return "", ""
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.Assign | ast.Expr):
            continue
        call = statement.value
        inside = statement.lineno <= frame.f_lineno <= (statement.end_lineno or 0)
        if not (
            inside and isinstance(call, ast.Call) and ast.unparse(call.func).endswith("sample")
        ):
            continue
        named = [ast.literal_eval(a) for a in call.args[:1] if isinstance(a, ast.Constant)]
        if named == [name] and len(call.args) > 1:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            return "".join(f"{ast.unparse(t)} = " for t in targets), ast.unparse(call.args[1])
    return "", ""


def _around(distribution: Distribution, plate_dims: list[int]) -> str:
    """Return what the kernel writes behind a distribution, without what its plates expand."""
    parts, events = [], 0
    for one in _layers(distribution):
        if isinstance(one, Independent):
            events += one.reinterpreted_batch_ndims
            parts.append(f".to_event({one.reinterpreted_batch_ndims})")
        elif isinstance(one, ExpandedDistribution):
            shape, base = list(one.batch_shape), one.base_dist.batch_shape
            for dim in plate_dims:
                if -(dim - events) <= len(shape):
                    shape[dim - events] = 1
            while len(shape) > len(base) and shape[0] == 1:
                shape.pop(0)
            own = np.broadcast_shapes(tuple(shape), base)
            if own != base:
                parts.append(f".expand({list(own)})")
        else:
            parts.append(f".mask({one._mask})")
    return "".join(reversed(parts))


def _differs(one: _Seen, key: jax.Array) -> jax.Array:
    """Whether the distribution, made anew from its own numbers, draws or weighs otherwise."""
    if type(one.core) in SURE:
        return jnp.asarray(False)
    try:
        again = remade(one.core, {path: array for path, array in one.arrays if np.ndim(array) == 0})
        draws = one.core.sample(key), again.sample(key)
        weights = one.core.log_prob(draws[0]), again.log_prob(draws[0])
    except Exception:  # noqa: BLE001 - then it cannot be made anew
        return jnp.asarray(True)
    pairs = ((draws[0], draws[1]), (weights[0], weights[1]))
    same = [jnp.allclose(one, other, rtol=1e-4, equal_nan=True) for one, other in pairs]
    return ~jnp.all(jnp.stack(same))


def _used(traced: Any, out: dict, given: tuple) -> dict[str, list[set[str]]]:
    """Return what each array of each site is computed from: sites, ``"the data"``, ``"a key"``."""
    values, rows, shared, _ = given
    leaves = [
        *(repr(name) for name in sorted(values)),
        *("the data" for _ in jax.tree.leaves((rows, shared))),
        "a key",
    ]
    order = jax.tree.leaves(jax.tree.map(lambda _: 0, out))
    found: dict[str, list[set[str]]] = {}
    at = 0
    for name in sorted(out):
        found[name] = []
        for _ in out[name]:
            _, used = dce_jaxpr(traced, [i == at for i in range(len(order))])
            found[name].append(
                {leaf for leaf, is_used in zip(leaves, used, strict=True) if is_used}
            )
            at += 1
    return found


def _site(
    name: str, one: _Seen, used: list[set[str]], core: Distribution | None, differs: Any
) -> PriorSite:
    """Sort the numbers of a site into those that can be moved, and the others."""
    family = type(one.core).__name__
    site = PriorSite(name, family, why=one.why, statement=one.statement)
    if one.why:
        return site
    if bool(differs):
        return replace(site, why=f"{family} cannot be made anew from its numbers")
    numbers: dict[Path, float] = {}
    fixed: dict[str, str] = {}
    shapes = {path: np.shape(array) for path, array in arrays_of(core)}
    for (path, array), sources in zip(arrays_of(core), used, strict=True):
        if sources:
            fixed[path[-1]] = f"is computed from {_listed(sources)}"
        elif not np.size(array) or np.any(np.asarray(array) != np.ravel(array)[0]):
            fixed[path[-1]] = "is an array of different numbers"
        else:
            number = _short(np.ravel(array)[0])
            numbers[path] = int(number) if takes_whole(core, path) else number
    if len({path[-1] for path in numbers}) < len(numbers):
        return replace(site, why="two of its numbers have one name")
    known = not any(used)
    why = "" if numbers else "; ".join(f"its {n} {said}" for n, said in fixed.items())
    written = core if known else None
    return replace(site, numbers=numbers, shapes=shapes, fixed=fixed, why=why, written=written)


def _listed(sources: set[str]) -> str:
    return " and ".join(sorted(sources, key=lambda one: (one in ("the data", "a key"), one)))


def _short(value: Any) -> float:
    """Return a number as it is written: the shortest one that is the same in its precision."""
    return float(np.format_float_scientific(np.asarray(value)[()], unique=True))
