"""Whole runs: minimizing a loss, searching for a learning rate, and checkpoints of both.

May use every optimizer, wrapper and file; all of it could be written outside the library.
"""
