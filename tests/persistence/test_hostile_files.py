"""Files made to harm: they end in a ValueError of one line, soon and without much memory."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.persistence import describe, read
from arrayoptim.persistence.reader import checksum
from call_counts import counted
from optimizers_under_test import same
from places import TESTS

# No file may hang its reader; what takes longer does.
pytestmark = pytest.mark.timeout(120)

GOLDEN = TESTS / "golden" / "h5"
GROUP = "optimizer_weights"


WAYS = (ao.load, describe, read, lambda path: ao.Adam().load_weights(path))


def refused(path: Path, words: str | None = None, ways: Sequence[Any] = WAYS) -> None:
    """Assert a readable ValueError, whichever way the file is read."""
    for way in ways:
        with pytest.raises(ValueError, match=words) as caught:
            way(path)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert message.isprintable()
        assert len(message) < len(str(path)) + 700


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return the file of an optimizer."""
    path = tmp_path / "w.h5"
    optimizer = ao.Adam()
    optimizer.init([np.zeros(2, "f4")])
    optimizer.save_weights(path)
    return path


def damaged_heap(path: Path, change: Callable[[bytearray, int], None]) -> None:
    """Write texts of variable length, and change their heap."""
    with h5py.File(path, "w") as f:
        group = f.create_group(GROUP)
        names = ["Adam/iterations:0", "bb", "ccc"]
        group.attrs.create("weight_names", names, dtype=h5py.string_dtype())
        for name in names:
            group[name] = np.zeros(2)
    raw = bytearray(path.read_bytes())
    change(raw, raw.find(b"GCOL"))
    path.write_bytes(raw)


HEAPS: dict[str, Callable[[bytearray, int], None]] = {
    "sizes that wrap": lambda raw, at: raw.__setitem__(
        slice(at + 40, at + 64), struct.pack("<3Q", *[2**64 - 16] * 3)
    ),
    "sizes of nothing": lambda raw, at: raw.__setitem__(slice(at + 24, at + 32), bytes(8)),
    "a huge collection": lambda raw, at: raw.__setitem__(
        slice(at + 8, at + 16), struct.pack("<Q", 2**62)
    ),
    "an empty collection": lambda raw, at: raw.__setitem__(slice(at + 8, at + 16), bytes(8)),
    "another signature": lambda raw, at: raw.__setitem__(slice(at, at + 4), b"TREE"),
    "one number twice": lambda raw, at: raw.__setitem__(slice(at + 56, at + 58), b"\1\0"),
}  # fmt: skip


@pytest.mark.parametrize("case", HEAPS)
def test_damaged_heaps(case: str, tmp_path: Path) -> None:
    """HDF5's own library goes round for ever in some of these."""
    path = tmp_path / "heap.h5"
    damaged_heap(path, HEAPS[case])
    refused(path)


def replaced(path: Path, shape: tuple[int, ...], fill: bool, **how: Any) -> None:
    """Declare another shape for an array of the state."""
    with h5py.File(path, "a") as f:
        group = f[GROUP]
        name = group.attrs["weight_names"][-1]
        attributes = dict(group[name].attrs)
        del group[name]
        made = group.create_dataset(name, shape, "f4", **how)
        if fill:
            for start in range(0, shape[0], 10**7):
                made[start : start + 10**7] = 0
        else:
            made[0] = 1
        made.attrs.update(attributes)


@pytest.mark.parametrize(
    ("shape", "fill", "how"),
    [
        ((10**12,), False, {"chunks": (10**5,)}),
        ((25 * 10**7,), False, {"chunks": (10**5,)}),
        ((6 * 10**7,), True, {"chunks": (10**6,), "compression": "gzip"}),
    ],
    ids=["beyond memory", "mostly absent", "packed"],
)
def test_more_than_the_file_holds(
    shape: tuple[int, ...], fill: bool, how: dict[str, Any], saved: Path
) -> None:
    """Declared in a few bytes, an array is not made."""
    replaced(saved, shape, fill, **how)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(saved, "bytes in")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_one_dataset_under_many_names(tmp_path: Path) -> None:
    """A file lists an array many times, by one name or by many."""
    path = tmp_path / "many.h5"
    for names in (["x"] * 200, [f"x{i}" for i in range(200)]):
        with h5py.File(path, "w") as f:
            group = f.create_group(GROUP)
            group.attrs["weight_names"] = np.array([n.encode() for n in names])
            group[names[0]] = np.zeros(10**5)
            for name in set(names) - {names[0]}:
                group[name] = group[names[0]]
            config = {"class_name": "Adam", "config": {"lr": 0.1}}
            f.attrs["training_config"] = json.dumps({"optimizer_config": config})
        with counted() as calls:
            refused(path, "wanted each in one of its own")
        assert calls.count < 200 * 5_000


