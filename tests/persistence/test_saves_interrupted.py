"""Saves that are killed, interrupted or watched: nothing is lost, left over or let out."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrayoptim.persistence import read, temporary, worker_thread, write
from persistence_records import one, record, same_record


def left_over(target: Path) -> Path:
    """Make what a save that was killed has left beside a target."""
    path = temporary.name_for(target)
    path.write_bytes(b"half a file")
    return path


def test_left_over_files_are_removed(tmp_path: Path) -> None:
    """The next save to a path removes those of that path, and no others."""
    path, longest = tmp_path / "w.h5", tmp_path / ("x" * 252 + ".h5")
    gone, others = left_over(path), left_over(tmp_path / "v.h5")
    mine = tmp_path / ".arrayoptim-notes.tmp"
    mine.write_text("")
    write(path, record())
    assert set(tmp_path.iterdir()) == {path, others, mine}
    assert not gone.exists()
    left_over(longest)
    write(longest, record())
    assert set(tmp_path.iterdir()) == {path, others, mine, longest}


def test_a_save_under_way_stays(tmp_path: Path) -> None:
    """Another process's file is locked while it writes."""
    path = tmp_path / "w.h5"
    theirs = left_over(path)
    with theirs.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write(path, record())
        assert theirs.exists()
    write(path, record())
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_about_to_be_renamed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second save that comes just before the first one's rename does not remove its file."""
    path, replace = tmp_path / "w.h5", os.replace

    def later(source: Any, target: Any) -> None:
        temporary.remove_left_over(path)
        replace(source, target)

    monkeypatch.setattr(os, "replace", later)
    write(path, record())
    assert list(tmp_path.iterdir()) == [path]


def test_two_saves_at_once(tmp_path: Path) -> None:
    """Each takes its turn at the name; the file is one of them, whole."""
    path = tmp_path / "w.h5"
    errors: list[BaseException] = []

    def save(seed: int) -> None:
        try:
            for _ in range(20):
                write(path, record(seed=seed))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = read(path)
    assert found.iterations is not None
    same_record(found, record(seed=found.iterations - 2**40))
    assert list(tmp_path.iterdir()) == [path]


def test_seen_by_no_one(tmp_path: Path) -> None:
    """The temporary file has the target's permissions before it has any content."""
    path, seen = tmp_path / "w.h5", set()

    def look() -> np.ndarray:
        for each in tmp_path.iterdir():
            seen.add(stat.S_IMODE(each.stat().st_mode))
        return np.zeros(100)

    write(path, one(look))
    for mode in (0o600, 0o640, 0o444):
        path.chmod(mode)
        seen.clear()
        write(path, one(look))
        assert seen == {mode}
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_owner(tmp_path: Path) -> None:
    """A file stays its owner's when root saves it."""
    path = tmp_path / "w.h5"
    write(path, record())
    os.chown(path, 12345, 23456)
    path.chmod(0o2640)
    write(path, record(seed=1))
    found = path.stat()
    assert (found.st_uid, found.st_gid) == (12345, 23456)
    assert stat.S_IMODE(found.st_mode) == 0o2640


def test_a_group_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another group is allowed what all are, and no more."""
    path = tmp_path / "w.h5"
    write(path, record())
    path.chmod(0o664)
    before = path.stat()
    monkeypatch.setattr(temporary.os, "fchown", refuse)
    real = os.stat_result((before.st_mode, 1, 1, 1, before.st_uid, before.st_gid + 1, 0, 0, 0, 0))
    handle = temporary.create(temporary.name_for(path), real)
    assert stat.S_IMODE(os.fstat(handle).st_mode) == 0o644
    os.close(handle)


def refuse(*args: Any) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def failing_directory(code: int) -> Callable[[int], None]:
    """Return an fsync that fails for directories."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        real(handle)

    return fsync


def test_a_directory_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is there, and it is said that it may not last."""
    path = tmp_path / "w.h5"
    write(path, record())
    monkeypatch.setattr(os, "fsync", failing_directory(errno.EIO))
    with pytest.raises(OSError, match="in its place, but may not outlive"):
        write(path, record(seed=1))
    monkeypatch.undo()
    same_record(read(path), record(seed=1))
    monkeypatch.setattr(os, "fsync", failing_directory(errno.EINVAL))
    write(path, record())  # a file system that knows no such call
    assert list(tmp_path.iterdir()) == [path]


def test_no_thread_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the caller's own does the work."""

    def start(*args: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(worker_thread._thread, "start_new_thread", start)
    write(tmp_path / "w.h5", record())
    same_record(read(tmp_path / "w.h5"), record())


INTERRUPTED = """
import collections, random, signal, sys, time
from pathlib import Path
from arrayoptim.persistence import read, write
from persistence_records import record, same_record
path, found = Path(sys.argv[1]), collections.Counter()
records = [record(seed=seed) for seed in range(2)]
write(path, records[0])
start = time.perf_counter()
for _ in range(5):
    write(path, records[0])
unit = (time.perf_counter() - start) / 5
def interrupt(*args):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
random.seed(0)
for turn in range(200):
    what = "lost"
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, unit))
        write(path, records[turn % 2])
        time.sleep(10 * unit + 1)
    except BaseException as error:
        what = type(error).__name__
    found[what] += 1
    seed = read(path).iterations - 2**40
    same_record(read(path), record(seed=seed))
    assert list(path.parent.iterdir()) == [path]
assert found == {"KeyboardInterrupt": 200}, found
"""


@pytest.mark.slow
def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt comes out as itself, once, and the file is whole."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path]))
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "w.h5")],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupted_at_every_line(tmp_path: Path) -> None:
    """Wherever the calling thread is in a save, the file stays whole and nothing is left."""
    path = tmp_path / "w.h5"
    write(path, record())
    last, seed = 0, 0

    def raise_at(place: int) -> Callable[..., Any]:
        count = 0

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal count, last
            if event == "line" and "arrayoptim" in frame.f_code.co_filename:
                count += 1
                last = max(last, count)
                if count == place:
                    raise KeyboardInterrupt
            return trace

        return trace

    before = sys.gettrace()
    place = 1
    while True:
        seed = place % 7 + 1
        last, raised = 0, False
        sys.settrace(raise_at(place))
        try:
            write(path, record(seed=seed))
        except KeyboardInterrupt:
            raised = True
        finally:
            sys.settrace(before)
        found = read(path).iterations
        assert found is not None
        same_record(read(path), record(seed=found - 2**40))
        assert [each for each in tmp_path.iterdir() if each != path] == []
        if not raised:
            break
        place += 1
    assert place > 50


def test_signals_are_the_programs_own(tmp_path: Path) -> None:
    """A save leaves the handlers alone, whichever they are."""
    usual = signal.getsignal(signal.SIGINT)
    mine = signal.default_int_handler if usual is signal.SIG_IGN else signal.SIG_IGN
    try:
        for handler in (mine, usual):
            signal.signal(signal.SIGINT, handler)
            write(tmp_path / "state.h5", record(seed=1))
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, usual)
