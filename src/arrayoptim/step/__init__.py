"""One step: what it depends on, the order of its stages, and the state that it changes.

Knows rules, configurations and engines; knows nothing of files and frameworks.
"""
