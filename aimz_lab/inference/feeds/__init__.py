"""Bring rows to the devices: the training data, and chunks of its batches.

In: the arguments of ``fit`` and the device of the model or loader. Out: ``TrainingData``, and a
``Feed`` that returns its batches in chunks, on the devices.
"""
