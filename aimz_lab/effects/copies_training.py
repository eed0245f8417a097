"""How the copies of a placebo are trained: as the model was, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aimz_lab.errors import CallError
from aimz_lab.inference.trained import Trained
from aimz_lab.inference.training_call import TrainingCall

_LENGTHS = ("epochs", "num_steps")


def trainings_of_copies(
    trained: Trained, options: Mapping[str, Any], *, on_batch: bool | None, are_chains: bool
) -> tuple[TrainingCall, ...]:
    """Return the calls that train a copy.

    Args:
        trained: What the model has learned, and how.
        options: The user's own settings, which go first.
        on_batch: Whether the user wants ``fit_on_batch``; ``None`` for what the model had.
        are_chains: Whether the model does MCMC, which has a length of its own.

    Raises:
        CallError: If it is not known how long to train.
    """
    calls = trained.trainings or ()
    if are_chains or any(name in options for name in _LENGTHS):
        if on_batch is None or are_chains:
            on_batch = are_chains or "num_steps" in options
        alike = [call.options for call in calls if call.on_batch == on_batch]
        kept = {name: v for name, v in (alike or [{}])[-1].items() if name not in _LENGTHS}
        return (TrainingCall(on_batch, {**kept, **options}),)
    why = _unknown(trained, on_batch)
    if why:
        how = "fit={'num_steps': 5000}" if on_batch else "fit={'epochs': 300, 'batch_size': 100}"
        msg = f"placebo trains copies of the model, and {why}. Say how long to train: {how}."
        raise CallError(msg)
    return tuple(TrainingCall(call.on_batch, {**call.options, **options}) for call in calls)


def _unknown(trained: Trained, on_batch: bool | None) -> str:
    """Return why the model's own training cannot be repeated; nothing if it can."""
    calls = trained.trainings
    if trained.fitted is not None and trained.fitted.is_given:
        return "its draws were set by hand"
    if calls is None:
        return "how it was trained is not known (it was loaded, or trained step by step)"
    if not calls:
        return "it has not been trained yet"
    if on_batch is not None and any(call.on_batch != on_batch for call in calls):
        return f"it was trained otherwise than on_batch={on_batch} says"
    if any(call.was_steered for call in calls):
        return (
            "its learning rate was changed while it was trained, by hand or by a callback, which "
            "cannot be repeated"
        )
    return ""
