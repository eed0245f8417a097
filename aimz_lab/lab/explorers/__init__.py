"""Explorers: panels whose controls are moved by hand, and whose numbers follow.

In: a model, data or runs. Out: a panel in the notebook, and the same numbers as a table, a figure
and lines of code.
"""

from __future__ import annotations
