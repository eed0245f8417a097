"""Watch and steer a training loop that is written by hand.

In: batches, and the loss of each. Out: a run with its display.
"""

from __future__ import annotations

from aimz_lab.lab.monitor.monitor import Watch, monitor

__all__ = ["Watch", "monitor"]
