"""Errors and warnings of the package.

Every error derives from :class:`AimzLabError` and from the built-in that fits, so that both
``except AimzLabError`` and ``except ValueError`` do what a reader expects.
"""

from __future__ import annotations


class AimzLabError(Exception):
    """Base of all errors raised on purpose by this package."""


class DataError(AimzLabError, ValueError):
    """The values or the shapes of the data do not fit."""


class DataTypeError(AimzLabError, TypeError):
    """The data is of a kind that cannot be used."""


class KernelError(AimzLabError, ValueError):
    """The kernel's signature or structure does not allow what was asked of it."""


class InferenceError(AimzLabError, TypeError):
    """The inference object is missing, doubled, or of a kind that cannot do what was asked."""


class GuideError(AimzLabError, ValueError):
    """The guide cannot be trained on the batches it would get."""


class ArgumentError(AimzLabError, ValueError):
    """An argument has a value that is not allowed."""


class CallError(AimzLabError, TypeError):
    """The arguments do not fit what is called."""


class SiteError(AimzLabError, ValueError):
    """A site that was named does not exist or does not fit the data."""


class BusyError(AimzLabError, RuntimeError):
    """The model is being trained in the background."""


class NotFittedError(AimzLabError, RuntimeError):
    """The model holds no posterior yet."""


class NonFiniteLossError(AimzLabError, FloatingPointError):
    """A training step gave a loss or parameters that are not finite."""


class CheckpointError(AimzLabError, ValueError):
    """A checkpoint cannot be read, or belongs to another run."""


class ArtifactGoneError(AimzLabError, FileNotFoundError):
    """A stored result that a tree reads from is no longer there."""


class ArtifactError(AimzLabError, ValueError):
    """A stored result is incomplete or not one of ours."""


class ArtifactWriteError(AimzLabError, OSError):
    """A result could not be written; nothing of it was kept."""


class OptionalDependencyError(AimzLabError, ImportError):
    """A package of an optional extra is missing; the message names the extra."""


class AimzLabWarning(UserWarning):
    """Base of all warnings of this package."""


class FitWarning(AimzLabWarning):
    """Training does something that the user may not expect."""


class OutputWarning(AimzLabWarning):
    """A result holds something that the user may not expect."""


class PerformanceWarning(AimzLabWarning):
    """The same result could be had faster."""


class CallbackWarning(AimzLabWarning):
    """A callback failed and was switched off."""
