"""The live dashboard of a run, in a notebook, a terminal or a recording.

In: the events of a run, and clicks on its page. Out: frames in a view, and requests to the run.
"""
