"""See an output with missing entries (``obs_mask=``) as one site, observed where it has data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpyro.primitives import Messenger

from aimz_lab.kernel.spec import observed_part


class as_observed_output(Messenger):
    """Effect handler that gives the site of the observed entries the name of the output.

    NumPyro makes three sites of ``sample("y", ..., obs=y, obs_mask=mask)``: ``y_observed``, whose
    density is masked, ``y_unobserved``, and ``y``, which is computed from both.

    Args:
        fn: The kernel.
        output: Name of the output.
    """

    def __init__(self, fn: Callable, output: str) -> None:
        self._output = output
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Rename the observed part, and what is computed from both parts."""
        if msg["type"] == "sample" and msg["name"] == observed_part(self._output):
            msg["name"] = self._output
        elif msg["type"] == "deterministic" and msg["name"] == self._output:
            msg["name"] = f"{self._output}_imputed"
