"""Why a line of a kernel fails, and what to write in its place."""

from __future__ import annotations

import re

import jax
import numpyro
from jax.errors import (
    ConcretizationTypeError,
    JAXIndexError,
    JAXTypeError,
    NonConcreteBooleanIndexError,
    TracerArrayConversionError,
    TracerBoolConversionError,
    TracerIntegerConversionError,
    UnexpectedTracerError,
)

from aimz_lab.data.checks import ENCODE
from aimz_lab.kernel.failing_line import FailingLine

_PLAIN = (
    "A number that only the data knows, such as that of its groups, is a plain argument of the "
    "kernel: n_groups=5, passed to fit and to every prediction."
)
_SHAPE_ALONE = (
    "the kernel is compiled once for all values, so that arrays have a shape and no values yet"
)
LEFT_BEHIND = (
    "It reads a value that an earlier run of the kernel left behind, in a list, a global or an "
    "attribute. A kernel keeps nothing: it reads its arguments, and what it computes goes into "
    "sites."
)
_OF_TEXT = ("'str'", " str", "<U", "JAX array type", "ArrayLike", "to float", "scalar index")
_OF_NONE = ("NoneType", "None is not")
_EVENT = "its distribution outside of the plate, with .to_event(1)"
_REFUSALS = (
    TypeError,
    ValueError,
    IndexError,
    AssertionError,
    OverflowError,
    jax.errors.JaxRuntimeError,
)
_TABLE_WORDS = {
    *("iloc", "loc", "columns", "values", "to_numpy", "index", "iterrows", "groupby", "cat"),
    *("unique", "nunique", "apply", "map", "isin", "fillna", "dtypes", "head", "to_dict"),
}
LIBRARIES = {"jax", "jaxlib", "numpy", "numpyro"}


def reason_of(error: Exception, line: FailingLine, output: str) -> str | None:
    """Say what is wrong, and what to write in its place.

    Args:
        error: The error.
        line: The line that it came from.
        output: Name of the kernel's output.

    Returns:
        Sentences; ``None`` for an error of the user's own.
    """
    if line.raises:
        return None
    needs_values = _needs_values(error, line)
    if needs_values is not None:
        return needs_values
    if isinstance(error, UnexpectedTracerError):
        return LEFT_BEHIND
    if isinstance(error, OverflowError):
        return (
            "A whole number is beyond 2,147,483,647, the greatest that int32 has. Pass it as a "
            "float, such as n=float(n), or switch on 64-bit numbers with "
            "jax.config.update('jax_enable_x64', True)."
        )
    for explain in (_no_number, _nothing, _table, _in_place, _shared_name, _called_wrongly, _key):
        reason = explain(error, line, output)
        if reason is not None:
            return reason
    if _is_refused_by_library(error, line):
        return _misfit_of_plate(line) or f"The error: {first_line(error)}{_surroundings(line)}"
    return None


def _misfit_of_plate(line: FailingLine) -> str | None:
    """Explain a distribution that does not fit the plates around its site."""
    frames = [each for each in line.below if each.f_code.co_name == "process_message"]
    plate = frames[-1].f_locals.get("self") if frames else None
    shape = frames[-1].f_locals.get("dist_batch_shape") if frames else None
    if not isinstance(plate, numpyro.plate) or shape is None:
        return None
    return (
        f"The distribution of the site {line.site!r} has shape {tuple(shape)}, and the plate "
        f"{plate.name!r} takes {plate.subsample_size:,} entries along axis {plate.dim} of it. "
        "Give both one size; a plate of the rows has that of the call, "
        f"numpyro.plate({plate.name!r}, X.shape[0]). A vector that is one draw has {_EVENT}."
        f"{_shapes(line)}"
    )


