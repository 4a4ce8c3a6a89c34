"""A new file appears whole under its name, or the old one stays."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Sink(io.FileIO):
    """An unbuffered file that keeps its first failure to write to itself.

    HDF5 1.14 crashes the process when a file that it cannot write is closed. It never hears of a
    full disk: what follows the failure is dropped, and `check` raises it.

    Parameters
    ----------
    path : Path
        The file, which must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self.error: BaseException | None = None

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, data: Any, /) -> int:
        """Write all bytes, or seem to.

        Parameters
        ----------
        data : bytes-like
            The bytes.
        """
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            while self.error is None and view:
                view = view[super().write(view) :]
        except BaseException as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size, or seem to.

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


def replace_file(
    path: str | os.PathLike[str], fill: Callable[[Sink], None], overwrite: bool = True
) -> None:
    """Write a file beside the target, then rename it.

    Parameters
    ----------
    path : str or Path
        The target. Of a symbolic link, the file that it points to.
    fill : callable
        Writes the content to a `Sink`.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the target exists and `overwrite` is False.
    FileNotFoundError
        If its directory does not exist.
    OSError
        If it is no regular file, or cannot be written. The target is as it was.
    """
    target, mode = require_target(path)
    if mode is not None and not overwrite:
        raise FileExistsError(errno.EEXIST, "the file exists and overwrite is False", str(path))
    temporary = target.with_name(f".arrayoptim-{uuid.uuid4().hex}.tmp")
    try:
        _write(temporary, fill, mode)
        _move(temporary, target, overwrite)
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        raise type(error)(
            error.errno, f"{error.strerror or error}; left as it was", str(path)
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(target.parent)


def require_target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Refuse a path at which no file can appear.

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
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such directory to write to", str(target.parent))
    return target, mode


def _mode(target: Path) -> int | None:
    """Give the permissions of an existing file."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "found a directory, wanted a file", str(target))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "found a device or pipe, wanted a regular file", str(target))
    return stat.S_IMODE(found.st_mode)


def _write(temporary: Path, fill: Callable[[Sink], None], mode: int | None) -> None:
    with Sink(temporary) as sink:
        try:
            fill(sink)
        finally:
            # Whatever HDF5 says of a failure that it did not see is of no use.
            sink.check()
        if mode is not None:
            temporary.chmod(mode)
        os.fsync(sink.fileno())


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
    if os.name != "posix":
        return
    # Some network file systems refuse this; the rename itself has happened.
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
