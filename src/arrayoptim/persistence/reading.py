"""Reading: recognition of file formats, and diagnosis of bad files."""

from __future__ import annotations

import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.keras import KERAS_3, SCALED, TF_KERAS_NEW, dialect_of, identified, inside
from ..config.readable import readable
from ..config.registry import refuse_nested
from . import keras2 as _keras2
from . import keras3 as _keras3
from . import natural_bm as _natural_bm
from . import own_format as _own
from .hdf5 import get_names, get_text
from .lazy import late, read_from
from .limits import check_size
from .opening import open_file, open_group, open_root
from .other_formats import refusal
from .own_format import GROUP
from .reader import Dataset, Group
from .record import Record
from .stored import Stored
from .weight_lists import Shapes


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
        The file's contents, including arrays, with slots named as in this library.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, of another or a newer format, or without optimizer state.
    """
    with _opened(Path(path)) as (root, optimizer):
        return replace(_interpret(root, optimizer).loaded(), origin=str(path))


def read_with(path: str | os.PathLike[str], name: str) -> tuple[Record, Record]:
    """Read an optimizer's record and another one saved beside it.

    Parameters
    ----------
    path : str or Path
        The file.
    name : str
        The name of the record beside the optimizer's.

    Returns
    -------
    own, beside : Record
        As from `read`, both of the same file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, of another or a newer format, or without that record.
    """
    with _opened(Path(path)) as (root, optimizer):
        if name not in root:
            found = ", ".join(root) or "nothing"
            raise ValueError(f"found {found}, wanted a group {name} too: no whole checkpoint")
        pair = (_interpret(root, optimizer), _beside(root, name))
        own, beside = (replace(record.loaded(), origin=str(path)) for record in pair)
        return own, beside


def describe(path: str | os.PathLike[str]) -> Record:
    """Read an optimizer's record without arrays; see `describe_with`."""
    return describe_with(path, "")[0]


def describe_with(path: str | os.PathLike[str], name: str) -> tuple[Record, Record | None]:
    """Read records without their arrays.

    Parameters
    ----------
    path : str or Path
        As for `read`.
    name : str
        The name of a record beside the optimizer's.

    Returns
    -------
    own, beside : Record
        As from `read_with`, with objects that have ``shape``, ``dtype`` and ``nbytes`` instead of
        arrays; None if the file has only the optimizer's record.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        As for `read`.
    """
    with _opened(Path(path)) as (root, optimizer):
        beside = _beside(root, name) if name and name in root else None
        return _interpret(root, optimizer), beside


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
    with opened_group(group) as record, read_from(record.origin):
        return record.loaded()


@contextmanager
def opened(path: Path) -> Iterator[Record]:
    """Yield the record in a file, with lazily read arrays.

    Raises
    ------
    FileNotFoundError, ValueError
        As from `read`.
    """
    with ExitStack() as stack:
        with _opened(path, stack) as (root, optimizer):
            record = _interpret(root, optimizer)
        yield late(replace(record, origin=str(path)))


@contextmanager
def opened_group(group: Any) -> Iterator[Record]:
    """Yield the record in an open HDF5 file, as from `opened`."""
    origin = f"{group.file.filename} {group.name}"
    with read_from(origin):
        record = _interpret(open_group(group), None)
    yield late(replace(record, origin=origin))


@contextmanager
def _opened(path: Path, stack: ExitStack | None = None) -> Iterator[tuple[Group, Any]]:
    """Open a file; yield its root, and Keras 3's description of the optimizer if there is one.

    It is closed at the end, or with the stack.
    """
    if fault := refusal(path):
        raise ValueError(f"{readable(str(path), None)}: {fault}")
    with ExitStack() as own:
        held = stack or own
        raw = held.enter_context(open_file(path))
        with read_from(str(path)):
            yield open_root(raw, str(path), held)


def _interpret(root: Group, optimizer: Any) -> Record:
    record = _found(root, optimizer)
    check_size(record, root.file.source.size)
    return record


