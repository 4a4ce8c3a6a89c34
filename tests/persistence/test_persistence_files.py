"""Files written here: read back bit for bit, and readable by Keras 2.0."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from arrayoptim.persistence import Record, describe, read, read_group, write, write_group
from persistence_records import PATHS, SLOTS, bits, one, record, same_record

KEPT_BY_KERAS = {
    "SGD": ["iterations", "momentum"],
    "RMSprop": ["velocity"],
    "Adagrad": ["accumulator"],
    "Adadelta": ["accumulated_grad", "accumulated_delta_var"],
    "Adam": ["iterations", "momentum", "velocity"],
    "Adamax": ["iterations", "momentum", "norm"],
    "Nadam": ["iterations", "momentum", "velocity"],
    "Homemade": ["iterations", "first", "second"],
}


def back(wanted: Record, folder: Path) -> Record:
    """Write and read."""
    write(folder / "w.h5", wanted)
    return read(folder / "w.h5")


@pytest.mark.parametrize("class_name", SLOTS)
def test_round_trip(class_name: str, tmp_path: Path) -> None:
    """All that a record says comes back, slots in their order."""
    wanted = record(class_name)
    found = back(wanted, tmp_path)
    same_record(found, wanted)
    assert list(found.slots) == list(wanted.slots)
    assert found.source == "arrayoptim 1"
    assert found.notes == []


@pytest.mark.parametrize("class_name", SLOTS)
def test_keras_2_reads_it(class_name: str, tmp_path: Path) -> None:
    """The lines of Keras 2.0.9's load_model give what its set_weights takes."""
    wanted = record(class_name)
    write(tmp_path / "w.h5", wanted)
    with h5py.File(tmp_path / "w.h5", mode="r") as f:
        group = f["optimizer_weights"]
        names = [n.decode("utf8") for n in group.attrs["weight_names"]]
        values = [np.asarray(group[n]) for n in names]
    expected: list[np.ndarray] = []
    for kept in KEPT_BY_KERAS[class_name]:
        expected += [np.array(wanted.iterations)] if kept == "iterations" else wanted.slots[kept]
    assert list(map(bits, values)) == list(map(bits, expected))


def specials() -> list[np.ndarray]:
    """Arrays that a careless way through a file would change."""
    payloads = np.array([0x7FF8000000000001, 0xFFF0000000000123, 1, 1 << 63], np.uint64)
    made = [
        payloads.view(np.float64),
        payloads.view(np.uint32).view(np.float32),
        payloads.view(np.uint16).view(np.float16),
        payloads.view(np.complex128),
        payloads.view(np.float32).view(np.complex64),
        np.zeros((0, 3), np.float32),
        np.zeros(()),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10.0)[::-2],
        np.arange(3.0, dtype=">f4"),
        np.array([True, False]),
        np.array([1, 2], np.uint16),
        np.broadcast_to(np.float32(3), (4,)),
        np.zeros((1, 2, 1, 0, 5), np.float16),
    ]
    made[0].setflags(write=False)
    return made


@pytest.mark.parametrize("place", range(len(specials())))
def test_bits(place: int, tmp_path: Path) -> None:
    """NaN payloads, byte order, no axes, no elements, any strides."""
    array = specials()[place]
    assert bits(back(one(array), tmp_path).slots["momentum"][0]) == bits(array)


@pytest.mark.parametrize("shape", [(), (0,), (3, 5)])
def test_bfloat16(shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored as uint16 with its name beside it; without ml_dtypes read as the same numbers."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.random.default_rng(0).integers(0, 2**16, shape, np.uint16).view(ml_dtypes.bfloat16)
    assert bits(back(one(array), tmp_path).slots["momentum"][0]) == bits(array)
    with h5py.File(tmp_path / "w.h5") as f:
        stored = f["optimizer_weights/SGD/momentum/w"]
        assert (stored.dtype, stored.attrs["dtype"]) == (np.uint16, b"bfloat16")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    found = read(tmp_path / "w.h5").slots["momentum"][0]
    assert bits(found) == bits(array.astype(np.float32))


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.zeros(2, "M8[s]")])
def test_what_is_no_number(array: np.ndarray, tmp_path: Path) -> None:
    """Nothing is pickled."""
    with pytest.raises(ValueError, match="found data type"):
        write(tmp_path / "w.h5", one(array))
    assert list(tmp_path.iterdir()) == []


TREES = [
    [""],
    ["", "~empty", "value", "."],
    ["/", "/a", "a/", "./", "b//c"],
    [".", "..", "a/.", "b/..", "~dot", "~0dot"],
    ["a/b", "a~1b", "a~01b", "A/b"],
    ["\0", "a\0", "~x0000", "~0x0000", "\ud800", "\udfff/x", "~xd800", "~~x~"],
    ["Schlüssel/雪", "🙂" * 300, " ", "x" * 5000],
]


@pytest.mark.parametrize("paths", TREES, ids=range(len(TREES)))
def test_names(paths: list[str], tmp_path: Path) -> None:
    """Any path, none confused with another."""
    arrays = [np.array(float(i)) for i in range(len(paths))]
    wanted = record("SGD", slots={"momentum": arrays}, paths={"momentum": paths})
    same_record(back(wanted, tmp_path), wanted)


