"""Rows to devices: what a fit trains on, and how batches get there.

In: what the user passed to ``fit``. Out: chunks of batches on the devices.
"""
