"""The recorded files of Keras 2, Keras 3 and natural_bm, and broken ones of natural_bm."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from arrayoptim.persistence import Record, describe, keras2_saves_iterations, opening, read
from persistence_records import bits
from places import TESTS

FOLDER = TESTS / "golden" / "h5"
RULES = {"_moment": "momentum", "_ms": "momentum", "_vs": "velocity"}


def index(name: str) -> list[dict[str, Any]]:
    """Return the index of one writer."""
    return json.loads((FOLDER / f"h5_index_{name}.json").read_text())


def recorded(entry: dict[str, Any]) -> list[np.ndarray]:
    """Return the optimizer's weights at the time of saving."""
    npz = np.load(FOLDER / entry["npz"])
    return [npz[f"opt/{k}"] for k in range(sum(key.startswith("opt/") for key in npz.files))]


def slot_by_slot(record: Record, counter: type | None = None) -> list[np.ndarray]:
    """Return what a record holds in one list."""
    head = [] if record.iterations is None else [np.array(record.iterations, counter)]
    return [*head, *(array for arrays in record.slots.values() for array in arrays)]


KERAS_2 = index("keras2_tf") + index("keras2_th")
WITH = [e for e in KERAS_2 if e.get("class_name", "TFOptimizer") != "TFOptimizer"]
WITHOUT = [e for e in KERAS_2 if e not in WITH]


@pytest.mark.parametrize("entry", WITH, ids=lambda e: e["file"])
def test_keras_2(entry: dict[str, Any]) -> None:
    """All weights in the order of the list, with the class and its hyperparameters."""
    found = read(FOLDER / entry["file"])
    listing = {item["path"]: item for item in entry["listing"]}
    names = listing["/optimizer_weights"]["attrs"]["weight_names"]["value"]
    outlines = [listing[f"/optimizer_weights/{name}"] for name in names]
    ours = slot_by_slot(found, np.int64)
    assert [(list(a.shape), str(a.dtype)) for a in ours] == [
        (item["shape"], item["dtype"]) for item in outlines
    ]
    if "npz" in entry:
        assert list(map(bits, ours)) == list(map(bits, recorded(entry)))
        assert found.config == entry["get_config"]
    assert (found.source, found.class_name) == ("keras 2", entry["class_name"])
    assert (found.paths, found.scalars, found.skipped) == (None, {}, 0)
    counted = keras2_saves_iterations(entry["class_name"])
    assert (found.iterations is not None) == counted
    lost = (not counted) + (entry["class_name"] == "Nadam")
    assert len(found.notes) == lost


@pytest.mark.parametrize("entry", WITHOUT, ids=lambda e: e["file"])
def test_keras_2_without_state(entry: dict[str, Any]) -> None:
    """What kind of file it is instead."""
    wanted = "never trained" if "never" in entry["file"] else "include_optimizer=False.*TFOptimizer"
    for way in (read, describe):
        with pytest.raises(ValueError, match=rf"{entry['file']}: found .*{wanted}"):
            way(FOLDER / entry["file"])


@pytest.mark.parametrize("entry", index("natural_bm"), ids=lambda e: e["file"])
def test_natural_bm(entry: dict[str, Any]) -> None:
    """Slots by the ends of names; the counter, a float there, is whole."""
    found = read(FOLDER / entry["file"])
    assert list(map(bits, slot_by_slot(found, np.float32))) == list(map(bits, recorded(entry)))
    assert found.source == "natural_bm"
    assert found.class_name == ("SGD" if entry["class_name"] == "SGD" else None)
    assert type(found.iterations) is int
    assert ", ".join(entry["param_names"]) in found.notes[0]
    assert found.config is None
    listing = {item["path"]: item for item in entry["listing"]}
    names = [name for name in entry["opt_weight_names"] if name != "iterations"]
    outlines = [tuple(listing[f"/{name}/{name}"]["shape"]) for name in names]
    assert [a.shape for arrays in found.slots.values() for a in arrays] == outlines
    assert list(found.slots) == list(dict.fromkeys(RULES[n[n.rindex("_") :]] for n in names))


