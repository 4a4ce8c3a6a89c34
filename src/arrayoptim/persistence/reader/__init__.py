"""Reading HDF5 without the HDF5 library.

The library trusts what it reads: a damaged or hostile file can have it loop for ever or end the
process. Here every address, size and count is compared with the file before it is used, nothing is
read twice over, and whatever is wrong is a `DamagedError`. What is read is what optimizer state is
kept in: groups of the old and the newer form, attributes, and arrays in one piece or in chunks,
packed or not. Chunks in the forms of the newest files, shared tables and other files are refused.
"""

from __future__ import annotations

from .nodes import Dataset, File, Group, Node
from .source import DamagedError, Source
from .superblock import opened

__all__ = ["DamagedError", "Dataset", "File", "Group", "Node", "Source", "opened"]
