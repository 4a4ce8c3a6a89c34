"""A race: one training step of this library and of every peer installed, interleaved.

``python -m race --help`` from the folder above; ``contests`` is the table of who runs what.
"""
