"""What stands for a file: paths of every kind, file objects, open files of h5py."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arrayoptim as ao

PLACES: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "bytes": os.fsencode,
    "path": lambda path: path,
    "memory": lambda path: io.BytesIO(),
    "temporary": lambda path: tempfile.TemporaryFile(),  # noqa: SIM115
    "open": lambda path: path.open("w+b"),
    "spooled": lambda path: tempfile.SpooledTemporaryFile(),  # noqa: SIM115
    "h5py": lambda path: h5py.File(path, "w"),
    "group": lambda path: h5py.File(path, "w").create_group("model/run 1"),
    "core": lambda path: h5py.File(path, "w", driver="core", backing_store=False),
}


def trained() -> tuple[Any, np.ndarray]:
    """Return an optimizer that has taken a step, and its parameter."""
    optimizer, params = ao.Adam(lr=0.25), np.linspace(-1.0, 1.0, 5)
    optimizer.apply(np.cos(params), params)
    return optimizer, params


@pytest.mark.parametrize("kind", PLACES)
def test_places(kind: str, tmp_path: Path) -> None:
    """What is saved to one is read from there, by every way in."""
    place = PLACES[kind](tmp_path / "state.h5")
    optimizer, params = trained()
    optimizer.save_weights(place)
    for load in (ao.load, lambda where: _into(ao.Adam(), where)):
        if hasattr(place, "seek"):
            place.seek(0)
        again, twin, here = load(place), params.copy(), params.copy()
        assert again.lr == 0.25
        again.apply(np.cos(twin), twin)
        other = _into(ao.Adam(), tmp_path / "plain.h5", optimizer)
        other.apply(np.cos(here), here)
        assert np.array_equal(twin, here)
        assert again.iterations == 2
    for owner in (place, getattr(place, "file", None)):
        if hasattr(owner, "close"):
            owner.close()


def _into(optimizer: Any, place: Any, saved: Any = None) -> Any:
    """Load into an optimizer, from where another is saved first if there is one."""
    if saved is not None:
        saved.save_weights(place)
    optimizer.load_weights(place)
    return optimizer


def test_from_where_a_file_stands(tmp_path: Path) -> None:
    """A file object keeps what is before, and one that is at its end is named."""
    optimizer, _ = trained()
    memory = io.BytesIO(b"header")
    memory.seek(6)
    optimizer.save_weights(memory)
    with pytest.raises(ValueError, match=r"is at its end; seek\(0\)"):
        ao.load(memory)
    memory.seek(6)
    assert ao.load(memory).iterations == 1
    memory.seek(0)
    with pytest.raises(ValueError, match=r"^this BytesIO: ") as caught:
        ao.load(memory)
    assert tempfile.gettempdir() not in str(caught.value)


def test_what_stands_for_no_file(tmp_path: Path) -> None:
    """It is refused with what would do, and nothing is written."""
    optimizer, _ = trained()
    for place in (None, 3, ["state.h5"], object()):
        for way in (optimizer.save_weights, optimizer.load_weights, ao.load):
            with pytest.raises(TypeError, match=r"wanted a path, a file open in binary mode, or"):
                way(place)
    for way, mode in ((optimizer.save_weights, "w"), (ao.load, "r")):
        with (
            (tmp_path / "text").open(mode) as text,
            pytest.raises(TypeError, match="wanted one open in binary mode"),
        ):
            way(text)
    with h5py.File(tmp_path / "own.h5", "w") as file:
        optimizer.save_weights(file)
        with pytest.raises(FileExistsError, match="optimizer_weights"):
            optimizer.save_weights(file, overwrite=False)


def test_a_closed_file_of_h5py(tmp_path: Path) -> None:
    """It is told as that, whether it is to be read or written."""
    optimizer, _ = trained()
    with h5py.File(tmp_path / "own.h5", "w") as file:
        optimizer.save_weights(file)
        inner = file["optimizer_weights"]
    for place in (file, inner):
        for way in (optimizer.save_weights, optimizer.load_weights, ao.load):
            with pytest.raises(ValueError, match=r"Closed HDF5 .*, wanted a file or group that"):
                way(place)


def test_a_checkpoint_by_its_bytes(tmp_path: Path) -> None:
    """A whole minimization takes a path as bytes as well."""
    path = os.fsencode(tmp_path / "run.h5")
    for steps in (2, 4):
        found = ao.minimize(lambda x: (x @ x, 2 * x), np.ones(2), "SGD", steps, checkpoint=path)
    assert found.steps == 4
    assert os.fsdecode(path).endswith("run.h5")
    assert (tmp_path / "run.h5").exists()