def keras_archive(path: Path, members: dict[str, bytes], **how: Any) -> None:
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_archives(tmp_path: Path) -> None:
    """What is packed too tightly, says another size, or is packed in other ways."""
    path = tmp_path / "m.keras"
    golden = next(iter(sorted(GOLDEN.glob("*.keras"))))
    with zipfile.ZipFile(golden) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    keras_archive(path, members, compression=zipfile.ZIP_DEFLATED)
    assert read(path).iterations == read(golden).iterations
    bomb = bytes(2**28)
    for name in ("model.weights.h5", "config.json"):
        keras_archive(path, members | {name: bomb}, compression=zipfile.ZIP_DEFLATED)
        refused(path, "too tightly")
    keras_archive(path, members, compression=zipfile.ZIP_LZMA)
    refused(path, "wanted deflate")
    keras_archive(path, members | {"config.json": b"[" * 10**5 + b"]" * 10**5})
    refused(path)


def nested(depth: int) -> dict[str, Any]:
    schedule: Any = 0.1
    for _ in range(depth):
        config = {"initial_learning_rate": schedule, "decay_steps": 10}
        schedule = {"class_name": "CosineDecay", "config": config}
    return {"lr": schedule}


def test_lists_in_lists() -> None:
    """Nor do lists within lists, whichever way they come."""
    found: Any = 0.1
    for _ in range(5_000):
        found = [found]
    for config in ({"lr": found}, {"lr": {"a": found}}):
        for way in (
            ao.SGD.from_config,
            ao.Lookahead.from_config,
            ao.schedules.CosineDecay.from_config,
        ):
            with pytest.raises(ValueError, match="deep"):
                way(config)


def test_larger_than_the_parameters(tmp_path: Path) -> None:
    """Where parameters are known, only what fits them is read of a file."""
    path = tmp_path / "large.h5"
    other, own = {"a": np.zeros(4_000_000), "b": np.ones(3)}, {"b": np.ones(3)}
    large = ao.Adam()
    large.apply({"a": None, "b": np.ones(3)}, other)
    large.save_weights(path)
    del large, other
    for strict in (True, False):
        optimizer = ao.Adam()
        optimizer.init(own)
        tracemalloc.start()
        try:
            if strict:
                with pytest.raises(ValueError, match=r"unexpected: momentum of a"):
                    optimizer.load_weights(path)
            else:
                report = optimizer.load_weights(path, strict=False)
                assert report.unexpected == ["momentum of a", "velocity of a"]
                assert report.restored[:2] == ["momentum of b", "velocity of b"]
                assert optimizer.iterations == 1
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()


def test_damage_that_shows_when_it_is_read(saved: Path) -> None:
    """An array is read late, and its damage is told as that of the file."""
    with h5py.File(saved, "a") as f:
        group = f[GROUP]
        (name,) = (n for n in group.attrs["weight_names"].astype(str) if "velocity" in n)
        attributes = dict(group[name].attrs)
        del group[name]
        made = group.create_dataset(name, (2,), "f4", chunks=(2,), compression="gzip")
        made[:] = 0.5
        made.attrs.update(attributes)
        at = made.id.get_chunk_info(0).byte_offset
    raw = bytearray(saved.read_bytes())
    raw[at : at + 8] = b"\xff" * 8
    saved.write_bytes(raw)
    optimizer = ao.Adam()
    optimizer.init([np.zeros(2, "f4")])
    before = [x.copy() for x in optimizer.get_weights()]
    refused(saved, ways=(ao.load, lambda path: optimizer.load_weights(path)))
    same(before, optimizer.get_weights())


