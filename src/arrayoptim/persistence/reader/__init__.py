"""Reading HDF5 without the HDF5 library.

The library trusts its input: a damaged or hostile file can make it loop forever or crash the
process. Here every address, size and count is checked against the file before use, nothing is read
repeatedly, and any inconsistency is a `DamagedError`. Supported is what optimizer state is stored
in: groups of the old and the new format, attributes, and contiguous or chunked arrays, compressed
or not. Chunk indexes of the newest files, shared tables and external files are rejected.
"""

from __future__ import annotations

from .nodes import Dataset, File, Group, Node
from .source import DamagedError, Source
from .superblock import opened

__all__ = ["DamagedError", "Dataset", "File", "Group", "Node", "Source", "opened"]