@pytest.mark.parametrize("class_name", ["", ".", "a/b", "Ünï\0code"])
def test_class_and_slot_names(class_name: str, tmp_path: Path) -> None:
    """Names of classes, slots and scalars may be anything too."""
    arrays = {name: [np.zeros(2)] for name in ["", ".", "a/b", "a", "~0"]}
    wanted = record(
        class_name="Homemade",
        slots=arrays,
        paths={name: ["p"] for name in arrays},
        scalars={"/": 1},
    )
    wanted.class_name = class_name
    same_record(back(wanted, tmp_path), wanted)


def test_many_parameters(tmp_path: Path) -> None:
    """Names beyond 64 KiB are split as Keras 2.2 does, a large config too."""
    paths = [f"{i:04}" + "x" * 1500 for i in range(100)]
    arrays = [np.full(2, i, np.float32) for i in range(100)]
    slots, both = ("momentum", "velocity"), {}
    both["slots"], both["paths"] = dict.fromkeys(slots, arrays), dict.fromkeys(slots, paths)
    wanted = record("Adam", config={"table": [0.1] * 40_000, "lr": 0.1}, **both)
    same_record(back(wanted, tmp_path), wanted)
    with h5py.File(tmp_path / "w.h5") as f, h5py.File(tmp_path / "old.h5", "w") as old:
        attributes = f["optimizer_weights"].attrs
        assert {"weight_names0", "weight_names4", "config0", "config1"} <= set(attributes)
        assert not {"weight_names", "config"} & set(attributes)
        assert all(value.nbytes <= 64512 for value in attributes.values())
        write_group(old, wanted)
        same_record(read_group(old), wanted)


def test_config(tmp_path: Path) -> None:
    """Strict JSON: infinities survive, a schedule becomes a note, nothing is called."""
    config = {
        "a": float("inf"), "b": -float("inf"), "c": -0.0, "d": 5e-324, "e": True, "f": "é\0\ud800",
        "g": [1, [None]], "h": {"x": {"y": 1e400}}, "i": 2**70, "j": {"nonfinite": "other"},
    }  # fmt: skip
    found = back(record(config=config), tmp_path)
    assert repr(found.config) == repr(config)
    numbers = {"a": np.float32(0.1), "b": np.int64(3), "c": np.bool_(True), "d": (1, 2)}
    found = back(record(config=numbers), tmp_path)
    assert found.config == {"a": float(np.float32(0.1)), "b": 3, "c": True, "d": [1, 2]}
    found = back(record(config={"lr": np.sin, "b": os.getcwd, "c": {1}}), tmp_path)
    assert found.config is not None
    assert found.config["b"] == {"unserializable": "posix.getcwd"}
    assert found.config["c"] == {"unserializable": "builtins.set"}
    assert [note for note in found.notes if "lr" in note and "no file holds" in note]
    nan = back(record(config={"lr": float("nan")}), tmp_path).config
    assert nan is not None
    assert np.isnan(nan["lr"])


@pytest.mark.parametrize("missing", ["iterations", "config", "class_name", "slots"])
def test_what_a_record_lacks(missing: str, tmp_path: Path) -> None:
    """None stays None, and a slot without parameters stays a slot."""
    wanted = record("SGD")
    if missing == "slots":
        wanted.slots, wanted.paths = {"momentum": []}, {"momentum": []}
    else:
        setattr(wanted, missing, None)
    same_record(back(wanted, tmp_path), wanted)


BAD = [
    ({"paths": {"momentum": PATHS[:2]}}, "3 arrays and 2 parameter paths"),
    ({"paths": {"momentum": ["a", "b", "a"]}}, "momentum: .* path more than once"),
    ({"paths": {"momentum": ["a", "b", "a/c"]}}, "SGD/momentum/a more than once"),
    ({"scalars": {"momentum": 1.0}}, "momentum.* more than once"),
    ({"scalars": {"iterations": 1.0}}, "iterations more than once"),
    ({"iterations": -1}, "iterations: found -1"),
    ({"skipped": -1}, "skipped: found -1"),
    ({"class_name": "x" * 70_000}, "wanted at most"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_contradictory_records(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """What could not be read back is not written."""
    wanted = record("SGD")
    for name, value in changes.items():
        setattr(wanted, name, value)
    with pytest.raises(ValueError, match=words):
        write(tmp_path / "w.h5", wanted)
    assert list(tmp_path.iterdir()) == []


def test_one_array_at_a_time(tmp_path: Path) -> None:
    """Functions are called in turn, and what they give is let go."""
    alive = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def lazy(i: int) -> np.ndarray:
        nonlocal alive
        alive += 1
        assert alive <= 2
        return np.full(1000, float(i)).view(Counted)

    arrays: list[Any] = [lambda i=i: lazy(i) for i in range(5)]
    paths = {"momentum": [str(i) for i in range(5)]}
    write(tmp_path / "w.h5", record("SGD", slots={"momentum": arrays}, paths=paths))
    assert [a[7] for a in read(tmp_path / "w.h5").slots["momentum"]] == [0, 1, 2, 3, 4]


def test_describe(tmp_path: Path) -> None:
    """As read, with shapes and data types for arrays."""
    wanted = record("Nadam")
    write(tmp_path / "w.h5", wanted)
    found = describe(tmp_path / "w.h5")
    outlines = [(a.shape, a.dtype, a.nbytes) for a in found.slots["velocity"]]
    assert outlines == [(a.shape, a.dtype, a.nbytes) for a in wanted.slots["velocity"]]
    found.slots = wanted.slots
    same_record(found, wanted)


def test_h5py_comes_late() -> None:
    """Importing the package does not import h5py."""
    program = "import sys, arrayoptim.persistence; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
