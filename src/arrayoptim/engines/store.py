"""The user's on-disk cache of compiled kernels, for all engines.

Files read here are executed. So the folder and each file in it must belong to this user or root,
and nobody else may be able to write to them; the digest in a file covers its name too. Nothing here
may fail: without such a folder, kernels are recompiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import time
import warnings
from pathlib import Path

VARIABLE = "ARRAYOPTIM_CACHE_DIR"
"""Environment variable with another folder; empty for no cache."""

LARGEST = 2**26
"""Maximum size of a file that is read, in bytes; kernels take some ten thousand."""

MOST = 2**28
"""Maximum size of the folder, in bytes; the least recently used files are removed first."""

_SUFFIX = ".kernel"
_PART = ".part"
_ABANDONED = 3600.0
"""Seconds after which an unfinished file counts as abandoned."""

_told: set[str] = set()


def folder() -> Path | None:
    """Return the folder of compiled kernels.

    Returns
    -------
    Path or None
        The folder, which need not exist; None for no cache.
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
    """Read an entry written by `write`.

    Parameters
    ----------
    key : str
        Name of the entry.

    Returns
    -------
    bytes or None
        The content; None if there is no complete and trusted entry.
    """
    place = folder()
    if place is None or not _trusted(place):
        return None
    path = place / (key + _SUFFIX)
    try:
        content = _content(path)
    except OSError:
        return None
    digest, content = content[:32], content[32:]
    if _digest(key, content) != digest:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return content


def write(key: str, content: bytes) -> None:
    """Store an entry for other processes, atomically.

    Parameters
    ----------
    key : str
        Name of the entry.
    content : bytes
        The content, which `read` returns.
    """
    place = folder()
    if place is None:
        return
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _trusted(place):
            return
        handle, name = tempfile.mkstemp(suffix=_PART, dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_digest(key, content) + content)
            Path(name).replace(place / (key + _SUFFIX))
        except OSError:
            Path(name).unlink(missing_ok=True)
        _tidy(place)


def _digest(key: str, content: bytes) -> bytes:
    """Return a digest that covers both a kernel and its name."""
    return hashlib.sha256(len(key).to_bytes(8, "little") + key.encode() + content).digest()


def _content(path: Path) -> bytes:
    """Return the content of a trusted file; raise OSError otherwise."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        own = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and _ours(found)
        if not own or found.st_size > LARGEST:
            raise PermissionError(f"{path} is not to be trusted")
        return file.read(LARGEST)


def _ours(found: os.stat_result) -> bool:
    """Whether only this user and root can have written there."""
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid in (0, os.getuid()) and not found.st_mode & 0o022


def _trusted(place: Path) -> bool:
    """Whether nobody else can have created a file or the folder itself; warns otherwise."""
    try:
        status, itself = place.stat(), place.lstat()
        above = [parent.stat() for parent in place.resolve().parents]
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return False
    reason = ""
    if not _ours(status):
        reason = "others own it or may write to it"
    elif hasattr(os, "getuid") and itself.st_uid not in (0, os.getuid()):
        reason = "it is a link that others made"
    elif any(up.st_mode & stat.S_IWOTH and not up.st_mode & stat.S_ISVTX for up in above):
        reason = "everyone may write to a folder above it"
    if reason and str(place) not in _told:
        _told.add(str(place))
        warnings.warn(
            f"{place} is not used for compiled kernels: {reason}. Each process compiles them anew; "
            f"chmod 700 that folder, or name another one in {VARIABLE}",
            RuntimeWarning,
            stacklevel=2,
        )
    return not reason


def _tidy(place: Path) -> None:
    """Remove the least recently used files if there are too many, and unfinished ones."""
    files: list[tuple[float, int, str]] = []
    with os.scandir(place) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if entry.name.endswith(_SUFFIX):
                files.append((found.st_mtime, found.st_size, entry.path))
            elif entry.name.endswith(_PART) and time.time() - found.st_mtime > _ABANDONED:
                Path(entry.path).unlink(missing_ok=True)
    excess = sum(size for _, size, _ in files) - MOST
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        Path(path).unlink(missing_ok=True)
        excess -= size
