"""The compiled programs of a prediction.

In: scenarios, each a request with its plan and rows. Out: functions compiled for the devices.
"""
