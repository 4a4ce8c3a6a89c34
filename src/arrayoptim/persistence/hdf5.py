"""Datasets and attributes: written through h5py's low-level interface, read without it.

It is three times as fast as the high-level one, which matters with ten thousand parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .names import decode, encode
from .reader import Node

LIMIT = 64512  # bytes of one attribute: 64 KiB less the room for headers that Keras leaves
REAL = ("float16", "float32", "float64", "complex64", "complex128")
WHOLE = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
NATIVE = frozenset((*REAL, *WHOLE))


def put_array(group: Any, link: str, array: np.ndarray, texts: Mapping[str, str]) -> None:
    """Write one dataset with its attributes.

    Parameters
    ----------
    group : h5py.Group
        The parent group.
    link : str
        The dataset's name; missing groups in it are created.
    array : numpy.ndarray
        The content. bfloat16 is stored as uint16 with the attribute ``dtype``.
    texts : mapping
        Attributes.

    Raises
    ------
    ValueError
        If HDF5 has no equivalent of the dtype.
    """
    from h5py import h5d, h5p, h5s, h5t

    array = np.asarray(array, order="C")
    if array.dtype.name == "bfloat16":
        array, texts = array.view(np.uint16), {**texts, "dtype": "bfloat16"}
    if array.dtype.name not in NATIVE:
        raise ValueError(
            f"{link}: found data type {array.dtype}, wanted one of {', '.join(sorted(NATIVE))} "
            "or bfloat16"
        )
    ways = h5p.create(h5p.LINK_CREATE)
    ways.set_create_intermediate_group(True)
    ways.set_char_encoding(h5t.CSET_UTF8)
    space = h5s.create_simple(array.shape) if array.shape else h5s.create(h5s.SCALAR)
    kind = h5t.py_create(array.dtype, logical=True)
    dataset = h5d.create(group.id, link.encode(), kind, space, None, ways)
    if array.size:
        dataset.write(h5s.ALL, h5s.ALL, array)
    for name, text in texts.items():
        put_text(dataset, name, text)


def put_text(owner: Any, name: str, text: str) -> None:
    """Write an attribute as a fixed-length byte string.

    Parameters
    ----------
    owner : h5py.h5d.DatasetID or h5py.h5g.GroupID
        The low-level object.
    name : str
        The attribute.
    text : str
        Its value.
    """
    from h5py import h5a, h5s, h5t

    raw = np.array(encode(text))
    if raw.nbytes > LIMIT:
        raise ValueError(f"{name}: found {raw.nbytes} bytes of text, wanted at most {LIMIT}")
    if raw.nbytes:
        attribute = h5a.create(
            owner, name.encode(), h5t.py_create(raw.dtype), h5s.create(h5s.SCALAR)
        )
        attribute.write(raw)
    else:
        # HDF5 has no strings of length 0.
        kind = h5t.py_create(np.dtype("S1"))
        h5a.create(owner, name.encode(), kind, h5s.create(h5s.NULL))


def get_text(owner: Node, name: str) -> str | None:
    """Read an attribute written by `put_text`, or a variable-length string.

    Parameters
    ----------
    owner : Group or Dataset
        The object with the attribute.
    name : str
        The attribute.

    Returns
    -------
    str or None
        None if there is no such attribute.
    """
    value = owner.attrs.get(name)
    if isinstance(value, bytes):
        return decode(value)
    if not isinstance(value, str | None):
        raise ValueError(f"attribute {name}: found {value!r}, wanted text")
    return value


def put_long_text(group: Any, name: str, text: str) -> None:
    """Write ASCII text as one attribute, or as numbered ones if it does not fit.

    Parameters
    ----------
    group : h5py.Group
        The owner.
    name : str
        The attribute; ``name0``, ``name1`` and so on above 64 KiB.
    text : str
        Its value.
    """
    if len(text) <= LIMIT:
        put_text(group.id, name, text)
        return
    for number, start in enumerate(range(0, len(text), LIMIT)):
        put_text(group.id, f"{name}{number}", text[start : start + LIMIT])


def get_long_text(group: Node, name: str) -> str | None:
    """Read what `put_long_text` wrote.

    Parameters
    ----------
    group : Group
        The owner.
    name : str
        The attribute.

    Returns
    -------
    str or None
        None if there is no such attribute.
    """
    text = get_text(group, name)
    if text is not None:
        return text
    parts: list[str] = []
    while (part := get_text(group, f"{name}{len(parts)}")) is not None:
        parts.append(part)
    return "".join(parts) if parts else None


def put_names(group: Any, name: str, names: Sequence[str]) -> None:
    """Write a list of names as one attribute, or as numbered ones if it does not fit.

    Parameters
    ----------
    group : h5py.Group
        The owner.
    name : str
        The attribute; ``name0``, ``name1`` and so on above 64 KiB.
    names : sequence of str
        The list.
    """
    raw = np.array([entry.encode() for entry in names], dtype=np.bytes_ if names else "S1")
    if raw.dtype.itemsize > LIMIT:
        raise ValueError(f"{name}: found a name of {raw.dtype.itemsize} bytes, wanted {LIMIT}")
    step = LIMIT // raw.dtype.itemsize
    if len(raw) <= step:
        group.attrs[name] = raw
        return
    for number, start in enumerate(range(0, len(raw), step)):
        group.attrs[f"{name}{number}"] = raw[start : start + step]


def get_names(group: Node, name: str) -> list[str] | None:
    """Read a list of names, whole or in numbered parts.

    Parameters
    ----------
    group : Group
        The owner.
    name : str
        The attribute.

    Returns
    -------
    list of str or None
        None if there is neither ``name`` nor ``name0``.
    """
    if name in group.attrs:
        keys = [name]
    else:
        keys = []
        while f"{name}{len(keys)}" in group.attrs:
            keys.append(f"{name}{len(keys)}")
    found: list[str] = []
    for key in keys:
        part = group.attrs[key]
        if np.ndim(part) != 1:
            raise ValueError(f"attribute {key}: found {part!r}, wanted a list of names")
        for entry in part:
            text = entry.decode() if isinstance(entry, bytes) else entry
            if not isinstance(text, str):
                raise ValueError(f"attribute {key}: found {entry!r}, wanted a name")
            found.append(text)
    return found if keys else None
