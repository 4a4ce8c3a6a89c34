"""Hyperparameters as strict JSON.

JSON has no infinities and no NaN: they are written as ``{"nonfinite": "inf"}`` and read back as
floats. A registered schedule is written as its class name and configuration. Anything else that is
not serializable, such as a function, is written as ``{"unserializable": "module.qualname"}`` and is
returned like that: loading a file never runs code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config.registry import refuse_nested

NONFINITE = "nonfinite"
UNSERIALIZABLE = "unserializable"


def dumps(config: Mapping[str, Any]) -> str:
    """Return the JSON text of a config; pure ASCII.

    Parameters
    ----------
    config : mapping
        Hyperparameters by name.
    """
    plain = _plain(config)
    refuse_nested(plain, "config")
    return json.dumps(plain, allow_nan=False)


def loads(text: str) -> dict[str, Any]:
    """Return the config that `dumps` wrote.

    Parameters
    ----------
    text : str
        JSON.

    Raises
    ------
    ValueError
        If it is not a JSON object.
    """
    try:
        config = json.loads(text, object_hook=_revive)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"found a config that is no JSON ({error}), wanted an object") from error
    if not isinstance(config, dict):
        raise ValueError(f"found a config of type {type(config).__name__}, wanted a JSON object")
    refuse_nested(config, "config")
    return config


def unserializable(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the entries that could not be serialized, with the names of their values.

    Parameters
    ----------
    config : mapping
        A config from `loads`.
    """
    return {
        name: str(value[UNSERIALIZABLE])
        for name, value in config.items()
        if isinstance(value, dict) and set(value) == {UNSERIALIZABLE}
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {NONFINITE: str(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    named = value if hasattr(value, "__qualname__") else type(value)
    return {UNSERIALIZABLE: f"{named.__module__}.{named.__qualname__}"}


def _revive(found: dict[str, Any]) -> Any:
    if set(found) == {NONFINITE} and found[NONFINITE] in ("inf", "-inf", "nan"):
        return float(found[NONFINITE])
    return found
