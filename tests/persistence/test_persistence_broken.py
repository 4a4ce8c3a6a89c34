"""Files that are cut, corrupted, contradictory or newer, and disks that fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from arrayoptim.persistence import describe, read, read_group, write
from persistence_records import record, same_record

GROUP = "optimizer_weights"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a good file."""
    path = tmp_path_factory.mktemp("good") / "w.h5"
    write(path, record("Nadam"))
    return path.read_bytes()


def refuses(path: Path, words: str = "") -> None:
    """Assert a ValueError that names the file, whichever way it is read."""
    for way in (read, describe):
        with pytest.raises(ValueError, match=f"(?s){path.name}.*found.*{words}.*"):
            way(path)


def test_cut_anywhere(content: bytes, tmp_path: Path) -> None:
    """No part of a file passes for a file."""
    path = tmp_path / "cut.h5"
    last = range(len(content) - 40, len(content))
    for size in sorted({*range(100), *range(100, len(content), 23), *last}):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"cut\.h5"):
            read(path)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_one_byte_changed(mask: int, content: bytes, tmp_path: Path) -> None:
    """Outside the numbers themselves every change is noticed; in them it stays one number."""
    path, wanted, unnoticed = tmp_path / "w.h5", record("Nadam"), 0
    places = range(mask % 13, len(content), 17)
    for place in places:
        changed = bytearray(content)
        changed[place] ^= mask
        path.write_bytes(changed)
        try:
            found = read(path)
        except ValueError:
            continue
        unnoticed += 1
        assert found.paths == wanted.paths
        assert found.config == wanted.config
        for slot, arrays in wanted.slots.items():
            assert [a.shape for a in found.slots[slot]] == [a.shape for a in arrays]
    data = sum(a.nbytes for arrays in wanted.slots.values() for a in arrays) + 16
    assert unnoticed <= 2 * data / 17 + 4


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "an empty file"),
        (b"weights", "of another kind"),
        (b"PK\x03\x04 but no archive", "of another kind"),
        (bytes(5000), "of another kind"),
    ],
)
def test_other_files(raw: bytes, words: str, tmp_path: Path) -> None:
    """Files that are neither HDF5 nor archives."""
    (tmp_path / "other.h5").write_bytes(raw)
    refuses(tmp_path / "other.h5", words)


def test_no_file(tmp_path: Path) -> None:
    """Nothing there, or a directory."""
    with pytest.raises(FileNotFoundError, match=r"nothing\.h5"):
        read(tmp_path / "nothing.h5")
    with pytest.raises(IsADirectoryError):
        read(str(tmp_path))


def test_other_hdf5(tmp_path: Path) -> None:
    """HDF5 without an optimizer, and a link that ends nowhere."""
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as f:
        f["x"] = 1
        refused = pytest.raises(ValueError, match=r"data\.h5 /: found no optimizer state")
        with refused:
            read_group(f)
    refuses(path, "no optimizer state but .*x")
    with h5py.File(path, "a") as f:
        f[GROUP] = h5py.SoftLink("/nowhere")
    refuses(path)


def renamed(group: Any) -> None:
    del group["Adam/momentum/layers/1/kernel"]


def regrouped(group: Any) -> None:
    del group["Adam/momentum/layers/1/kernel"]
    group.create_group("Adam/momentum/layers/1/kernel")


def attribute(name: str, value: Any, dataset: str = "") -> Callable[[Any], None]:
    """Return a change of one attribute; None deletes it."""

    def change(group: Any) -> None:
        owner = group[dataset] if dataset else group
        if value is None:
            del owner.attrs[name]
        else:
            owner.attrs[name] = value

    return change


def replaced(value: Any, name: str = "Adam/iterations", **how: Any) -> Callable[[Any], None]:
    """Return a change of one dataset's content."""

    def change(group: Any) -> None:
        attributes = dict(group[name].attrs)
        del group[name]
        group.create_dataset(name, data=value, **how).attrs.update(attributes)

    return change


def hollow(layout: str) -> Callable[[Any], None]:
    """Return a change that takes a dataset's content away: HDF5 would read zeros."""

    def change(group: Any) -> None:
        name = "Adam/momentum/layers/0/bias"
        attributes = dict(group[name].attrs)
        del group[name]
        if layout == "virtual":
            made = group.create_virtual_dataset(name, h5py.VirtualLayout((3,), "f4"))
        elif layout == "external":
            made = group.create_dataset(name, (3,), "f4", external=[("elsewhere", 0, 12)])
        else:
            made = group.create_dataset(
                name, (3,), "f4", chunks=(1,) if layout == "chunked" else None
            )
        made.attrs.update(attributes)

    return change