@pytest.mark.parametrize("depth", [60, 400, 5_000])
def test_nested_configurations(depth: int, saved: Path) -> None:
    """Schedules within schedules end in words, not in a stack that is full."""
    text = '{"lr": ' + '{"class_name": "Warmup", "config": {"after": ' * depth
    text += "0.1" + "}}" * depth + "}"
    with h5py.File(saved, "a") as f:
        f[GROUP].attrs["config"] = np.bytes_(text) if len(text) < 60_000 else b"{}"
        if len(text) >= 60_000:
            del f[GROUP].attrs["config"]
            for number, start in enumerate(range(0, len(text), 60_000)):
                f[GROUP].attrs[f"config{number}"] = np.bytes_(text[start : start + 60_000])
    refused(saved)
    if depth < 5_000:
        with pytest.raises(ValueError, match="deep"):
            ao.deserialize({"class_name": "Adam", "config": nested(depth)})


def test_deeply_nested_groups(tmp_path: Path) -> None:
    """A model with groups in groups takes no more than its size."""
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as f:
        here = f.create_group("model")
        for _ in range(1_000):
            here = here.create_group("g")
        f["optimizer/vars/0"] = 3
    with counted() as calls:
        refused(path)
    assert calls.count < 1_000 * 1_000


def test_circles(tmp_path: Path) -> None:
    """Groups that contain themselves, links that lead to one another."""
    path = tmp_path / "circle.h5"
    with h5py.File(path, "w") as f:
        f["a/b"] = np.zeros(2)
        f["a/c"] = f["a"]
        f["optimizer_weights"] = h5py.SoftLink("/x")
        f["x"] = h5py.SoftLink("/optimizer_weights")
        f["optimizer/vars/0"] = 3
    refused(path)


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    """A FIFO without a writer, and a device without an end."""
    os.mkfifo(tmp_path / "pipe.h5")
    refused(tmp_path / "pipe.h5", "regular file")
    with pytest.raises(ValueError, match="regular file"):
        ao.load("/dev/zero")


@pytest.mark.parametrize("attribute", ["class_name", "config", "slots"])
def test_what_acts_on_terminals(attribute: str, saved: Path) -> None:
    """Control characters are written as in Python, and what is long is cut."""
    evil = "\x1b]0;owned\x07\u202e\n" + "x" * 50_000
    with h5py.File(saved, "a") as f:
        value: Any = np.bytes_(evil.encode())
        if attribute == "slots":
            value = np.array([evil.encode(), b"velocity"])
        if attribute == "config":
            value = np.bytes_(json.dumps({"lr": evil}).encode())
        f[GROUP].attrs[attribute] = value
    refused(saved, ways=WAYS[:1])
    for options in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "arrayoptim", "inspect", str(saved), *options],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.stdout + done.stderr).replace("\n", "").isprintable()
        assert "Traceback" not in done.stderr


def test_numbers_that_no_double_holds(saved: Path) -> None:
    """Whole numbers of 400 digits, in files, configurations and counters."""
    with h5py.File(saved, "a") as f:
        config = f[GROUP].attrs["config"]
        f[GROUP].attrs["config"] = np.bytes_(config.replace(b"0.001", b"1" + b"0" * 400))
    refused(saved, ways=[WAYS[0], WAYS[3]])
    with pytest.raises(ValueError, match=r"Adam\.lr must be"):
        ao.Adam(lr=10**400)
    optimizer = ao.Adam()
    optimizer.init(np.zeros(2))
    for steps in (2**63, 10**400):
        with pytest.raises(ValueError, match="iterations"):
            optimizer.iterations = steps
    optimizer.iterations = 2**63 - 1


def test_checksums(saved: Path) -> None:
    """Against values that are published, and one that HDF5's own library has written."""
    assert checksum.lookup3(b"") == 0xDEADBEEF
    assert checksum.lookup3(b"Four score and seven years ago") == 0x17770551
    head = saved.read_bytes()[:48]
    assert checksum.verified(head) == head[:44]
    with pytest.raises(ValueError, match="checksum"):
        checksum.verified(head[:-1] + bytes([head[-1] ^ 1]))


