"""Refuse a kernel that would train or predict wrongly, by the name of the site or the plate.

In: a kernel, its structure and its arguments. Out: nothing, or an error that says what to change.
"""
