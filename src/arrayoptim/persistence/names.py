"""Names of parameters, as text in HDF5 attributes and as links in HDF5 groups.

What HDF5 cannot represent becomes "~x" with four digits, "~empty" or "~dot". Paths arrive escaped
as in JSON pointers, where "~" only occurs as "~0" and "~1"; elsewhere an ambiguous "~" is escaped
itself. So different names are never encoded to the same one.
"""

from __future__ import annotations

import re

EMPTY, DOT = "~empty", "~dot"
UNFIT = re.compile("[\0\ud800-\udfff]|~(?=[xed])")


def encode(text: str) -> bytes:
    """Return UTF-8 without NUL, which terminates HDF5 strings, and without lone surrogates.

    Parameters
    ----------
    text : str
        A parameter's path, or part of it.
    """
    return UNFIT.sub(lambda found: f"~x{ord(found[0]):04x}", text).encode()


def decode(raw: bytes) -> str:
    """Return the text that `encode` was given.

    Parameters
    ----------
    raw : bytes
        UTF-8.
    """
    return re.sub("~x([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), raw.decode())


def link(path: str) -> str:
    """Return the name of a parameter's dataset within its slot's group.

    Parameters
    ----------
    path : str
        The parameter's path; ``""`` for a single array.
    """
    names = {"": EMPTY, ".": DOT}
    return "/".join(names.get(part, encode(part).decode()) for part in path.split("/"))


def segment(name: str) -> str:
    """Return the link name of a class, a slot or a scalar.

    Parameters
    ----------
    name : str
        Its name.
    """
    return link(name.replace("~", "~0").replace("/", "~1"))
