"""Reading: finding out what kind of file it is, and what is wrong with it."""

from __future__ import annotations

import io
import json
import os
import posixpath
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.keras import identified
from . import keras2 as _keras2
from . import keras3 as _keras3
from . import natural_bm as _natural_bm
from . import own as _own
from .hdf5 import get_names, get_text
from .layout import Shapes
from .own import GROUP
from .record import Record
from .stored import Stored

ZIP = b"PK\x03\x04"
MEMBER = "model.weights.h5"
# What h5py, zipfile and json raise on damaged files, besides ValueError.
BROKEN = (
    OSError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(path: str | os.PathLike[str]) -> Record:
    """Read the optimizer state in a file.

    Parameters
    ----------
    path : str or Path
        A file of this library, of Keras 2 (``.h5``), of Keras 3 (``.h5``, ``.keras`` or
        ``.weights.h5``) or of natural_bm.

    Returns
    -------
    Record
        All that the file says, arrays included; arrays from elsewhere under our names of slots.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, of another kind, newer, or without an optimizer's state.
    """
    with _opened(Path(path)) as (root, optimizer):
        return replace(_interpret(root, optimizer).loaded(), origin=str(path))


def read_beside(path: str | os.PathLike[str], name: str) -> Record:
    """Read a record that `write` put beside the optimizer's.

    Parameters
    ----------
    path : str or Path
        The file.
    name : str
        The record's name.

    Returns
    -------
    Record
        As from `read`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, of another kind, newer, or without that record.
    """
    with _opened(Path(path)) as (root, _):
        if name not in root:
            raise ValueError(f"found {', '.join(root) or 'nothing'}, wanted a group {name} too")
        return replace(_own.interpret(root[name]).loaded(), origin=str(path))


def describe(path: str | os.PathLike[str]) -> Record:
    """Read all but the arrays.

    Parameters
    ----------
    path : str or Path
        As for `read`.

    Returns
    -------
    Record
        As from `read`, with objects that have ``shape``, ``dtype`` and ``nbytes`` for arrays.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        As for `read`.
    """
    with _opened(Path(path)) as (root, optimizer):
        return _interpret(root, optimizer)


def read_group(group: Any) -> Record:
    """Read the optimizer state in an open HDF5 file.

    Parameters
    ----------
    group : h5py.Group
        A file or group with the child ``optimizer_weights``, or that child; the root of a Keras 3
        ``.weights.h5`` or natural_bm file.

    Returns
    -------
    Record
        As from `read`.

    Raises
    ------
    ValueError
        As for `read`.
    """
    origin = f"{group.file.filename} {group.name}"
    with _blaming(origin):
        return replace(_interpret(group, None).loaded(), origin=origin)


@contextmanager
def _blaming(where: str) -> Iterator[None]:
    """Say in every error which file it was."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    except BROKEN as error:
        raise ValueError(
            f"{where}: found something that cannot be read ({type(error).__name__}: {error}), "
            "wanted a whole HDF5 or .keras file: it is truncated, damaged or of another kind"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file; give its root, and Keras 3's description of the optimizer if beside it."""
    import h5py

    with path.open("rb") as raw, _blaming(str(path)):
        start = raw.read(len(ZIP))
        raw.seek(0)
        if not start:
            raise ValueError("found an empty file, wanted an HDF5 or .keras file")
        content, optimizer = _unpacked(raw) if start == ZIP else (raw, None)
        with h5py.File(content, "r") as root:
            yield root, optimizer


def _unpacked(raw: Any) -> tuple[Any, Any]:
    with zipfile.ZipFile(raw) as archive:
        names = archive.namelist()
        if MEMBER not in names:
            raise ValueError(f"found an archive of {names[:5]}, wanted {MEMBER} in it")
        config = json.loads(archive.read("config.json")) if "config.json" in names else {}
        compiled = config.get("compile_config") or {}
        return io.BytesIO(archive.read(MEMBER)), compiled.get("optimizer")


def _interpret(root: Any, optimizer: Any) -> Record:
    if posixpath.basename(root.name or "") == GROUP:
        return _weights_group(root, root.parent)
    if GROUP in root:
        return _weights_group(root[GROUP], root)
    if "weights" in root.attrs:
        return _natural_bm.interpret(root)
    if "optimizer/vars" in root:
        return _keras_3(root, optimizer)
    raise ValueError(_nothing(root))


def _weights_group(group: Any, parent: Any) -> Record:
    if "format" in group.attrs:
        return _own.interpret(group)
    names = get_names(group, "weight_names")
    if not names:
        raise ValueError(
            f"found group {GROUP} without names in weight_names, wanted an optimizer's state: it "
            "is of no kind known here, or was saved before the first training step"
        )
    text = get_text(parent.id, "training_config")
    described = (json.loads(text) if text else {}).get("optimizer_config") or {}
    class_name, config = identified(described)
    arrays = [Stored(group, name) for name in names]
    if _keras2.last_part(names[0]) != "iteration":
        return _keras2.interpret(arrays, class_name, config)
    source = "keras 2" if names[0].endswith(":0") else "keras 3"
    class_name = class_name or _keras3.class_of(names[0].partition("/")[0])
    half = _halves(parent)
    return _keras3.interpret(arrays, class_name, config, source=source, named=True, half=half)


def _keras_3(root: Any, optimizer: Any) -> Record:
    group, inner = root["optimizer/vars"], "optimizer/inner_optimizer/vars"
    described = optimizer if isinstance(optimizer, Mapping) else {}
    # With mixed_float16 `compile` puts a loss scale around the optimizer that is described.
    if inner in root and described.get("class_name") != _keras3.SCALED:
        group = root[inner]
    found = set(group)
    names = [str(number) for number in range(len(found))]
    if found != set(names):
        raise ValueError(f"{group.name}: found {sorted(found)}, wanted the numbers from 0 up")
    arrays = [Stored(group, name) for name in names]
    if isinstance(optimizer, Mapping):
        return _keras3.interpret(arrays, *identified(optimizer), half=_halves(root))
    class_name = _keras3.class_of(optimizer or get_text(group.id, "name"))
    config: dict[str, Any] | None = {} if optimizer else None  # a bare name: all by default
    return _keras3.interpret(arrays, class_name, config, within=_model_shapes(root))


def _model_shapes(root: Any) -> Shapes | None:
    """Count the shapes of the model's variables."""
    return Counter(item.shape for item in _model_variables(root)) or None


def _halves(root: Any) -> bool:
    """Whether a model has variables of 16 bits; Keras stores bfloat16 as two bytes without kind."""
    return any(item.dtype.itemsize == 2 for item in _model_variables(root))


def _model_variables(root: Any) -> list[Any]:
    import h5py

    found: list[Any] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.partition("/")[0] not in {"optimizer", GROUP}:
            found.append(item)

    root.visititems(visit)
    return found


def _nothing(root: Any) -> str:
    """Say what a file without optimizer state is."""
    if "training_config" in root.attrs:
        return (
            "found a Keras model that was compiled but never trained, so that its optimizer has no "
            "state; wanted one saved after training"
        )
    if "model_config" in root.attrs:
        return (
            "found a Keras model without optimizer: saved with include_optimizer=False, or "
            "compiled with a TFOptimizer, whose state Keras 2 cannot save"
        )
    if "layer_names" in root.attrs or "layers" in root:
        return "found the weights of a Keras model alone, wanted the state of its optimizer too"
    return (
        f"found no optimizer state but {sorted(root)[:5] or 'an empty group'}, wanted a group "
        f"{GROUP}"
    )
