"""Atomic replacement of files: the new file is complete, or the old one remains."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .temporary import UNLINKED_OPEN, copy_attributes, create, name_for, remove_left_over
from .worker_thread import Ask, carry_out

PIECE = 2**24
"""Bytes written between checks for an interrupt."""


class Sink(io.FileIO):
    """An unbuffered file that remembers its first failed write instead of raising.

    HDF5 1.14 crashes the process when it closes a file that it cannot write, so it is never told
    about a full disk: writes after the failure are dropped, and `check` raises it.

    Parameters
    ----------
    path : Path
        The file, which must not exist yet.
    like : os.stat_result or None
        The file that it will replace.
    go_on : callable
        Raises if the file is no longer wanted.
    """

    def __init__(self, path: Path, like: os.stat_result | None, go_on: Callable[[], None]) -> None:
        super().__init__(path, "x+", opener=lambda *_: create(path, like))
        self.error: BaseException | None = None
        self._go_on = go_on

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self.error is not None:
            raise self.error
        self._go_on()

    def write(self, data: Any, /) -> int:
        """Write all bytes; after a failure, discard them.

        Parameters
        ----------
        data : bytes-like
            The bytes.
        """
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            while self.error is None and view:
                self._go_on()
                view = view[super().write(view[:PIECE]) :]
        except BaseException as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size; after a failure, do nothing.

        Parameters
        ----------
        size : int, optional
            The new size.
        """
        try:
            if self.error is None:
                return super().truncate(size)
        except BaseException as error:
            self.error = error
        return size or 0


Fill = Callable[[Sink, Ask], None]


def replace_file(path: str | os.PathLike[str], fill: Fill, overwrite: bool = True) -> None:
    """Write a temporary file beside the target, then rename it.

    An interrupt is re-raised once the file is complete or the temporary one is removed.

    Parameters
    ----------
    path : str or Path
        The target; a symbolic link is followed.
    fill : callable
        Writes the content to a `Sink`, in a separate thread; its second argument is a function that
        calls another one in the caller's thread.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the target exists and `overwrite` is False.
    FileNotFoundError
        If its directory does not exist.
    OSError
        If it is not a regular file, or cannot be written. The target is unchanged, unless the
        message says that only its directory could not be synced.
    """
    target, found = _target(path)
    if found is not None and not overwrite:
        raise FileExistsError(errno.EEXIST, "the file exists and overwrite is False", str(path))
    temporary = name_for(target)

    def work(ask: Ask, go_on: Callable[[], None]) -> None:
        remove_left_over(target)
        try:
            _write(temporary, fill, (target, found), (ask, go_on), overwrite)
        except OSError as error:
            if isinstance(error, FileExistsError):
                raise
            raise type(error)(
                error.errno, f"{error.strerror or error}; left as it was", str(path)
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(target.parent)

    carry_out(work)


def require_target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Raise if no file can be created at a path.

    Parameters
    ----------
    path : str or Path
        The path.

    Returns
    -------
    target : Path
        The path; a symbolic link is followed.
    mode : int or None
        The permissions of the existing file; None if there is none.

    Raises
    ------
    FileNotFoundError
        If its directory does not exist.
    OSError
        If it exists and is not a file.
    """
    target, found = _target(path)
    return target, None if found is None else stat.S_IMODE(found.st_mode)


def _target(path: str | os.PathLike[str]) -> tuple[Path, os.stat_result | None]:
    """Return the file that a path refers to, and its status if it exists."""
    target = Path(os.path.realpath(path))
    try:
        found = target.stat()
    except FileNotFoundError:
        if target.parent.is_dir():
            return target, None
        raise FileNotFoundError(
            errno.ENOENT, "no such directory to write to", str(target.parent)
        ) from None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "found a directory, wanted a file", str(target))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "found a device or pipe, wanted a regular file", str(target))
    return target, found


def _write(
    temporary: Path,
    fill: Fill,
    old: tuple[Path, os.stat_result | None],
    caller: tuple[Ask, Callable[[], None]],
    overwrite: bool,
) -> None:
    """Write a temporary file, and move it to its target while it is still locked."""
    ask, go_on = caller
    target, found = old
    with Sink(temporary, found, go_on) as sink:
        if found is not None:
            copy_attributes(sink.fileno(), target)
        try:
            fill(sink, ask)
        finally:
            # Raised first, as HDF5's own message about a hidden failure is useless.
            sink.check()
        os.fsync(sink.fileno())
        if UNLINKED_OPEN:
            # Still locked, so another save to this target does not remove it as a leftover.
            _move(temporary, target, overwrite)
    if not UNLINKED_OPEN:
        _move(temporary, target, overwrite)


def _move(temporary: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, target)  # noqa: PTH105 (one call that tests can make fail)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise FileExistsError(
            errno.EEXIST, "the file exists and overwrite is False", str(target)
        ) from None
    except OSError:
        # A file system without hard links cannot check and rename atomically.
        if target.exists():
            raise FileExistsError(
                errno.EEXIST, "the file exists and overwrite is False", str(target)
            ) from None
        os.replace(temporary, target)  # noqa: PTH105


def _sync_directory(directory: Path) -> None:
    """Sync the directory with the new name, if possible."""
    if os.name != "posix":
        return
    try:
        handle = os.open(directory, os.O_RDONLY)
    except PermissionError:
        return  # writable, but not readable
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems refuse this; that is not a disk failure.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise type(error)(
                error.errno,
                f"{error.strerror or error}; the new file is in its place, but may not outlive a "
                "loss of power",
                str(directory),
            ) from error
    finally:
        os.close(handle)