def _needs_values(error: Exception, line: FailingLine) -> str | None:
    """Say why a line needs values, and what does without."""
    what = _names(line.traced) or "an array"
    argument = _number_passed_as_array(line)
    if argument is not None and isinstance(error, (JAXTypeError, JAXIndexError)):
        return (
            f"{argument!r} came as an array of one number, so that it has no value here; pass it "
            f"as a plain number: {argument}=int({argument})."
        )
    as_array = isinstance(error, TracerArrayConversionError)
    if as_array or (line.below and "JaxprTracer" in str(error) and not _is_jax(line)):
        return (
            f"NumPy, SciPy and pandas need the values of {what}, and {_SHAPE_ALONE}. Use jax.numpy "
            f"(jnp) and jax.scipy in their place. {_PLAIN}"
        )
    if isinstance(error, NonConcreteBooleanIndexError):
        return (
            f"How many entries a mask picks depends on values, and {_SHAPE_ALONE}. Keep all "
            "entries: jnp.where(mask, x, 0.0) chooses between values, numpyro.handlers.mask(mask="
            "mask) leaves entries out of the density. Or pick the rows before the call."
        )
    if _is_size_of_plate(error, line):
        return f"The size of a plate has to be a plain number, and {_SHAPE_ALONE}. {_PLAIN}"
    if isinstance(error, TracerBoolConversionError) or "truth value of an array" in str(error):
        return (
            f"`if`, `while`, `and`, `or`, `not`, min and max need one True or False, and "
            f"{_SHAPE_ALONE}. jnp.where(condition, a, b) chooses entry by entry; `&`, `|`, `~`, "
            f"jnp.minimum and jnp.maximum work on arrays. {_PLAIN}"
        )
    if isinstance(error, TracerIntegerConversionError):
        return (
            f"A range, a size and the index of a list are plain numbers, and {_SHAPE_ALONE}. "
            f"{_PLAIN}"
        )
    counted = re.search(r"(?:argument of|arose in the) jnp\.(\w+)", str(error))
    if isinstance(error, ConcretizationTypeError) and counted:
        name = f"jnp.{counted[1]}"
        return (
            f"How many entries {name} returns depends on values, and {_SHAPE_ALONE}. {_PLAIN} "
            f"Many such functions take it too, as size=n_groups."
        )
    if isinstance(error, ConcretizationTypeError):
        return (
            f"int(), float(), .item() and sizes need the values of {what}, and {_SHAPE_ALONE}. "
            f"Convert types with .astype(int); compute with jnp in place of math. {_PLAIN}"
        )
    if "Only scalar arrays can be converted" in str(error):
        return (
            f"{what} is an array, and math, int() and float() take one number. Use jax.numpy: "
            "jnp.exp(X), X.astype(int)."
        )
    return None


def _number_passed_as_array(line: FailingLine) -> str | None:
    """The kernel's argument that is a traced whole number, if the line reads one."""
    found = [
        name
        for name in line.traced
        if name in line.parameters
        and line.values[name].ndim == 0
        and line.values[name].dtype.kind in "iu"
    ]
    return found[0] if found and not line.is_helper else None


def _is_size_of_plate(error: Exception, line: FailingLine) -> bool:
    in_plate = any(
        isinstance(frame.f_locals.get("self"), numpyro.plate)
        and frame.f_code.co_name in ("__init__", "_subsample")
        for frame in line.below
    )
    unusable = isinstance(error, JAXTypeError) or "truth value" in str(error)
    return in_plate and unusable


def _no_number(error: Exception, line: FailingLine, output: str) -> str | None:
    """Explain a line that computes with an argument that is text or ``None``."""
    text = str(error)
    if not isinstance(error, (AttributeError, TypeError, ValueError)):
        return None
    for name, value in line.values.items():
        is_meant = isinstance(value, str) and any(word in text for word in _OF_TEXT)
        is_none = value is None and any(word in text for word in _OF_NONE)
        if name in line.parameters and name != output and (is_meant or is_none):
            return (
                f"The argument {name!r} is {value!r} here, and the line computes with it. Pass a "
                f"number, or an array of numbers: {name}=1.0, or one entry per row. For "
                f"text, {ENCODE}."
            )
    return None


def _nothing(error: Exception, line: FailingLine, output: str) -> str | None:
    """Explain a line that uses a name that is ``None``, such as the output without data."""
    if not isinstance(error, (AttributeError, TypeError)) or "NoneType" not in str(error):
        return None
    empty = [name for name, value in line.values.items() if value is None]
    if not empty:
        return None
    if output not in empty:
        return (
            f"{empty[0]!r} is None here. An argument is given, numpyro.param has an initial value "
            f"as its second argument, and a function returns what it computes.{_surroundings(line)}"
        )
    return (
        f"{output!r} is None wherever the kernel draws it: in predictions and from the prior. Use "
        f"it as obs={output} alone; what you compute from the data, compute before the call and "
        "pass as an argument."
    )


def _table(error: Exception, line: FailingLine, output: str) -> str | None:  # noqa: ARG001
    """Explain the use of an array as if it were a table or a tensor of another library."""
    text = str(error)
    columns = (
        "The kernel gets arrays, and no DataFrame: X[:, 0] is the first column, and a column that "
        'has a name is an argument of its own, g=df["g"], which the kernel reads as g.'
    )
    if "does not support string indexing" in text or "Using a non-tuple sequence" in text:
        lists = (
            ""
            if "string" in text
            else " A list of numbers has to be an array: X[:, jnp.array([0, 2])]."
        )
        return columns + lists
    name = getattr(error, "name", None)
    if not isinstance(error, AttributeError) or "Tracer has no attribute" not in text:
        return None
    name = name or text.rpartition(" ")[2]
    if name in _TABLE_WORDS:
        return columns
    return f"An array of JAX has no attribute {name!r}. {columns}"


