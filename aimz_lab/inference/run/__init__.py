"""One run from begin to end: its record, its events, its requests, its lifecycle.

In: requests from callbacks and users. Out: a finished :class:`~aimz_lab.inference.run.run.Run`.
"""
