"""Every format that was ever written is read, and what is read can be written again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.persistence import (
    describe,
    own_format,
    packed,
    read,
    read_group,
    write,
    write_group,
)
from call_counts import counted
from persistence_records import record, same_record
from places import TESTS

FORMATS = TESTS / "formats"
"""Files as they were written when their format was the newest; none is ever written anew."""

GOLDEN = TESTS / "golden" / "h5"


def kept(bfloat16: bool = False) -> Any:
    """Return the record that is in each of the files."""
    paths = ["a", "b/0", "b/1", "é"]
    shapes: list[tuple[int, ...]] = [(3, 2), (), (0,), (5,)]
    slots = {
        slot: [np.full(shape, k + 10 * place, "f4") for k, shape in enumerate(shapes)]
        for place, slot in enumerate(["momentum", "velocity"])
    }
    return record(
        "Adam",
        config={"lr": 0.25, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 1e-8, "decay": 0.0},
        scalars={},
        slots=slots,
        paths=dict.fromkeys(slots, paths),
        skipped=3,
    )


@pytest.mark.parametrize("number", [1, 2])
def test_formats(number: int) -> None:
    """Read for ever, and looked at."""
    path = FORMATS / f"format_{number}.h5"
    found = read(path)
    assert found.source == f"arrayoptim {number}"
    same_record(found, kept())
    assert [x.shape for x in describe(path).slots["velocity"]] == [(3, 2), (), (0,), (5,)]
    optimizer = ao.load(path)
    optimizer.init({"a": np.zeros((3, 2), "f4"), "b": [np.zeros((), "f4"), np.zeros(0, "f4")]} | {
        "é": np.zeros(5, "f4")
    })  # fmt: skip
    assert optimizer.lr == 0.25


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have few arrays count as many, and small ones as large."""
    monkeypatch.setattr(own_format, "MANY", 3)
    monkeypatch.setattr(packed, "SMALL", 20)
    monkeypatch.setattr(packed, "FULL", 50)
    monkeypatch.setattr(packed, "AT_ONCE", 2)


@pytest.mark.usefixtures("few")
def test_packed(tmp_path: Path) -> None:
    """Arrays of every type come back bit by bit, large ones beside the packed."""
    names = ["f2", "f4", "f8", "c8", "c16", "i4", "u1", "?"]
    arrays = [np.ones(k, name) for k, name in enumerate([*names, *names])]
    slots = {"momentum": arrays, "velocity": arrays[::-1]}
    paths = {slot: [f"p/{k}/\0~" for k in range(len(arrays))] for slot in slots}
    wanted = record("Adam", scalars={"x": 2.0}, slots=slots, paths=paths)
    path = tmp_path / "w.h5"
    write(path, wanted)
    found = read(path)
    assert found.source == "arrayoptim 2"
    for slot, column in slots.items():
        named = dict(zip((found.paths or {})[slot], found.slots[slot], strict=True))
        for place, array in zip(paths[slot], column, strict=True):
            assert named[place].dtype == array.dtype
            assert named[place].tobytes() == array.tobytes()
    with h5py.File(tmp_path / "x.h5", "w") as f:
        write_group(f, wanted)
        assert read_group(f).scalars == {"x": 2.0}
    for chosen in (1, 2):
        write(tmp_path / f"{chosen}.h5", kept())


def index(change: Any) -> Any:
    def changed(group: Any) -> None:
        found = json.loads(group["packed/index"][()].tobytes())
        new = change(found) or found
        del group["packed/index"]
        group["packed/index"] = np.frombuffer(json.dumps(new).encode(), np.uint8)

    return changed


INDEXES: dict[str, Any] = {
    "none": lambda group: group.__delitem__("packed/index"),
    "no JSON": lambda group: group["packed/index"].__setitem__(0, 0),
    "a list": index(lambda found: [1]),
    "another shape": index(lambda found: found["tables"][0]["shapes"].__setitem__(0, [7])),
    "a shape that is none": index(lambda found: found["tables"][0]["shapes"].__setitem__(0, [-1])),
    "text for a shape": index(lambda found: found["tables"][0]["shapes"].__setitem__(0, "ab")),
    "a number for a path": index(lambda found: found["tables"][0]["paths"].__setitem__(0, 1)),
    "fewer paths": index(lambda found: found["tables"][0]["paths"].pop()),
    "another slot": index(lambda found: found["columns"][0].__setitem__("slot", "norm")),
    "another table": index(lambda found: found["columns"][0].__setitem__("table", 99)),
    "one column twice": index(lambda found: found["columns"].append(found["columns"][0])),
    "one path twice": index(lambda found: found["tables"][0]["paths"].__setitem__(0, "é")),
    "nested": index(lambda found: found.__setitem__("tables", json.loads("[" * 500 + "]" * 500))),
}


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_lies(case: str, tmp_path: Path) -> None:
    """It is refused before anything changes."""
    path = tmp_path / "w.h5"
    path.write_bytes((FORMATS / "format_2.h5").read_bytes())
    with h5py.File(path, "r+") as f:
        INDEXES[case](f["optimizer_weights"])
    for way in (read, describe):
        with pytest.raises(ValueError, match=r"w\.h5: .*found"):
            way(path)


