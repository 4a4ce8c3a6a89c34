"""Whole runs: minimizing a loss, searching for a learning rate, and checkpoints of both.

Knows every optimizer, wrapper and file; what is here could be written outside of the library.
"""