def member(path: Path, folder: Path) -> Path:
    """Take the weights file out of a .keras file."""
    target = folder / "model.weights.h5"
    target.write_bytes(zipfile.ZipFile(path).read("model.weights.h5"))
    return target


@pytest.mark.parametrize("kind", ["h5", "keras", "weights"])
@pytest.mark.parametrize("entry", index("keras3"), ids=lambda e: e["file_h5"])
def test_keras_3(entry: dict[str, Any], kind: str, tmp_path: Path) -> None:
    """Every variable in the slot of its name."""
    path = FOLDER / entry["file_h5" if kind == "h5" else "file_keras"]
    found = read(member(path, tmp_path) if kind == "weights" else path)
    slots: dict[str, list[Any]] = {}
    variables = zip(entry["optimizer_variables"], recorded(entry), strict=True)
    for variable, value in variables:
        name = variable["name"]
        if name == "iteration":
            assert found.iterations == value
        elif name == "learning_rate":
            assert found.config is not None
            assert np.float32(found.config["learning_rate"]) == value
        elif name == "variable":
            assert np.float32(found.scalars["m_schedule"]) == value
        else:
            slot = name.partition("kernel_")[2] or name.partition("bias_")[2]
            slots.setdefault(slot, []).append(bits(value))
    assert {slot: list(map(bits, arrays)) for slot, arrays in found.slots.items()} == slots
    assert (found.source, found.class_name) == ("keras 3", entry["class_name"])
    assert found.paths is None
    if kind != "weights":
        assert found.config == entry["get_config"]
    kept = (kind == "weights") + (not slots)
    assert len(found.notes) == kept


def test_a_large_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are unpacked into a file, and read as those in memory."""
    (path,) = [FOLDER / e["file_keras"] for e in index("keras3") if e["class_name"] == "Adam"][:1]
    small = read(path)
    monkeypatch.setattr(opening, "IN_MEMORY", 0)
    large = read(path)
    assert small.slots.keys() == large.slots.keys()
    assert any(small.slots.values())
    for slot, arrays in small.slots.items():
        assert list(map(bits, arrays)) == list(map(bits, large.slots[slot]))


def natural(path: Path, names: list[str], inside: list[str] | None = None) -> Path:
    """Write a file as natural_bm's save_weights does."""
    with h5py.File(path, "w") as f:
        f.attrs["weights"] = [name.encode() for name in names]
        for name, inner in zip(names, inside or names, strict=True):
            group = f.create_group(name)
            group.attrs["weight_names"] = [inner.encode()]
            group[inner] = np.float32(3) if name == "iterations" else np.ones(2, np.float32)
    return path


NATURAL = [
    ([], "before get_updates"),
    (["iterations"], "before get_updates"),
    (["iterations", "a_ms", "a_vs", "b_ms", "b_vs"], "slot by slot"),
    (["iterations", "a_ms", "b_ms", "a_vs"], "3 slot arrays"),
    (["iterations", "a_rms"], "found weight 'a_rms'"),
]


@pytest.mark.parametrize(("names", "words"), NATURAL)
def test_natural_bm_misfits(names: list[str], words: str, tmp_path: Path) -> None:
    """An empty file, and names in another order."""
    with pytest.raises(ValueError, match=words):
        read(natural(tmp_path / "w.h5", names))


def test_natural_bm_names(tmp_path: Path) -> None:
    """Names nest, and may be anything that ends as they should."""
    found = read(natural(tmp_path / "w.h5", ["iterations", "a/b_moment", "_ms_moment"]))
    assert (found.iterations, len(found.slots["momentum"])) == (3, 2)
    with h5py.File(tmp_path / "w.h5", "r+") as f:
        del f["a"]
    with pytest.raises(ValueError, match="found no group 'a/b_moment'"):
        read(tmp_path / "w.h5")
