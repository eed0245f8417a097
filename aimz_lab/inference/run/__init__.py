"""One run from begin to end: its record, its events, its controls.

In: requests from callbacks and users. Out: a finished :class:`~aimz_lab.inference.run.run.run.Run`.
"""
