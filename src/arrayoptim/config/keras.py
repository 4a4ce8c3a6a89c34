"""Configurations of Keras optimizers, those of `arrayoptim.keras` too, in this library's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .registry import revivable

PACKAGE = "arrayoptim"
"""What stands before a class's name in the names that Keras knows."""

MARK = {"preset": None}
"""What `arrayoptim.keras` always names and Keras 3 never does: it has options of Keras 3 as well,
and ``from_config`` sees no class name."""

_OPTIONS = frozenset(
    {
        "use_ema",
        "ema_overwrite_frequency",
        "loss_scale_factor",
        "gradient_accumulation_steps",
    }
)

_RENAMED = {
    "learning_rate": "lr",
    "clipnorm": "clipnorm_per_tensor",
    "global_clipnorm": "clipnorm",
}

# Whose formula is another one. Configurations of Keras 3 name no decay, and ours do.
_PRESET = frozenset({"adagrad", "lamb", "nadam", "rmsprop"})

# Of tf.keras from 2.11; they change no number. Its older optimizers name no option of Keras 3.
_SILENT = frozenset({"jit_compile", "is_legacy_optimizer"})

_EPSILON = 1e-7
"""What Keras takes for ``epsilon=None``."""


def identified(found: Mapping[str, Any]) -> tuple[Any, Any]:
    """Give the class name and the configuration of what Keras serialized, ours without package.

    Parameters
    ----------
    found : mapping
        With ``class_name`` and ``config``, and perhaps ``registered_name``.
    """
    class_name, config = found.get("class_name"), found.get("config")
    package, _, name = str(found.get("registered_name") or class_name).rpartition(">")
    return (name, {**MARK, **(config or {})}) if package == PACKAGE else (class_name, config)


def marked(config: Mapping[str, Any] | None) -> bool:
    """Whether a configuration is one of `arrayoptim.keras`, or of this library with a preset."""
    return config is not None and set(MARK) <= set(config) and "global_clipnorm" not in config


def translate(class_name: str, config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Put a configuration of Keras into this library's words; give our own as it is.

    Parameters
    ----------
    class_name : str
        The optimizer's class.
    config : dict
        From ``get_config`` of any version; it stays as it is.

    Returns
    -------
    config : dict
        Hyperparameters by the names of this library.
    lost : list of str
        What Keras 3 was asked for and this library cannot honour.
    """
    config = {name: value for name, value in config.items() if name not in _SILENT}
    if config.get("epsilon", _EPSILON) is None:
        config["epsilon"] = _EPSILON
    keras3 = not marked(config) and bool({"global_clipnorm", *_OPTIONS} & set(config))
    averages = config.pop("use_ema", not keras3)
    known: dict[str, Any] = {}
    lost = []
    if keras3 and class_name.lower() in _PRESET and not {"decay", *MARK} & set(config):
        known["preset"] = "keras3"
    for name, value in config.items():
        if value is None and (keras3 or name in _OPTIONS):
            continue
        if name in {"ema_momentum", "ema_overwrite_frequency"} and not averages:
            continue
        if name in _OPTIONS:
            lost.append(f"{name}={value!r}")
        else:
            known[_RENAMED.get(name, name) if keras3 else name] = _unwrapped(value)
    return known, lost


def _unwrapped(value: Any) -> Any:
    """Give a schedule of this library that Keras has in the form of its own."""
    if isinstance(value, Mapping) and value.get("registered_name") == f"{PACKAGE}>FunctionSchedule":
        inner = (value.get("config") or {}).get("function")
        return inner if revivable(inner) else value
    return value
