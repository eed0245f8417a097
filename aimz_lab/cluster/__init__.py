"""Work on many processes and machines, by engines that exist: Dask, ``concurrent.futures``.

In: a call, cut into parts of rows or draws, and an executor. Out: the same result, bit for bit, as
from one process on machines of the same kind. Nothing is imported by who does not use it.
"""