@pytest.mark.filterwarnings("ignore")
def test_chance(tmp_path: Path) -> None:
    """Whatever changes in a file, it is read or refused; a torture session tries many more."""
    generator = np.random.default_rng(0)
    files = sorted([*GOLDEN.glob("*.h5"), *GOLDEN.glob("*.keras")])
    path, messages = tmp_path / "w.h5", list[str]()
    for turn in range(300):
        raw = bytearray(files[turn % len(files)].read_bytes())
        for at in generator.integers(0, len(raw) - 8, 1 + turn % 20):
            raw[at : at + 1 + turn % 8] = generator.bytes(1 + turn % 8)
        path.write_bytes(raw)
        for way in (ao.load, describe):
            try:
                way(path)
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > 100
    assert all(text.startswith(str(path)) and text.isprintable() for text in messages)


def test_the_same_as_hdf5(tmp_path: Path) -> None:
    """Groups, attributes and arrays in every form that is read, as h5py reads them."""
    for number, (version, count) in enumerate(
        [
            ("earliest", 3),
            ("earliest", 400),
            ("v108", 7),
            ("v108", 30),
            ("v108", 900),
            ("latest", 20),
        ]
    ):
        path = tmp_path / f"{number}.h5"
        low = "earliest" if version == "earliest" else version
        with h5py.File(path, "w", libver=(low, "latest" if version == "latest" else "v108")) as f:
            _fill(f.create_group("a/b"), count, version != "latest")
        with h5py.File(path) as theirs, path.open("rb") as raw:
            from arrayoptim.persistence.reader import opened

            _same(opened(raw, path.stat().st_size, "x"), theirs)


def _fill(group: Any, count: int, chunks: bool) -> None:
    for place in range(count):
        group[f"x{place}"] = np.arange(place % 7)
        if place < 40:
            group.attrs[f"text{place}"] = "é" * (place * 300 % 5_000)
            group.attrs[f"bytes{place}"] = np.bytes_(b"w" * (place * 1_000 + 1))
            group.attrs[f"list{place}"] = ["a", "bb", "c" * place]
            group.attrs[f"number{place}"] = np.float32(place)
    group["flags"] = np.array([True, False])
    group["complex"] = np.ones(3, "c16")
    group["half"] = np.float16(3)
    group["big"] = np.arange(3, dtype=">f4")
    group["none"] = np.zeros((0, 3))
    group["soft"] = h5py.SoftLink("/a/b/x0")
    data = np.random.default_rng(0).normal(size=(37, 5))
    if chunks:
        group.create_dataset("chunks", data=data, chunks=(4, 3))
        group.create_dataset(
            "packed", data=data, chunks=(7, 2), compression="gzip", shuffle=True, fletcher32=True
        )
    group.create_dataset("whole", data=data, chunks=(37, 5), compression="gzip")


def _same(ours: Any, theirs: Any) -> None:
    assert set(ours.attrs) == set(theirs.attrs)
    for name, value in theirs.attrs.items():
        found = ours.attrs[name]
        if isinstance(value, h5py.Empty):
            assert found == ""
        else:
            assert np.array_equal(np.asarray(found), np.asarray(value)), name
    if isinstance(theirs, h5py.Group):
        assert set(ours) == set(theirs)
        for name in theirs:
            _same(ours[name], theirs[name])
        return
    assert ours.shape == theirs.shape
    assert ours.type.dtype == theirs.dtype
    assert ours.storage.whole()
    found = np.empty(ours.shape, ours.type.dtype)
    ours.storage.read(found)
    assert found.tobytes() == theirs[()].tobytes()


def test_packed_chunks_that_lie(saved: Path) -> None:
    """A chunk that unpacks to more, or to less, than its shape."""
    with h5py.File(saved, "a") as f:
        group = f[GROUP]
        name = group.attrs["weight_names"][-1]
        attributes = dict(group[name].attrs)
        del group[name]
        made = group.create_dataset(name, (2,), "f4", chunks=(2,), compression="gzip")
        made.id.write_direct_chunk((0,), zlib.compress(bytes(10**7)))
        made.attrs.update(attributes)
    for way in (ao.load, read):
        with pytest.raises(ValueError, match="packed chunk"):
            way(saved)
