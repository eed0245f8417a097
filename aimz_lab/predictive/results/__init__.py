"""What becomes of computed values: stores, datasets and trees.

In: parts of a result, in order. Out: an ``xarray.DataTree``.
"""