KERNEL = "Adam/momentum/layers/1/kernel"
DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "newer": (attribute("format", 3), "format 3, .*newer"),
    "no format": (attribute("format", "one"), "format: found 'one'"),
    "format 0": (attribute("format", 0), "format: found"),
    "skipped": (attribute("skipped", -1), "skipped: found"),
    "no list": (attribute("weight_names", None), "no attribute weight_names"),
    "no list of extras": (attribute("extra_names", None), "no attribute extra_names"),
    "no list of slots": (attribute("slots", None), "no attribute slots"),
    "a number for a list": (attribute("weight_names", 3), "wanted a list"),
    "a list of numbers": (attribute("weight_names", [3]), "wanted a name"),
    "config": (attribute("config", b"{"), "found a config that is no JSON"),
    "config of another type": (attribute("config", b"[1]"), "found a config of type list"),
    "missing": (renamed, f"no dataset '{KERNEL}'"),
    "a group instead": (regrouped, f"no dataset '{KERNEL}'"),
    "no slot": (attribute("slot", None, KERNEL), f"{KERNEL}: found slot None"),
    "no parameter": (attribute("parameter", None, KERNEL), f"{KERNEL}: found slot 'momentum'"),
    "unknown slot": (attribute("slot", b"norm", KERNEL), "wanted one of the slots momentum"),
    "slot is a number": (attribute("slot", 3, KERNEL), "attribute slot: found"),
    "not a number": (replaced(float("nan")), "iterations: found nan"),
    "infinite": (replaced(float("inf")), "iterations: found inf"),
    "negative": (replaced(-1), "iterations: found -1"),
    "a fraction": (replaced(0.5), "iterations: found 0.5"),
    "beyond int64": (replaced(2.0**63), "iterations: found 9.2"),
    "two counters": (replaced([1, 2]), "wanted one number"),
    "a complex counter": (replaced(1j), "wanted one number"),
    "text": (replaced(b"abc", KERNEL), "wanted numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage(case: str, tmp_path: Path) -> None:
    """Every contradiction is found and said."""
    change, words = DAMAGE[case]
    path = tmp_path / "w.h5"
    write(path, record("Adam"))
    with h5py.File(path, "r+") as f:
        change(f[GROUP])
    for way in (read, describe):
        with pytest.raises(ValueError, match=rf"w\.h5: .*{words}"):
            way(path)


@pytest.mark.parametrize("layout", ["contiguous", "chunked", "virtual", "external"])
def test_content_that_is_not_there(layout: str, tmp_path: Path) -> None:
    """HDF5 reads zeros, or another file, where nothing was written; that is no state."""
    path = tmp_path / "w.h5"
    write(path, record("Adam"))
    with h5py.File(path, "r+") as f:
        hollow(layout)(f[GROUP])
    with pytest.raises(ValueError, match=r"layers/0/bias': found \d+ bytes in the file"):
        read(path)


def test_a_parameter_twice(tmp_path: Path) -> None:
    """Two datasets that claim the same place."""
    path = tmp_path / "w.h5"
    write(path, record("Nadam"))
    with h5py.File(path, "r+") as f:
        f[GROUP]["Nadam/momentum/layers/1/kernel"].attrs["parameter"] = b"layers/0/bias"
    refuses(path, "two arrays of momentum for one")


def test_compressed_by_hand(tmp_path: Path) -> None:
    """Chunks and filters are HDF5's own business."""
    path, wanted = tmp_path / "w.h5", record("Adam")
    write(path, wanted)
    name = "Adam/momentum/layers/0/kernel"
    with h5py.File(path, "r+") as f:
        replaced(wanted.slots["momentum"][0], name, compression="gzip", chunks=(2, 2))(f[GROUP])
    same_record(read(path), wanted)


# Saves that fail.


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_call_that_fails(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the target, which stays as it was, and nothing is left beside it."""
    path = tmp_path / "w.h5"
    write(path, record())

    def fail(*args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=r"Input/output error; left as it was: .*w\.h5"):
        write(path, record(seed=1))
    monkeypatch.undo()
    same_record(read(path), record())
    assert list(tmp_path.iterdir()) == [path]


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from arrayoptim.persistence import Record, read, write
path, refused = Path(sys.argv[1]), 0
slots = {"momentum": [np.ones((30, 20))] * 40}
big = Record("", "SGD", {}, 2, {}, slots, {"momentum": [f"{i}" for i in range(40)]})
for limit in [0, 1, 50, 700, 3_000, 9_000, *range(20_000, 220_000, 9_000)]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write(path, big)
    except OSError as error:
        assert "File too large; left as it was" in str(error), error
        refused += 1
        assert read(path).iterations == 2**40
        assert list(path.parent.iterdir()) == [path]
print(refused)
"""


def run(program: str, path: Path, *options: str) -> str:
    """Run a program over a good file, in a process of its own."""
    write(path, record())
    done = subprocess.run(
        [sys.executable, *options, "-c", program, str(path)],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_full_disk(tmp_path: Path) -> None:
    """Wherever the room ends: an OSError, and HDF5 does not bring the process down."""
    assert int(run(FULL, tmp_path / "w.h5", "-W", "error")) > 20


KILLED = """
import os, random, signal, sys, time
import numpy as np
from arrayoptim.persistence import read, write
from persistence_records import record, same_record
random.seed(0)
path, seen = sys.argv[1], set()
records = [record(seed=seed) for seed in range(50)]
write(path, records[0])
start = time.perf_counter()
for _ in range(4):
    write(path, records[0])
unit = (time.perf_counter() - start) / 4  # how long a save takes here and now
for attempt in range(20):
    child = os.fork()
    if not child:
        while True:
            for each in records[attempt:]:
                write(path, each)
    time.sleep(0.02 + random.uniform(1, 8) * unit)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = read(path)
    seed = found.iterations - 2**40
    same_record(found, record(seed=seed))
    seen.add(seed)
print(len(seen))
"""


@pytest.mark.slow
def test_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any moment, a save leaves the old file or the new one, whole."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path]))
    assert int(run(KILLED, tmp_path / "w.h5", "-W", "ignore")) > 3
