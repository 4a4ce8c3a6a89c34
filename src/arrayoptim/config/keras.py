"""Translates configurations of Keras's optimizers, and of `arrayoptim.keras`, to this library.

The same name can have different meanings. In Keras up to 2.3, as here, ``clipnorm`` bounds the
norm of all gradients together; in ``tf.keras`` and Keras 3, that of each gradient. So a
configuration is read in the dialect of the generation that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .registry import lookup, revivable

PACKAGE = "arrayoptim"
"""The prefix under which Keras registers this library's classes."""

MARK = {"preset": None}
"""A key that `arrayoptim.keras` always writes and Keras 3 never does; needed because its
configurations also have keys of Keras 3, and ``from_config`` sees no class name."""

OURS, KERAS_2, TF_KERAS, TF_KERAS_NEW, KERAS_3 = (
    "arrayoptim",
    "Keras 2",
    "tf.keras up to 2.10",
    "tf.keras from 2.11",
    "Keras 3",
)
"""The dialects; Keras 1 shares that of Keras 2."""

SCALED = frozenset({"LossScaleOptimizer", "LossScaleOptimizerV1", "LossScaleOptimizerV3"})
"""Optimizer wrappers that scale the loss."""

# Packages that have different optimizers with the same names.
_OTHERS = frozenset({"Addons"})

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

# Classes whose formula changed in tf.keras 2.11.
_PRESET = frozenset(
    {"adafactor", "adagrad", "lamb", "muon", "nadam", "rmsprop", "schedulefreeadamw"}
)

# Options of tf.keras from 2.11 that do not affect results.
_SILENT = frozenset({"jit_compile", "is_legacy_optimizer"})

_EPSILON = 1e-7
"""The value that Keras uses for ``epsilon=None``."""

Words = dict[str, Any]


