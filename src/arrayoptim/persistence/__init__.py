"""Optimizer state in HDF5 files: ours, and those of Keras 2, Keras 3 and natural_bm.

A file holds one group, ``optimizer_weights``: datasets, and the attribute ``weight_names`` with the
ordered list of those that Keras 2.0 saves for an optimizer of that class. Keras 2.0's own
``load_model`` reads it without changes, up to 64 KiB of names; beyond that, the list is split over
``weight_names0``, ``weight_names1`` and so on, which Keras 2.2 and later read. Everything else
(scalar state, masters, slots that Keras 2.0 lacks) is listed in ``extra_names``. Every dataset has
the attributes ``slot`` and ``parameter``; on loading, only these identify it, never its name.
Further attributes: ``format``, ``class_name``, ``config``, ``slots``, ``skipped``, ``version``.

h5py is imported when a file is first read or written.
"""

from __future__ import annotations

from .atomic import require_target
from .distributed import Together
from .files import (
    Place,
    describe,
    describe_with,
    opened,
    path_of,
    read,
    read_with,
    write,
    write_group,
)
from .keras2 import COUNT_LITTLE, keras2_saves_iterations
from .keras3 import interpret as interpret_keras3
from .reading import read_group
from .record import Record

__all__ = [
    "COUNT_LITTLE",
    "Place",
    "Record",
    "Together",
    "opened",
    "path_of",
    "read",
    "read_with",
    "read_group",
    "write",
    "write_group",
    "describe",
    "describe_with",
    "interpret_keras3",
    "keras2_saves_iterations",
    "require_target",
]
