"""Where a state goes: groups of open files, and files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from arrayoptim.persistence import read, read_group, write, write_group
from persistence_records import one, record, same_record


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_groups(libver: str, tmp_path: Path) -> None:
    """Into a file, a group, or the group optimizer_weights itself, which stays usable."""
    with h5py.File(tmp_path / "model.h5", "w", libver=libver) as f:
        f["model_weights/kernel"] = np.ones(2)
        f.attrs["keras_version"] = "2.0.9"
        own = f.create_group("second/optimizer_weights")
        own.attrs["weight_names0"] = "old"
        own["rubbish/x"] = 1
        for target in (f, f.create_group("runs/1"), own):
            for seed, class_name in enumerate(["Adam", "Nadam"]):
                write_group(target, record(class_name, seed))
                same_record(read_group(target), record(class_name, seed))
        assert set(own) == {"Nadam"}
        assert set(f) == {"model_weights", "optimizer_weights", "runs", "second"}
        assert set(f["second"]) == {"optimizer_weights"}
    same_record(read(tmp_path / "model.h5"), record("Nadam", 1))


def test_a_failed_write_leaves_the_group(tmp_path: Path) -> None:
    """Whatever goes wrong."""

    def fail() -> np.ndarray:
        raise KeyboardInterrupt

    broken = record("Nadam")
    broken.slots["velocity"][2] = fail
    with h5py.File(tmp_path / "w.h5", "w") as f:
        for target in (f, f.create_group("a/optimizer_weights")):
            write_group(target, record())
            with pytest.raises(KeyboardInterrupt):
                write_group(target, broken)
            same_record(read_group(target), record())
        assert set(f) == {"a", "optimizer_weights"}
    write(tmp_path / "x.h5", record())
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x.h5", broken)
    same_record(read(tmp_path / "x.h5"), record())
    assert {path.name for path in tmp_path.iterdir()} == {"w.h5", "x.h5"}


def test_permissions_and_links(tmp_path: Path) -> None:
    """The umask counts for new files, old ones keep their mode, links stay links."""
    path, link = tmp_path / "w.h5", tmp_path / "link.h5"
    before = os.umask(0o027)
    try:
        write(path, record())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    link.symlink_to("w.h5")
    write(link, record(seed=1))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    same_record(read(path), record(seed=1))
    dangling = tmp_path / "dangling.h5"
    dangling.symlink_to("new.h5")
    write(str(dangling), record(), overwrite=False)
    same_record(read(tmp_path / "new.h5"), record())


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """No directory, no file, or a file that shall stay."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(tmp_path / "nowhere" / "w.h5", record())
    with pytest.raises(IsADirectoryError, match="directory"):
        write(tmp_path, record())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular file"):
        write(tmp_path / "pipe", record())
    (tmp_path / "w.h5").write_text("mine")
    with pytest.raises(FileExistsError, match=r"overwrite.*w\.h5"):
        write(tmp_path / "w.h5", record(), overwrite=False)
    assert (tmp_path / "w.h5").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "w.h5"}


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `overwrite`, what another process has just written stays."""
    path = tmp_path / "w.h5"

    def refuse(*args: Any) -> None:
        raise PermissionError

    def late() -> np.ndarray:
        path.write_text("theirs")
        return np.zeros(2)

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(FileExistsError):
        write(path, one(late), overwrite=False)
    assert path.read_text() == "theirs"
    path.unlink()
    write(path, record(), overwrite=False)
    same_record(read(path), record())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_groups_of_files_that_are_no_files(libver: str) -> None:
    """Of a file that h5py has in memory only."""
    with h5py.File("none", "w", driver="core", backing_store=False, libver=libver) as f:
        write_group(f, record())
        same_record(read_group(f), record())


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_saved_again_and_again(own: bool, libver: str, tmp_path: Path) -> None:
    """A file that is opened, saved into and closed many times does not grow."""
    path, big, sizes = tmp_path / "m.h5", 20_000, []
    for turn in range(6):
        slots = {"momentum": [np.full(big, turn, "f4"), np.full((), turn, "f8")]}
        wanted = record(
            "SGD",
            seed=turn,
            config={"lr": 0.1 * turn},
            scalars={},
            slots=slots,
            paths={"momentum": ["a", "b"]},
        )
        with h5py.File(path, "a", libver=libver) as f:
            write_group(f.require_group("optimizer_weights") if own else f, wanted)
            same_record(read_group(f), wanted)
        same_record(read(path), wanted)
        sizes.append(path.stat().st_size)
    assert sizes[-1] - sizes[0] < big


def test_an_interrupt_while_saving_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the first dataset has changed, all do."""
    with h5py.File(tmp_path / "w.h5", "w") as f:
        write_group(f, record())
        real, interrupted = h5py.Dataset.write_direct, [2, 5]

        def write(self: Any, *args: Any) -> None:
            interrupted[:] = [left - 1 for left in interrupted]
            if 0 in interrupted:
                raise KeyboardInterrupt
            real(self, *args)

        monkeypatch.setattr(h5py.Dataset, "write_direct", write)
        with pytest.raises(KeyboardInterrupt):
            write_group(f, record(seed=1))
        same_record(read_group(f), record(seed=1))