def _in_place(error: Exception, line: FailingLine, output: str) -> str | None:  # noqa: ARG001
    if "immutable" not in str(error) or "item assignment" not in str(error):
        return None
    return (
        "Arrays of JAX cannot be changed in place. Make a new one: X = X.at[0].set(1), or "
        "X = X.at[0].add(1)."
    )


def _shared_name(error: Exception, line: FailingLine, output: str) -> str | None:
    """Explain assertions of NumPyro: names and dimensions that are taken."""
    if not isinstance(error, AssertionError) or not line.below:
        return None
    twice = re.search(r"unique names but got `(.*)` duplicated", str(error))
    if twice:
        name = twice[1]
        loop = (
            f" The rows are one site in a plate, without a loop: with numpyro.plate(..., "
            f"X.shape[0]): numpyro.sample({name!r}, ..., obs={output})."
        )
        return f"There is already a site or plate {name!r}; each needs its own name." + (
            loop if name == output else ""
        )
    if "_subsample" in [frame.f_code.co_name for frame in line.below]:
        return (
            "Another plate around it takes the same dimension; leave dim= out, or give each plate "
            f"another one.{_surroundings(line)}"
        )
    return None


def _called_wrongly(error: Exception, line: FailingLine, output: str) -> str | None:
    """Explain calls that NumPyro does not know."""
    text = str(error)
    if "Invalid type for 'fn'" in text:
        return (
            "The second argument of numpyro.sample is a distribution, such as dist.Normal(0.0, "
            f'1.0), after the name: numpyro.sample("y", dist.Normal(0.0, 1.0), obs={output}).'
        )
    if text.startswith("sample() got an unexpected keyword argument 'observed'"):
        return f"numpyro.sample takes its data as obs=: obs={output}."
    if "'plate' object is not iterable" in text:
        return (
            "A plate is entered and not looped over: with numpyro.plate(name, size): one "
            "numpyro.sample in it draws all its entries."
        )
    if isinstance(error, TypeError) and "of 'str' and 'int'" in text and line.below:
        return "A plate has its name first, then its size: numpyro.plate(name, size)."
    return None


def _key(error: Exception, line: FailingLine, output: str) -> str | None:  # noqa: ARG001
    text = str(error)
    if "missing 1 required positional argument: 'key'" not in text and "PRNG key type" not in text:
        return None
    return (
        'A kernel draws by numpyro.sample("name", distribution), which gets its key by itself; '
        "numpyro.prng_key() is a key for noise that needs no site."
    )


def _is_refused_by_library(error: Exception, line: FailingLine) -> bool:
    """Whether JAX, NumPyro or NumPy raised the error, and not the user's own Python."""
    if not isinstance(error, _REFUSALS):
        return False
    if line.below:
        return _library(line) in LIBRARIES
    # JAX removes its own frames from tracebacks, and those of NumPy are not Python's.
    return bool(line.shapes)


def _library(line: FailingLine) -> str:
    return str(line.below[-1].f_globals.get("__name__", "")).partition(".")[0]


def _is_jax(line: FailingLine) -> bool:
    return _library(line) in {"jax", "jaxlib", "numpyro"}


def first_line(error: Exception) -> str:
    """The first line of an error as a sentence, in words for users of arrays."""
    text = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    text = re.sub(r"'?\b\w*Tracer\b'?", "an array", text)
    if re.search(r"got invalid \w*(scale|rate|concentration)\w* parameter", text):
        text += (
            "; it has to be positive: jnp.exp or jax.nn.softplus makes it so, as does a prior such "
            "as dist.HalfNormal, or numpyro.param(..., constraint=dist.constraints.positive)"
        )
    return f"{text}."


def _surroundings(line: FailingLine) -> str:
    """Name the shapes, the site and the plates of a line."""
    found = _shapes(line)
    if line.site is not None:
        found += f" The site is {line.site!r}."
    elif line.after is not None:
        found += f" The last site before is {line.after!r}."
    if line.plates:
        found += f" The line stands in {' and '.join(line.plates)}."
    return found


def _shapes(line: FailingLine) -> str:
    shapes = [f"{name} {shape}" for name, shape in line.shapes.items()]
    found = f" Shapes: {', '.join(shapes)}." if shapes else ""
    owners = [name.partition("[")[0] for name, shape in line.shapes.items() if shape]
    outside = [name for name in line.outside if name in owners]
    if outside:
        found += (
            f" {outside[0]!r} is no argument of the kernel, so that it is not cut with the rows: "
            "if it has one entry per row, make it an argument and pass it by keyword."
        )
    whole = [name for name in owners if name in line.parameters and name not in line.shapes]
    if whole:
        name = whole[0]
        found += (
            f" What is in a container, as in {name!r}, is passed whole: what has one entry per row "
            "is an argument of its own, or a field of the loader's data."
        )
    return found


def _names(names: list[str]) -> str:
    return " and ".join(map(repr, names))