def identified(found: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the class name, without package, and configuration of a serialized Keras object.

    Parameters
    ----------
    found : mapping
        A dict with ``class_name`` and ``config``, and possibly ``registered_name``.

    Raises
    ------
    ValueError
        If the package has different optimizers with the same names.
    """
    class_name, config = found.get("class_name"), found.get("config")
    package, _, name = str(found.get("registered_name") or class_name).rpartition(">")
    if package in _OTHERS:
        raise ValueError(
            f"found {package}>{name}, of TensorFlow Addons, whose {name} has another formula than "
            "Keras's; construct the optimizer that you want"
        )
    if package == PACKAGE:
        return name, {**MARK, **(config or {})}
    # Keras registers its own classes and user subclasses under names such as "Custom>Adam".
    return (class_name.rpartition(">")[2] if isinstance(class_name, str) else class_name), config


def inside(found: Mapping[str, Any]) -> Any:
    """Return the configuration of the optimizer inside a loss-scale wrapper; None without one."""
    name, config = identified(found)
    if name not in SCALED or not isinstance(config, Mapping):
        return None
    return config.get("inner_optimizer") or config.get("optimizer")


def marked(config: Mapping[str, Any] | None) -> bool:
    """Whether a configuration is from `arrayoptim.keras`, or from this library with a preset."""
    return config is not None and set(MARK) <= set(config) and "global_clipnorm" not in config


def dialect_of(config: Mapping[str, Any], version: str | None = None) -> str:
    """Return the dialect of a configuration.

    Parameters
    ----------
    config : mapping
        The hyperparameters.
    version : str, optional
        The version of Keras recorded in a file, such as ``"2.2.4-tf"``.
    """
    names = set(config)
    if marked(config):
        return OURS
    if names & _SILENT:
        return TF_KERAS if config.get("is_legacy_optimizer") else TF_KERAS_NEW
    if "lr" not in names and {"name", "learning_rate", "decay"} <= names and not names & _OPTIONS:
        return TF_KERAS
    if names & {"global_clipnorm", *_OPTIONS}:
        return KERAS_3
    return TF_KERAS if _by_tensorflow(version) else KERAS_2


def _by_tensorflow(version: str | None) -> bool:
    """Whether a version of Keras is TensorFlow's, which clips each gradient separately."""
    numbers = tuple(map(int, re.findall(r"\d+", version or "")[:3]))
    if not numbers or numbers >= (2, 11):
        return False
    return numbers >= (2, 4) or (numbers >= (2, 2, 4) and "-tf" in str(version))


def translate(
    class_name: str, config: Words, dialect: str | None = None
) -> tuple[Words, list[str]]:
    """Translate a configuration of Keras into this library's; return this library's unchanged.

    Parameters
    ----------
    class_name : str
        The optimizer's class.
    config : dict
        From ``get_config`` of any Keras version; not modified.
    dialect : str, optional
        The generation that wrote it, if known.

    Returns
    -------
    config : dict
        Hyperparameters by the names of this library.
    lost : list of str
        Settings that this library cannot honour.
    """
    dialect = dialect or dialect_of(config)
    kept = {name: value for name, value in config.items() if name not in _SILENT}
    if kept.get("epsilon", _EPSILON) is None:
        kept["epsilon"] = _EPSILON
    lost: list[str] = []
    if dialect == TF_KERAS:
        kept = _from_tf_keras(class_name, kept, lost)
    elif dialect in {TF_KERAS_NEW, KERAS_3}:
        kept = _from_keras_3(class_name, kept, lost)
        if dialect == TF_KERAS_NEW:
            kept = _first_bound(kept)
    else:
        kept = _options(kept, True, lost)
    return {name: _unwrapped(value) for name, value in kept.items()}, lost


def _from_tf_keras(class_name: str, config: Words, lost: list[str]) -> Words:
    known = {_RENAMED.get(name, name): value for name, value in config.items()}
    decay, declared = known.get("decay"), _declared(class_name)
    if class_name.lower() == "nadam" and "schedule_decay" not in known and decay is not None:
        # Stored as "decay", which for other classes is the learning rate's decay; Nadam has none.
        known["schedule_decay"] = known.pop("decay")
    elif decay is not None and "decay" not in declared:
        del known["decay"]
        if decay:
            known["lr"] = _decaying(known.get("lr"), decay)
    if class_name.lower() == "rmsprop" and known.get("momentum"):
        known["preset"] = "keras3"  # its kernel with momentum has epsilon inside the root
    norm = next((n for n in ("clipnorm", "clipnorm_per_tensor") if known.get(n)), None)
    if norm and known.get("clipvalue") and "name" in config:
        lost.append(f"clipvalue={known['clipvalue']!r} applied before clipnorm instead of after it")
    return known


def _decaying(rate: Any, decay: float) -> Any:
    """Return a schedule for a learning rate divided by ``1 + decay * iterations``."""
    if isinstance(rate, Mapping | None):
        raise ValueError(f"found decay={decay!r} and the learning rate {rate!r}, wanted a number")
    config = {"initial_learning_rate": rate, "decay_steps": 1, "decay_rate": decay}
    return {"class_name": "InverseTimeDecay", "config": config}


def _from_keras_3(class_name: str, config: Words, lost: list[str]) -> Words:
    averages = config.get("use_ema", False)
    present = {name: v for name, v in config.items() if v is not None or name == "rms_rate"}
    present = _options(present, averages, lost)
    known = {_RENAMED.get(name, name): value for name, value in present.items()}
    if class_name.lower() in _PRESET:
        known.setdefault("preset", "keras3")
    adapt = _ADAPTED.get(class_name.lower())
    return adapt(known) if adapt else known


def _options(config: Words, averages: bool, lost: list[str]) -> Words:
    """Translate the options of Keras's base class; append those we cannot honour to `lost`."""
    known: Words = {}
    averages = bool(config.get("use_ema", averages))
    for name, value in config.items():
        if name == "use_ema" or (value is None and name in _OPTIONS):
            continue
        if name in {"ema_momentum", "ema_overwrite_frequency"} and not averages:
            continue
        if name in _OPTIONS:
            lost.append(f"{name}={value!r}")
        else:
            known[name] = value
    return known


def _first_bound(config: Words) -> Words:
    """Return the options with only the one clipping bound that takes effect in Keras 3."""
    bounds = [n for n in ("clipnorm_per_tensor", "clipnorm", "clipvalue") if config.get(n)]
    return {name: value for name, value in config.items() if name not in bounds[1:]}


def _muon(config: Words) -> Words:
    """Return Muon's configuration; absent decay or scale is None or missing in Keras's."""
    factors = {"muon_a": "ns_a", "muon_b": "ns_b", "muon_c": "ns_c"}
    kept = {factors.get(name, name): value for name, value in config.items()}
    if kept.get("rms_rate", 0.0) is None:
        kept |= {"scaling": "none"}
        del kept["rms_rate"]
    return {"adam_weight_decay": 0.0, "weight_decay": 0.0, **kept}


def _schedule_free(config: Words) -> Words:
    """Return the configuration of ScheduleFreeAdamW, which in Keras weighs all steps equally."""
    kept = {"momentum" if name == "beta_1" else name: value for name, value in config.items()}
    return {"weight_lr_power": 0.0, **kept}


_ADAPTED: dict[str, Callable[[Words], Words]] = {
    "muon": _muon,
    "schedulefreeadamw": _schedule_free,
}
"""Further translation by class, for names of Keras 3 that have another meaning here."""


def _declared(class_name: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = lookup(class_name).hyperparameters
    except (ValueError, AttributeError):
        return {"decay": None}
    return found


def _unwrapped(value: Any) -> Any:
    """Return a schedule in Keras's own form, if both libraries have it."""
    if isinstance(value, Mapping) and value.get("registered_name") == f"{PACKAGE}>FunctionSchedule":
        inner = (value.get("config") or {}).get("function")
        return inner if revivable(inner) else value
    return value