def _beside(root: Group, name: str) -> Record:
    record = _own.interpret(root[name])
    check_size(record, root.file.source.size)
    return record


def _found(root: Group, optimizer: Any) -> Record:
    if posixpath.basename(root.name) == GROUP:
        return _weights_group(root, root.parent)
    if GROUP in root:
        return _weights_group(root[GROUP], root)
    if "weights" in root.attrs:
        return _natural_bm.interpret(root)
    if "optimizer/vars" in root:
        return _keras_3(root, optimizer)
    if isinstance(optimizer, Mapping):
        raise ValueError(
            f"found no state of the {identified(optimizer)[0]} that it describes: it was saved "
            "before the first step, or is one of tf.keras's optimizers.legacy, of which this "
            "format keeps nothing. Save the model as .h5 after a step"
        )
    raise ValueError(_nothing(root))


def _weights_group(group: Group, parent: Group) -> Record:
    if "format" in group.attrs:
        return _own.interpret(group)
    names = get_names(group, "weight_names")
    if not names:
        raise ValueError(
            f"found group {GROUP} without names in weight_names, wanted an optimizer's state: it "
            "is of no kind known here, or was saved before the first training step"
        )
    text = get_text(parent, "training_config")
    training = json.loads(text) if text else {}
    refuse_nested(training, "training_config")
    described = training.get("optimizer_config") or {}
    class_name, config = identified(described)
    arrays = [Stored(group, name) for name in names]
    if _keras2.last_part(names[0]) != "iteration":
        version = get_text(parent, "keras_version")
        return _keras2.interpret(arrays, class_name, config, version)
    dialect = TF_KERAS_NEW if names[0].endswith(":0") else KERAS_3
    class_name = class_name or _keras3.class_of(names[0].partition("/")[0])
    half = _halves(parent)
    return _keras3.interpret(arrays, class_name, config, dialect=dialect, named=True, half=half)


def _keras_3(root: Group, optimizer: Any) -> Record:
    group, inner = root["optimizer/vars"], "optimizer/inner_optimizer/vars"
    described = optimizer if isinstance(optimizer, Mapping) else {}
    # With mixed_float16, `compile` wraps the described optimizer in a loss scale.
    if inner in root and described.get("class_name") not in SCALED:
        group = root[inner]
    found = set(group)
    names = [str(number) for number in range(len(found))]
    if found != set(names):
        raise ValueError(f"{group.name}: found {sorted(found)}, wanted the numbers from 0 up")
    arrays = [Stored(group, name) for name in names]
    if isinstance(optimizer, Mapping):
        class_name, config = identified(optimizer)
        settings = identified(inside(optimizer) or optimizer)[1]
        dialect = TF_KERAS_NEW if dialect_of(settings or {}) == TF_KERAS_NEW else KERAS_3
        return _keras3.interpret(arrays, class_name, config, dialect=dialect, half=_halves(root))
    class_name = _keras3.class_of(optimizer or get_text(group, "name"))
    default: dict[str, Any] | None = {} if optimizer else None  # a name alone: defaults
    return _keras3.interpret(arrays, class_name, default, within=_model_shapes(root))


def _model_shapes(root: Group) -> Shapes | None:
    """Count the shapes of the model's variables."""
    return Counter(item.shape for item in _model_variables(root)) or None


def _halves(root: Group) -> bool:
    """Whether a model has 16-bit variables; Keras stores bfloat16 as two raw bytes."""
    return any(item.type.size == 2 for item in _model_variables(root))


def _model_variables(root: Group) -> Iterator[Dataset]:
    """Yield the datasets that are not the optimizer's, each once."""
    tops = [name for name in root if name not in {"optimizer", GROUP}]
    waiting, seen = [root.at(name) for name in tops], set()
    while waiting:
        item = waiting.pop()
        if item is None or item.address in seen:
            continue
        seen.add(item.address)
        if isinstance(item, Dataset):
            yield item
        else:
            waiting += [item.at(name) for name in item]


def _nothing(root: Group) -> str:
    """Return a message about a file without optimizer state."""
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
