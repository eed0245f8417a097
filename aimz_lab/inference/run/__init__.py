"""One run from start to end: record, events, requests and lifecycle.

In: requests from callbacks and users. Out: a finished :class:`~aimz_lab.inference.run.run.Run`.
"""
