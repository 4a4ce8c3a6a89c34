"""Configurations of Keras's optimizers and of `arrayoptim.keras`, in this library's words.

The same word has not the same meaning everywhere. What ``clipnorm`` bounds is the norm of all
gradients together up to Keras 2.3, and here; in ``tf.keras`` and in Keras 3 it is that of each one.
So a configuration is read in the dialect of the generation that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .registry import lookup, revivable

PACKAGE = "arrayoptim"
"""The prefix of a class's name among the names that Keras knows."""

MARK = {"preset": None}
"""What `arrayoptim.keras` always names and Keras 3 never does: it has options of Keras 3 as well,
and ``from_config`` sees no class name."""

OURS, KERAS_2, TF_KERAS, TF_KERAS_NEW, KERAS_3 = (
    "arrayoptim",
    "Keras 2",
    "tf.keras up to 2.10",
    "tf.keras from 2.11",
    "Keras 3",
)
"""The dialects; Keras 1 speaks that of Keras 2."""

SCALED = frozenset({"LossScaleOptimizer", "LossScaleOptimizerV1", "LossScaleOptimizerV3"})
"""Wrappers around an optimizer that scale the loss."""

# Packages whose optimizers of the same names differ.
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

# Classes whose formula changed with tf.keras 2.11.
_PRESET = frozenset(
    {"adafactor", "adagrad", "lamb", "muon", "nadam", "rmsprop", "schedulefreeadamw"}
)

# Of tf.keras from 2.11; they change no number.
_SILENT = frozenset({"jit_compile", "is_legacy_optimizer"})

_EPSILON = 1e-7
"""What Keras takes for ``epsilon=None``."""

Words = dict[str, Any]


def identified(found: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the class name and the configuration of what Keras serialized, without package.

    Parameters
    ----------
    found : mapping
        With ``class_name`` and ``config``, and perhaps ``registered_name``.

    Raises
    ------
    ValueError
        If the package has other optimizers under the same names.
    """
    class_name, config = found.get("class_name"), found.get("config")
    package, _, name = str(found.get("registered_name") or class_name).rpartition(">")
    if package in _OTHERS:
        raise ValueError(
            f"found {package}>{name}, of TensorFlow Addons, whose {name} is another formula than "
            "Keras's of that name; construct the optimizer that is wanted"
        )
    if package == PACKAGE:
        return name, {**MARK, **(config or {})}
    # "Custom>Adam" and the like: how Keras registers its own too, or how a subclass is registered.
    return (class_name.rpartition(">")[2] if isinstance(class_name, str) else class_name), config


def inside(found: Mapping[str, Any]) -> Any:
    """Return the configuration of the optimizer inside a loss scale; None without one."""
    name, config = identified(found)
    if name not in SCALED or not isinstance(config, Mapping):
        return None
    return config.get("inner_optimizer") or config.get("optimizer")


def marked(config: Mapping[str, Any] | None) -> bool:
    """Whether a configuration is one of `arrayoptim.keras`, or of this library with a preset."""
    return config is not None and set(MARK) <= set(config) and "global_clipnorm" not in config


def dialect_of(config: Mapping[str, Any], version: str | None = None) -> str:
    """Return the dialect of a configuration.

    Parameters
    ----------
    config : mapping
        The hyperparameters.
    version : str, optional
        The version of Keras that a file names, such as ``"2.2.4-tf"``.
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
    """Whether that version of Keras is TensorFlow's, which clips each gradient by itself."""
    numbers = tuple(map(int, re.findall(r"\d+", version or "")[:3]))
    if not numbers or numbers >= (2, 11):
        return False
    return numbers >= (2, 4) or (numbers >= (2, 2, 4) and "-tf" in str(version))


def translate(
    class_name: str, config: Words, dialect: str | None = None
) -> tuple[Words, list[str]]:
    """Put a configuration of Keras into this library's words; return our own as it is.

    Parameters
    ----------
    class_name : str
        The optimizer's class.
    config : dict
        From ``get_config`` of any version; it stays as it is.
    dialect : str, optional
        Which generation wrote it, where that is known.

    Returns
    -------
    config : dict
        Hyperparameters by the names of this library.
    lost : list of str
        What was asked for and this library cannot honour.
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
        # Under the name of the learning rate's decay, which Nadam lacks.
        known["schedule_decay"] = known.pop("decay")
    elif decay is not None and "decay" not in declared:
        del known["decay"]
        if decay:
            known["lr"] = _decaying(known.get("lr"), decay)
    if class_name.lower() == "rmsprop" and known.get("momentum"):
        known["preset"] = "keras3"  # its kernel with momentum has epsilon inside the root
    norm = next((n for n in ("clipnorm", "clipnorm_per_tensor") if known.get(n)), None)
    if norm and known.get("clipvalue") and "name" in config:
        lost.append(f"clipvalue={known['clipvalue']!r} before the norm is bounded, not after it")
    return known


def _decaying(rate: Any, decay: float) -> Any:
    """Return the schedule of a learning rate that is divided by ``1 + decay * iterations``."""
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
    """Take out the options of Keras's base class, and say which cannot be honoured."""
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
    """Return the options with the one bound that counts there."""
    bounds = [n for n in ("clipnorm_per_tensor", "clipnorm", "clipvalue") if config.get(n)]
    return {name: value for name, value in config.items() if name not in bounds[1:]}


def _muon(config: Words) -> Words:
    """Return Muon's words; where decay or a scale is absent there it is None or not named."""
    factors = {"muon_a": "ns_a", "muon_b": "ns_b", "muon_c": "ns_c"}
    kept = {factors.get(name, name): value for name, value in config.items()}
    if kept.get("rms_rate", 0.0) is None:
        kept |= {"scaling": "none"}
        del kept["rms_rate"]
    return {"adam_weight_decay": 0.0, "weight_decay": 0.0, **kept}


def _schedule_free(config: Words) -> Words:
    """Return the words of ScheduleFreeAdamW, which weighs all steps alike."""
    kept = {"momentum" if name == "beta_1" else name: value for name, value in config.items()}
    return {"weight_lr_power": 0.0, **kept}


_ADAPTED: dict[str, Callable[[Words], Words]] = {
    "muon": _muon,
    "schedulefreeadamw": _schedule_free,
}
"""By class, what remains to be done where a word of Keras 3 means something else here."""


def _declared(class_name: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = lookup(class_name).hyperparameters
    except (ValueError, AttributeError):
        return {"decay": None}
    return found


def _unwrapped(value: Any) -> Any:
    """Return Keras's own form of a schedule that this library has too."""
    if isinstance(value, Mapping) and value.get("registered_name") == f"{PACKAGE}>FunctionSchedule":
        inner = (value.get("config") or {}).get("function")
        return inner if revivable(inner) else value
    return value
