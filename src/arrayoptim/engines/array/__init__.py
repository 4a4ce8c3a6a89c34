"""The array engine: rules as array expressions of the arrays' own library.

It serves every array, and is the specification that the fused engines must match.
"""
