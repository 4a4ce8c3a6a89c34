"""A new file appears whole under its name, or the old one stays."""

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
"""Bytes written before an interrupt is noticed."""


class Sink(io.FileIO):
    """An unbuffered file that remembers its first failed write instead of raising.

    HDF5 1.14 crashes the process when a file that it cannot write is closed. It never hears of a
    full disk: what follows the failure is dropped, and `check` raises it.

    Parameters
    ----------
    path : Path
        The file, which must not exist yet.
    like : os.stat_result or None
        The file whose place it will take.
    go_on : callable
        Raises where the file is not wanted any more.
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
        """Write all bytes; after a failure, only pretend to.

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
        """Set the size; after a failure, only pretend to.

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
    """Write a file beside the target, then rename it.

    An interrupt comes out as what it is, after the file is whole or the new one gone.

    Parameters
    ----------
    path : str or Path
        The target. Of a symbolic link, the file that it points to.
    fill : callable
        Writes the content to a `Sink`, in a thread of its own; its second argument is a function
        that calls another one in the caller's thread.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the target exists and `overwrite` is False.
    FileNotFoundError
        If its directory does not exist.
    OSError
        If it is no regular file, or cannot be written. The target is as it was, unless the message
        says that only its directory failed.
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
    """Refuse a path at which no file can be made.

    Parameters
    ----------
    path : str or Path
        The path.

    Returns
    -------
    target : Path
        The path; of a symbolic link, the file that it points to.
    mode : int or None
        The permissions of the file that is there; None where there is none.

    Raises
    ------
    FileNotFoundError
        If its directory does not exist.
    OSError
        If something else than a file is there.
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
            # HDF5's own message about a failure that it did not see is useless.
            sink.check()
        os.fsync(sink.fileno())
        if UNLINKED_OPEN:
            # Without its lock it would be taken for left over by a save to the same target.
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
        # A file system without hard links cannot refuse and rename in one go.
        if target.exists():
            raise FileExistsError(
                errno.EEXIST, "the file exists and overwrite is False", str(target)
            ) from None
        os.replace(temporary, target)  # noqa: PTH105


def _sync_directory(directory: Path) -> None:
    """Sync the directory with the new name, where that is possible."""
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
