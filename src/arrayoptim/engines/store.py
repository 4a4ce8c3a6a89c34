"""A folder of the user's where the kernels of every engine outlive the process.

Nothing here may fail: where there is no such folder, kernels are compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path

VARIABLE = "ARRAYOPTIM_CACHE_DIR"
"""Environment variable that names another folder; empty for none."""

_SUFFIX = ".kernel"


def folder() -> Path | None:
    """Give the folder of compiled kernels.

    Returns
    -------
    Path or None
        The folder, which need not exist; None where there is to be none.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "arrayoptim" if base else None
    except RuntimeError:
        return None


def read(key: str) -> bytes | None:
    """Read what `write` has written.

    Parameters
    ----------
    key : str
        Name of the entry.

    Returns
    -------
    bytes or None
        The content; None where there is none, or none that is whole and this user's own.
    """
    place = folder()
    if place is None or not _trusted(place):
        return None
    try:
        content = (place / (key + _SUFFIX)).read_bytes()
    except OSError:
        return None
    digest, content = content[:32], content[32:]
    return content if hashlib.sha256(content).digest() == digest else None


def write(key: str, content: bytes) -> None:
    """Keep an entry for other processes, whole or not at all.

    Parameters
    ----------
    key : str
        Name of the entry.
    content : bytes
        What `read` gives back.
    """
    place = folder()
    if place is None:
        return
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _trusted(place):
            return
        handle, name = tempfile.mkstemp(dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            Path(name).replace(place / (key + _SUFFIX))
        except OSError:
            Path(name).unlink(missing_ok=True)


def _trusted(place: Path) -> bool:
    """Whether nobody else can have written there: what is read there will be executed."""
    try:
        status = place.stat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
