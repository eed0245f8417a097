"""Checkpoints of runs: files that are complete or absent.

In: a run between two chunks. Out: one file, from which a later fit goes on bit for bit.
"""
