"""Configurations of Keras 3 optimizers, in the words of this library."""

from __future__ import annotations

from typing import Any

_ONLY_KERAS_3 = frozenset(
    {
        "global_clipnorm",
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

# Values that ask for nothing, by name; None asks for nothing anywhere.
_IDLE: dict[str, Any] = {"use_ema": False}


def translate(class_name: str, config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Put a Keras 3 configuration into this library's words; give any other back as it is.

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
    if not _ONLY_KERAS_3 & set(config):
        return dict(config), []
    known: dict[str, Any] = {}
    lost = []
    if class_name.lower() in _PRESET and not {"decay", "preset"} & set(config):
        known["preset"] = "keras3"
    for name, value in config.items():
        if value is None or value == _IDLE.get(name, object()):
            continue
        if name in {"use_ema", "ema_momentum", "ema_overwrite_frequency"}:
            if name == "ema_momentum" and config.get("use_ema"):
                known[name] = value
            elif name == "ema_overwrite_frequency" and config.get("use_ema"):
                lost.append(f"{name}={value!r}")
            continue
        if name in _ONLY_KERAS_3 - {"global_clipnorm"} or name in _IDLE:
            lost.append(f"{name}={value!r}")
        else:
            known[_RENAMED.get(name, name)] = value
    return known, lost
