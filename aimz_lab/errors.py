"""Errors and warnings of the package.

Every error derives from :class:`AimzLabError` and from the built-in error that fits, so both
``except AimzLabError`` and ``except ValueError`` work as expected.
"""

from __future__ import annotations

from aimz_lab.tracebacks import structured


class AimzLabError(Exception):
    """Base class of the errors that this package raises on purpose.

    Their tracebacks end at the caller's line, for the message says the rest. With the environment
    variable ``AIMZ_LAB_FULL_TRACEBACKS=1`` they are whole, from the next error on.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows, also where the error comes through other libraries."""
        return structured(self)


class DataError(AimzLabError, ValueError):
    """The data has wrong values or shapes."""


class DataTypeError(AimzLabError, TypeError):
    """The data is of an unusable type."""


class KernelError(AimzLabError, ValueError):
    """The kernel's signature or structure does not allow the request."""


class NoSamplerError(KernelError, NotImplementedError):
    """A site has to be drawn, and its distribution has no sampler."""


class InferenceError(AimzLabError, TypeError):
    """The inference object is missing, given twice, or of an unsuitable type."""


class GuideError(AimzLabError, ValueError):
    """The guide cannot be trained on minibatches."""


class ArgumentError(AimzLabError, ValueError):
    """An argument has an invalid value."""


class OutOfMemoryError(ArgumentError, MemoryError):
    """What is asked for does not fit into memory; nothing was changed."""


class CallError(AimzLabError, TypeError):
    """The arguments do not match the signature of the function called."""


class MissingOutputError(CallError, ValueError):
    """The output is missing beside an array of inputs, or among the fields of a loader."""


class SiteError(AimzLabError, ValueError):
    """A named site does not exist or does not fit the data."""


class BusyError(AimzLabError, RuntimeError):
    """Another call is changing the model, such as a fit on another thread.

    A fit that was asked to stop is waited for, up to a minute.
    """


class ForkedProcessError(AimzLabError, RuntimeError):
    """The process was forked after JAX had been used, and JAX cannot compute in it."""


class CopyError(AimzLabError, TypeError):
    """The object cannot be pickled or copied."""


class MissingAttributeError(AimzLabError, AttributeError):
    """A model has no attribute of this name; the message says where to look."""


class NotFittedError(AimzLabError, RuntimeError, ValueError, AttributeError):
    """The model has no posterior yet, or none that may be used because its training diverged.

    It is a ``ValueError`` and an ``AttributeError`` too, as in scikit-learn and in aimz.
    """


class NonFiniteLossError(AimzLabError, FloatingPointError):
    """A training step produced a non-finite loss or parameter."""


class CheckpointError(AimzLabError, ValueError):
    """A checkpoint cannot be read, or belongs to another run."""


class ArtifactGoneError(AimzLabError, FileNotFoundError):
    """The stored result behind a tree no longer exists."""


class ArtifactError(AimzLabError, ValueError):
    """A stored result is incomplete, or was not written by this package."""


class ArtifactWriteError(AimzLabError, OSError):
    """A result could not be written; no part of it was kept."""


class ClusterError(AimzLabError, RuntimeError):
    """Workers of a cluster are lost, differ from this process, or cannot do their part.

    Attributes:
        is_consequence: Whether another process has failed, and this one only ends with it.
    """

    is_consequence = False


class CallStoppedError(AimzLabError, RuntimeError):
    """A predictive call was stopped from its display; no part of its result was kept."""


class OptionalDependencyError(AimzLabError, ImportError):
    """An optional package is missing; the message names the extra that installs it."""


class TrustError(AimzLabError, RuntimeError):
    """A report found that a model, or its posterior, is not to be used as it is."""


class AimzLabWarning(UserWarning):
    """Base class of the warnings of this package."""


class FitWarning(AimzLabWarning, RuntimeWarning):
    """Training does something the user may not expect."""


class OutputWarning(AimzLabWarning):
    """A result contains something the user may not expect."""


class PerformanceWarning(AimzLabWarning):
    """There is a faster way to the same result."""


class CallbackWarning(AimzLabWarning):
    """A callback failed and was disabled."""


AimzWarning = AimzLabWarning
"""The name that aimz has for the base class of its warnings."""

KernelValidationError = KernelError
"""The name that aimz has for the error of a kernel that it cannot work with."""
