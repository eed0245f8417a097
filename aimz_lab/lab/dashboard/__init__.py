"""The live dashboard of a run.

In: the events of a run. Out: frames on the page, and requests to the run.
"""
