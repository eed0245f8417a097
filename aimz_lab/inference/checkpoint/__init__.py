"""State on disk: checkpoints of runs and saved models.

In: arrays and plain values. Out: files that are whole or absent.
"""
