"""Values as JSON: containers, numbers and text; arrays are stored separately, by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._typing import Array, Tree
from ..arrays.libraries import is_array, type_name

__all__ = ["Packed", "nested", "unpacked"]


@dataclass
class Packed:
    """Values as JSON, with their arrays kept separately.

    Attributes
    ----------
    arrays : dict of str to array
        The arrays by the paths of their values.
    """

    arrays: dict[str, Array] = field(default_factory=dict)

    def put(self, value: Any, path: str) -> Any:
        """Return a value as JSON; its arrays go to `arrays`, under their paths.

        Raises
        ------
        TypeError
            If its type cannot be saved.
        """
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if is_array(value):
            self.arrays[path] = value
            return {"array": path}
        if isinstance(value, Mapping) and all(isinstance(k, str | int) for k in value):
            rows = [[k, self.put(v, f"{path}/{_escaped(k)}")] for k, v in value.items()]
            return {"dict": rows}
        if type(value) in (list, tuple):
            kind = type(value).__name__
            return {kind: [self.put(v, f"{path}/{i}") for i, v in enumerate(value)]}
        raise TypeError(
            f"{path}: found {type_name(type(value))}, wanted None, a "
            "number, text, an array, or a dict, list or tuple of these, such as its state_dict()"
        )

    def outline(self, params: Tree) -> Any:
        """Return the containers of parameters as JSON; None if they are not representable."""
        try:
            return Packed().put(params, "")
        except TypeError:
            return None


def _escaped(key: Any) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def unpacked(packed: Any, arrays: Mapping[str, Any]) -> Any:
    """Return a value that `Packed.put` packed.

    Parameters
    ----------
    packed : JSON value
        The result of `Packed.put`.
    arrays : mapping of str to array
        The arrays by their paths, or replacements for them.
    """
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {k: unpacked(v, arrays) for k, v in content}
    rows = [unpacked(v, arrays) for v in content]
    return tuple(rows) if kind == "tuple" else rows


def nested(named: Mapping[str, Any]) -> Any:
    """Return parameters as nested dicts, inferred from their paths.

    Parameters
    ----------
    named : mapping of str to array
        The parameters by their paths.
    """
    tree: dict[str, Any] = {}
    for path, x in named.items():
        *outer, last = (part.replace("~1", "/").replace("~0", "~") for part in path.split("/"))
        place = tree
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = x
    return tree