def saved_and_loaded(count: int, path: Path) -> int:
    """Return how many calls it takes to save and load so many arrays; check what is loaded."""
    optimizer = ao.Adam()
    optimizer.init([np.full(4, k, "f4") for k in range(count)])
    with counted() as calls:
        optimizer.save_weights(path)
        found = ao.load(path)
    found.init([np.zeros(4, "f4") for _ in range(count)])
    assert all(np.array_equal(a, b) for a, b in zip(optimizer.weights, found.weights, strict=True))
    return calls.count


def test_many_small_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes little more than it holds, and no more work where there are more of them."""
    monkeypatch.setattr(own_format, "MANY", 100)
    few, many = (saved_and_loaded(count, tmp_path / f"{count}.h5") for count in (1_000, 3_000))
    assert (many - few) / 2_000 < 100
    assert many / 3_000 <= few / 1_000
    assert (tmp_path / "3000.h5").stat().st_size / 3_000 < 150


# From one file to another, without the parameters.


def stepped(optimizer: Any) -> Any:
    params = {"a": np.ones((3, 2), "f4"), "b": np.ones(4, "f4")}
    for step in range(3):
        optimizer.apply({k: np.sin(p + step) for k, p in params.items()}, params)
    return optimizer


@pytest.mark.parametrize("name", [*ao.names(), "Lookahead", "GradientAccumulation"])
def test_written_again(name: str, tmp_path: Path) -> None:
    """A file that was read is written as it was."""
    inner = {"inner": "Adam"} if name not in ao.names() else {}
    optimizer = stepped(ao.get({"class_name": name, "config": inner}))
    optimizer.save_weights(tmp_path / "a.h5")
    loaded = ao.load(tmp_path / "a.h5")
    loaded.save_weights(tmp_path / "b.h5")
    same_record(read(tmp_path / "b.h5"), read(tmp_path / "a.h5"))
    assert len(loaded.get_weights()) == len(optimizer.get_weights())


def test_to_another_type(tmp_path: Path) -> None:
    """State of 32 bits becomes one of 16, as if it had been stored so."""
    from ml_dtypes import bfloat16

    stepped(ao.Adam()).save_weights(tmp_path / "a.h5")
    loaded = ao.load(tmp_path / "a.h5")
    loaded.state_dtype = "bfloat16"
    loaded.save_weights(tmp_path / "b.h5")
    before, after = read(tmp_path / "a.h5"), read(tmp_path / "b.h5")
    for slot, arrays in before.slots.items():
        for old, new in zip(arrays, after.slots[slot], strict=True):
            assert new.dtype == bfloat16
            assert np.array_equal(old.astype(bfloat16), new)
    again = ao.load(tmp_path / "b.h5")
    again.init({"a": np.zeros((3, 2), "f4"), "b": np.zeros(4, "f4")})
    assert again.state_dtype == "bfloat16"
    loaded.state_dtype = "int8"
    with pytest.raises(ValueError, match="wanted uint8; call init"):
        loaded.save_weights(tmp_path / "c.h5")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["keras2_tf_5_adam.h5", "keras2_th_7_nadam.h5", "keras3_7_adam.h5"]
)
def test_from_keras(name: str, tmp_path: Path) -> None:
    """Keras's arrays, in the order of the parameters, become a file of this library."""
    loaded = ao.load(GOLDEN / name)
    loaded.save_weights(tmp_path / "a.h5")
    theirs, ours = read(GOLDEN / name), read(tmp_path / "a.h5")
    assert ours.source == "arrayoptim 1"
    assert ours.paths is None
    shapes = [x.shape for x in next(iter(theirs.slots.values()))]
    params = {f"p{k:02}": np.zeros(shape, "f4") for k, shape in enumerate(shapes)}
    again = ao.load(tmp_path / "a.h5")
    loaded.init(params)
    again.init(params)
    assert again.iterations == loaded.iterations
    for one, other in zip(loaded.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(one, other)
