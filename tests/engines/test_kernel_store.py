"""The folder of compiled kernels: what is in it is executed, so only the user's own counts."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from arrayoptim.engines import store


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for kernels, with one in it."""
    path = tmp_path / "kernels"
    monkeypatch.setenv(store.VARIABLE, str(path))
    monkeypatch.setattr(store, "_told", set())
    store.write("a", b"one")
    assert store.read("a") == b"one"
    return path


def test_the_name_counts(place: Path) -> None:
    """A whole kernel under another one's name is none."""
    store.write("b", b"two")
    (place / "b.kernel").replace(place / "a.kernel")
    assert store.read("a") is None
    store.write("a", b"one")
    assert store.read("a") == b"one"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_files_that_others_may_write(mode: int, place: Path) -> None:
    """They are not read, and replaced."""
    file = place / "a.kernel"
    file.chmod(mode)
    assert store.read("a") is None
    store.write("a", b"one")
    assert store.read("a") == b"one"
    assert file.stat().st_mode & 0o777 == 0o600


def test_links(place: Path, tmp_path: Path) -> None:
    """What has other names too may be written under these."""
    file = place / "a.kernel"
    os.link(file, tmp_path / "other")
    assert store.read("a") is None
    file.unlink()
    file.symlink_to(tmp_path / "other")
    assert store.read("a") is None
    file.unlink()
    os.mkfifo(file)
    assert store.read("a") is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_other_owners(place: Path, tmp_path: Path) -> None:
    """Of the file, of the folder, and of a link to it."""
    os.chown(place / "a.kernel", 12345, -1)
    assert store.read("a") is None
    os.chown(place / "a.kernel", 0, -1)
    assert store.read("a") == b"one"
    os.chown(place, 12345, -1)
    with pytest.warns(RuntimeWarning, match="others own it"):
        assert store.read("a") is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_may_write(mode: int, place: Path) -> None:
    """It is not used, and that is said once."""
    place.chmod(mode)
    with pytest.warns(RuntimeWarning, match=r"kernels is not used .*chmod 700"):
        assert store.read("a") is None
    before = sorted(place.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.read("a") is None
        store.write("c", b"three")
    assert sorted(place.iterdir()) == before


def test_a_folder_that_others_may_exchange(place: Path) -> None:
    """Where everyone may rename it."""
    place.parent.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="above it"):
        assert store.read("a") is None
    place.parent.chmod(0o1777)
    assert store.read("a") == b"one"


def test_size(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used least lately goes when there is too much, and what was never finished."""
    monkeypatch.setattr(store, "MOST", 3 * 1000 + 200)
    (place / "a.kernel").unlink()
    for time, key in enumerate("abc"):
        store.write(key, bytes(1000))
        os.utime(place / f"{key}.kernel", (time, time))
    (place / "x.part").write_bytes(b"half")
    os.utime(place / "x.part", (0, 0))
    (place / "y.part").write_bytes(b"half")
    assert store.read("a") == bytes(1000)  # now the latest
    store.write("d", bytes(1000))
    assert {file.name for file in place.iterdir()} == {"a.kernel", "c.kernel", "d.kernel", "y.part"}


def test_damage(place: Path) -> None:
    """A file that was cut, or is larger than any kernel."""
    file = place / "a.kernel"
    file.write_bytes(file.read_bytes()[:-1])
    assert store.read("a") is None
    with file.open("wb") as out:
        out.truncate(store.LARGEST + 1)
    assert store.read("a") is None
