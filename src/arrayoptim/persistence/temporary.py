"""Temporary files beside a target that replace it, and removal of leftovers of crashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import uuid
from pathlib import Path
from typing import Any

UNLINKED_OPEN = os.name == "posix"
"""Whether an open file can be unlinked."""

if sys.platform == "win32":
    # Windows cannot delete open files, so there is no need to lock them.
    def _lock(handle: int, *, wait: bool) -> None:
        return None
else:
    import fcntl

    def _lock(handle: int, *, wait: bool) -> None:
        """Lock a file until it is closed, or the process ends."""
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _prefix(target: Path) -> str:
    """Return the prefix of temporary files for a target, whose own name may be too long."""
    return f".arrayoptim-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}-"


def name_for(target: Path) -> Path:
    """Return a new name beside a target.

    Parameters
    ----------
    target : Path
        The target.
    """
    return target.with_name(f"{_prefix(target)}{uuid.uuid4().hex[:16]}.tmp")


def remove_left_over(target: Path) -> None:
    """Remove temporary files left by killed saves to a target.

    Those of running saves are locked, and are kept.

    Parameters
    ----------
    target : Path
        The target.
    """
    prefix = _prefix(target)
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(".tmp"):
                _remove(entry.path)


def _remove(path: str) -> None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with contextlib.suppress(OSError):
        handle = os.open(path, flags)
        try:
            _lock(handle, wait=False)
            if UNLINKED_OPEN:
                os.unlink(path)  # noqa: PTH108 (while it is held)
        finally:
            os.close(handle)
        if not UNLINKED_OPEN:
            os.unlink(path)  # noqa: PTH108


def create(path: Path, like: os.stat_result | None) -> int:
    """Create a file for reading and writing that nobody else can read yet.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    like : os.stat_result or None
        The file that it will replace: it gets that file's owner and permissions before it has any
        content. None if there is none.

    Returns
    -------
    int
        The open file, which is locked.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        handle = os.open(path, flags, 0o666 if like is None else 0o600)
        try:
            with contextlib.suppress(OSError):  # if the file system has no locks
                _lock(handle, wait=True)
            if os.fstat(handle).st_nlink == 0:
                # Another save to this target removed it as a leftover before it was locked.
                os.close(handle)
                continue
            if like is not None:
                _take_after(handle, like)
        except BaseException:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        return handle


def _take_after(handle: int, like: os.stat_result) -> None:
    """Copy owner, group and permissions of one file to another, as far as allowed."""
    mode = stat.S_IMODE(like.st_mode)
    if not hasattr(os, "fchown"):
        return
    made = os.fstat(handle)
    if made.st_uid != like.st_uid:
        with contextlib.suppress(OSError):
            os.fchown(handle, like.st_uid, -1)
    if made.st_gid != like.st_gid:
        try:
            os.fchown(handle, -1, like.st_gid)
        except OSError:
            # The group could not be copied, so the new group gets the permissions of others.
            mode = mode & ~0o070 | (mode & 0o007) << 3
    os.fchmod(handle, mode)


def copy_attributes(handle: int, like: Path) -> None:
    """Copy the extended attributes of one file to another, including access lists.

    Parameters
    ----------
    handle : int
        The open file.
    like : Path
        The file to copy from.
    """
    if sys.platform != "linux":
        return
    names: list[Any] = []
    with contextlib.suppress(OSError):
        names = os.listxattr(like)
    for name in names:
        with contextlib.suppress(OSError):
            os.setxattr(handle, name, os.getxattr(like, name))
