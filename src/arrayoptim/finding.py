"""Lookup of optimizers by name or configuration, and its inverse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from .config.keras import identified
from .config.registry import described, lookup, refuse_nested
from .foreign import Foreign, wrapped
from .optimizer import Optimizer
from .wrappers import Wrapper

CustomObjects = Mapping[str, type[Optimizer]]


def get(identifier: Any, custom_objects: CustomObjects | None = None) -> Optimizer:
    """Return an optimizer given its name, its configuration or itself.

    Parameters
    ----------
    identifier : str, dict, class, Optimizer or native optimizer
        The case-insensitive name of a registered class; an optimizer class, made with its defaults;
        the result of `serialize`; an optimizer or wrapper, which is returned itself; or an
        optimizer of TensorFlow, Keras or optax or a torch optimizer class, which is wrapped in
        `TFOptimizer`, `OptaxOptimizer` or `TorchOptimizer`.
    custom_objects : dict of str to class, optional
        Additional classes by name, which take precedence over the registered ones.

    Raises
    ------
    ValueError
        If it is none of these, or the name is unknown.
    TypeError
        If it is an instance of a torch optimizer, which is bound to its own parameters.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> ao.get("adam")
    Adam(lr=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08, decay=0.0)
    """
    if isinstance(identifier, Optimizer | Wrapper | Foreign):
        return cast(Optimizer, identifier)
    if isinstance(identifier, type) and issubclass(identifier, Optimizer | Wrapper | Foreign):
        return cast(Optimizer, identifier.from_config({}))
    if isinstance(identifier, Mapping):
        return deserialize(identifier, custom_objects)
    if isinstance(identifier, str):
        return deserialize({"class_name": identifier, "config": {}}, custom_objects)
    refuse_nested(identifier, "get")
    native = wrapped(identifier)
    if native is not None:
        return cast(Optimizer, native)
    raise ValueError(
        f"found {identifier!r}, wanted an optimizer's name, its configuration, its class, an "
        "instance, or an optimizer of TensorFlow, Keras, optax or torch (its class)"
    )


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Return the class name and the configuration of an optimizer.

    Raises
    ------
    ValueError
        If it is not an optimizer.
    """
    if not isinstance(optimizer, Optimizer | Wrapper | Foreign):
        raise ValueError(f"found {optimizer!r}, wanted an optimizer")
    return described(optimizer)


def deserialize(
    config: Mapping[str, Any], custom_objects: CustomObjects | None = None
) -> Optimizer:
    """Make an optimizer from a configuration of `serialize`, or of Keras 2 or 3.

    Parameters
    ----------
    config : dict
        ``{"class_name": ..., "config": {...}}``; other keys are ignored, except Keras 3's
        ``registered_name``, which identifies the optimizers of ``arrayoptim.keras``.
    custom_objects : dict of str to class, optional
        Additional classes by name, which take precedence over the registered ones.

    Raises
    ------
    ValueError
        If a key is missing, or the class is unknown.
    TypeError
        If the configuration has a key that the class lacks.
    """
    refuse_nested(config, "a configuration")
    if not {"class_name", "config"} <= set(config):
        raise ValueError(f'found {config!r}, wanted a dict with "class_name" and "config"')
    name, settings = identified(config)
    if not isinstance(name, str):
        raise ValueError(f'"class_name": found {name!r}, wanted a str')
    custom = custom_objects or {}
    made = (custom[name] if name in custom else lookup(name)).from_config(settings)
    if not isinstance(made, Optimizer | Wrapper | Foreign):
        raise ValueError(f"{name!r} makes a {type(made).__qualname__}, wanted an optimizer")
    return cast(Optimizer, made)
