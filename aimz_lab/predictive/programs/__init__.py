"""The compiled parts of a prediction.

In: a kernel, draws and blocks of rows. Out: the values of its sites.
"""
