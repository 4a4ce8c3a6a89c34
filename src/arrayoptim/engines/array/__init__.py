"""The array engine: rules as expressions of whichever library the arrays are from.

It is the specification that the fused engines agree with, and serves every array.
"""
