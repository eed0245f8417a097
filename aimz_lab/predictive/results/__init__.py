"""Results: sinks of computed parts, stores, labelled datasets and trees.

In: parts of a result, in order. Out: an ``xarray.DataTree``.
"""
